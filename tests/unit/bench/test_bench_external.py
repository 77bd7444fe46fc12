"""What the benchmarks of clients outside are made of, as far as it needs no kernel."""

from __future__ import annotations

import pytest
from bench import external, objects, verdict_maps
from bench.external import FAMILIES, MODES


def test_node_ports_are_masqueraded_and_led_to_their_service() -> None:
    rules = verdict_maps.ruleset("ipv4", [[("10.244.1.2", 5201)], [("10.244.2.2", 5201)]], "172.30.1.11")
    assert "add element ip kube-proxy nodeport-ips { 172.30.1.11 }" in rules
    assert f"tcp . {objects.node_port(1)} : goto external-1" in rules
    assert "chain external-1 {\njump mark-for-masquerade\ngoto service-1; }" in rules


def test_without_a_node_address_there_are_no_node_ports() -> None:
    assert "external-" not in verdict_maps.ruleset("ipv6", [[("fd00:10:244:1::2", 5201)]])


def test_services_with_node_ports_are_told_apart_by_them() -> None:
    made = [objects.load_balanced(number, ["ipv4"], ["198.51.100.80"][:number]) for number in (0, 1)]
    assert [each["spec"]["ports"][0]["nodePort"] for each in made] == [20_000, 20_001]
    assert [each["spec"]["type"] for each in made] == ["NodePort", "LoadBalancer"]


def test_every_figure_compares_two_measured_variants() -> None:
    names = {name for c in external._comparisons() for name in (c.ours, c.baseline)}
    samples = {(name, mode, family): [2.0, 3.0] for name in names for mode in MODES for family in FAMILIES}
    compared = [f for f in external.figures(samples) if f.target]
    assert len(compared) == len(FAMILIES) * len(list(external._comparisons()))
    assert {f.values for f in compared} == {(1.0, 1.0)}
    first = next(iter(external._comparisons()))
    del samples[first.ours, first.mode, FAMILIES[0]]
    with pytest.raises(KeyError):
        external.figures(samples)
