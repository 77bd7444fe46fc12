"""Settings: the file, flags over it, and each field that cannot be right by its name."""

from __future__ import annotations

import re
import socket
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from tulle.agent.settings import Settings, load
from tulle.cli.settings import FLAGS, with_settings
from tulle.errors import ConfigError
from tulle.pod_to_pod.topology import Routing

DOCUMENTED = Path(__file__).parents[3] / "docs" / "agent.yaml"


def write(folder: Path, text: str) -> Path:
    path = folder / "agent.yaml"
    path.write_text(text)
    return path


def test_nothing_set() -> None:
    assert load(None, {}) == Settings(node_name=socket.gethostname().lower())


def test_the_documented_file_has_every_field_with_its_default() -> None:
    assert load(DOCUMENTED, {}) == load(None, {})
    fields = {line.split(":")[0] for line in DOCUMENTED.read_text().splitlines() if line[:1].isalpha()}
    assert fields == set(Settings.__struct_encode_fields__)


def test_every_field_is_a_flag_that_names_its_default() -> None:
    assert {flag.key for flag in FLAGS} == set(Settings.__struct_encode_fields__)
    defaults = msgspec.to_builtins(Settings())
    for flag in FLAGS:
        said = re.search(r"\(default: (\S+)\)", flag.help)
        default = defaults[flag.key]
        shown = ", ".join(default) if isinstance(default, tuple) else str(default)
        assert said is None or said[1] == shown, flag


def test_a_command_is_given_what_its_flags_say(tmp_path: Path) -> None:
    given: list[tuple[Settings, bool]] = []
    app = typer.Typer()

    @app.command()
    @with_settings("uplinks", "masquerade", "mtu")
    def show(settings: Settings, *, loud: bool = False) -> None:
        given.append((settings, loud))

    file = write(tmp_path, "mtu: 1400\nrouting: native\n")
    line = [f"--config={file}", "--uplink=a", "--uplink=b", "--no-masquerade", "--loud"]
    done = CliRunner().invoke(app, line, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert given == [(load(file, {"uplinks": ["a", "b"], "masquerade": False}), True)]
    assert CliRunner().invoke(app, ["--overlay-vni=1"]).exit_code == 2


@pytest.mark.parametrize(
    ("health", "metrics", "places"),
    [
        ("", "none", (None, None)),
        ("[::]:1", "127.0.0.1:65535", ("[::]:1", "127.0.0.1:65535")),
    ],
)
def test_where_it_tells_of_itself(
    tmp_path: Path, health: str, metrics: str, places: tuple[str | None, str | None]
) -> None:
    text = f'healthzBindAddress: "{health}"\nmetricsBindAddress: "{metrics}"\n'
    settings = load(write(tmp_path, text), {})
    assert tuple(place and str(place) for place in (settings.healthz, settings.metrics)) == places


@pytest.mark.parametrize("text", ["", "# mtu: 1400\n", "{}"])
def test_a_file_that_sets_nothing(tmp_path: Path, text: str) -> None:
    assert load(write(tmp_path, text), {}) == load(None, {})


def test_flags_over_the_file(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "nodeName: n1\nrouting: native\nmtu: 1400\nmasquerade: true\nuplinks: [eth0]\n"
        "masqueradeExcept: [10.0.0.0/8, fd00::/8]\n",
    )
    flags: dict[str, Any] = {"routing": "overlay", "masquerade": False, "mtu": 0, "runDir": "/run/x"}
    not_given: dict[str, Any] = {"nodeName": "", "uplinks": [], "stateDir": None}
    settings = load(file, flags | not_given)
    assert (settings.node_name, settings.routing, settings.mtu) == ("n1", Routing.OVERLAY, 0)
    assert (settings.masquerade, settings.uplinks) == (False, ("eth0",))
    assert settings.kept == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert (settings.socket, settings.queue) == (Path("/run/x/cni.sock"), Path("/run/x/cni.sock.del"))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("mtu: 1279", "mtu: 1279"),
        ("mtu: 65536", "mtu: 65536"),
        ("mtu: large", r"\$\.mtu"),
        ("overlayVni: 0", "overlayVni: 0"),
        ("overlayVni: 16777216", "overlayVni: 16777216"),
        ("overlayPort: 0", "overlayPort: 0"),
        ("overlayPort: 65536", "overlayPort: 65536"),
        ("routing: best", r"\$\.routing"),
        ("masquerade: [1]", r"\$\.masquerade"),
        ("masqueradeExcept: [10.0.0.1/8]", "masqueradeExcept: 10.0.0.1/8 has host bits set"),
        ("masqueradeExcept: [everything]", "masqueradeExcept: 'everything'"),
        ("uplinks: eth0", r"\$\.uplinks"),
        ("nodePortAddresses: [primary, 127.0.0.0/8]", "nodePortAddresses: 127.0.0.0/8 is loopback"),
        ("nodePortAddresses: ['::1/128']", "nodePortAddresses: ::1/128 is loopback"),
        ("nodePortAddresses: [secondary]", "nodePortAddresses: 'secondary'.*; primary or a CIDR is needed"),
        ("externalTraffic: nat", r"\$\.externalTraffic"),
        ("flowTableSize: 2048", "flowTableSize: 2048 is not a power of two from 4096 on"),
        ("flowTableSize: 100000", "flowTableSize: 100000 is not a power of two"),
        ("healthzBindAddress: 10256", r"\$\.healthzBindAddress"),
        ("healthzBindAddress: ':10256'", "healthzBindAddress: '' does not appear to be an"),
        ("healthzBindAddress: '0.0.0.0:70000'", "healthzBindAddress: 70000 is not a port"),
        ("metricsBindAddress: localhost:10249", "metricsBindAddress: 'localhost' does not appear to be an"),
        ("metricsBindAddress: '::1'", "metricsBindAddress: '::1' is not ADDRESS:PORT"),
        ("logLevel: loud", "logLevel: loud"),
        ("nodename: n1", "nodename"),
        ("- nodeName", "Expected `object"),
        ("a: [", "agent.yaml"),
        ("\0", "agent.yaml"),
    ],
)
def test_a_field_that_cannot_be_right_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load(write(tmp_path, text), {})


@pytest.mark.parametrize(
    ("flags", "named"), [({"routing": "best"}, r"\$\.routing"), ({"mtu": 1}, "mtu: 1 "), ({"x": 1}, "x")]
)
def test_a_flag_that_cannot_be_right_is_named(flags: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load(None, flags)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"settings file .*none.yaml: No such file"):
        load(tmp_path / "none.yaml", {})
