"""Records on disk: whole or absent, whenever the agent is killed; gone with the boot they are of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tulle.model.host_ports import HostPort
from tulle.pod_to_pod.store import Attachment, AttachmentStore, link_name

BAD_PORT = (
    b'{"container_id":"c2","ifname":"eth0","netns":"x","link":"l","mac":"","ips":[],'
    b'"host_ports":[{"host_port":1,"container_port":1,"host_ip":"x"}]}'
)


def attachment(container_id: str = "c1", **fields: Any) -> Attachment:
    link = link_name(container_id, "eth0")
    ips = ("10.244.1.2", "fd00:244:1::2")
    return Attachment(container_id, "eth0", "/run/netns/x", link, "0a:00:00:00:00:01", ips, **fields)


def files(state: Path) -> list[str]:
    return sorted(path.name for path in state.glob("boots/*/*"))


def test_records_outlive_the_agent(tmp_path: Path) -> None:
    ports = (HostPort(8080, 80, "UDP", "127.0.0.1", "spec.containers[0].ports[0]"), HostPort(53, 53))
    one = attachment("c1", namespace="default", pod="web", host_ports=ports, mapped=True)
    two = attachment("c2", deleted=True)
    store = AttachmentStore(tmp_path)
    store.add(one)
    store.add(two)
    again = AttachmentStore(tmp_path)
    assert set(again) == {one, two}
    assert len(again) == 2
    assert again.get("c1", "eth0") == one
    assert again.get("c1", "eth1") is None
    assert again.by_link(two.link) == two


def test_records_of_an_agent_that_knew_no_host_ports_are_read(tmp_path: Path) -> None:
    store, old = AttachmentStore(tmp_path), attachment(pod="web")
    store.add(old)
    [path] = tmp_path.glob("boots/*/*.json")
    fields = json.loads(path.read_bytes())
    path.write_text(json.dumps({k: v for k, v in fields.items() if k not in ("host_ports", "mapped")}))
    assert list(AttachmentStore(tmp_path)) == [old]


def test_removed_is_removed(tmp_path: Path) -> None:
    store = AttachmentStore(tmp_path)
    store.add(attachment())
    for _ in range(2):
        store.remove(attachment())
    assert list(store) == list(AttachmentStore(tmp_path)) == []
    assert files(tmp_path) == []


def test_a_record_is_replaced(tmp_path: Path) -> None:
    store = AttachmentStore(tmp_path)
    store.add(attachment())
    store.add(attachment(deleted=True))
    assert list(AttachmentStore(tmp_path)) == [attachment(deleted=True)]


class Killed(BaseException):
    """The agent dies here."""


@pytest.mark.parametrize("step", ["write_bytes", "replace", "unlink"])
@pytest.mark.parametrize("when", ["before", "halfway", "after"])
def test_killed_between_any_two_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, when: str
) -> None:
    """The old record or the new one is there, never a part; and the next agent can write it again."""
    store, old, new = AttachmentStore(tmp_path), attachment(), attachment(deleted=True)
    store.add(old)
    really = getattr(Path, step)

    def die(path: Path, *arguments: Any, **keywords: Any) -> None:
        if when == "halfway" and step == "write_bytes":
            really(path, arguments[0][: len(arguments[0]) // 2])
        elif when == "after":
            really(path, *arguments, **keywords)
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Path, step, die)
        store.remove(old) if step == "unlink" else store.add(new)
    after = AttachmentStore(tmp_path)
    done = when == "after" and step != "write_bytes"
    assert list(after) == (([] if step == "unlink" else [new]) if done else [old])
    after.add(new)
    assert list(AttachmentStore(tmp_path)) == [new]
    assert files(tmp_path) == [f"{new.link}.json"]


def test_records_of_another_boot_vanish(tmp_path: Path) -> None:
    store = AttachmentStore(tmp_path)
    store.add(attachment())
    [boot] = (tmp_path / "boots").iterdir()
    boot.rename(boot.with_name("e3b0c442-98fc-4c14-9afb-f4c8996fb924"))
    assert list(AttachmentStore(tmp_path)) == []
    assert files(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"container_id": 7}', BAD_PORT, b"\xff"])
def test_an_unreadable_record_is_set_aside(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store, broken = AttachmentStore(tmp_path), attachment("c2")
    store.add(attachment("c1"))
    store.add(broken)
    [path] = tmp_path.glob(f"boots/*/{broken.link}.json")
    path.write_bytes(content)
    assert list(AttachmentStore(tmp_path)) == [attachment("c1")]
    assert f"{broken.link}.unreadable" in files(tmp_path)
    assert str(path) in caplog.text


def test_only_the_owner_may_look(tmp_path: Path) -> None:
    AttachmentStore(tmp_path)
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "boots").iterdir()] == [0o700]


def test_link_names_fit_the_kernel_and_differ() -> None:
    names = {link_name(f"c{i}", ifname) for i in range(100) for ifname in ("eth0", "eth1")}
    assert len(names) == 200
    assert all(len(name) == 14 for name in names)


def test_owner() -> None:
    assert attachment(namespace="default", pod="web").owner == "default/web"
    assert attachment().owner == "c1"
