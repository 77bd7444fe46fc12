"""Where an address is translated (N-08). That nft takes it: ``tests/netns/test_rtnetlink.py``."""

from __future__ import annotations

from ipaddress import ip_network

from tulle.pod_to_pod.masquerade import removal, ruleset

EXPECTED = """\
table inet tulle
delete table inet tulle
table inet tulle {
  set kept4 {
    type ipv4_addr; flags interval
    elements = { 10.244.0.0/23, 192.168.0.1/32, 224.0.0.0/4 }
  }
  set kept6 {
    type ipv6_addr; flags interval
    elements = { fd00:244::/64, ff00::/8 }
  }
  chain out {
    meta l4proto { tcp, udp } counter masquerade to :32768-60999 fully-random
    counter masquerade fully-random
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    meta mark 0x74756c6d goto out
    ip saddr 10.244.1.0/24 ip daddr != @kept4 goto out
    ip6 saddr fd00:244:1::/64 ip6 daddr != @kept6 goto out
  }
}
"""


def test_ruleset() -> None:
    pods = [ip_network("10.244.1.0/24"), ip_network("fd00:244:1::/64")]
    kept = ["10.244.0.0/24", "10.244.1.0/24", "192.168.0.1/32", "fd00:244::/64"]
    assert ruleset(pods, map(ip_network, kept), 0x74756C6D) == EXPECTED


def test_one_family_has_no_rule_for_the_other() -> None:
    text = ruleset([ip_network("fd00:244:1::/64")], [ip_network("10.0.0.0/8")], 1)
    assert "kept4" not in text
    assert "elements = { ff00::/8 }" in text


def test_exceptions_that_hold_others_stand_alone() -> None:
    """An interval set with overlaps would be refused."""
    kept = map(ip_network, ("0.0.0.0/0", "10.0.0.0/8", "239.0.0.0/8"))
    assert "elements = { 0.0.0.0/0 }" in ruleset([ip_network("10.244.1.0/24")], kept, 1)


def test_removal() -> None:
    assert removal() == "table inet tulle\ndelete table inet tulle\n"
