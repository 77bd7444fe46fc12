"""Kubeconfigs: what is read, and how each mistake is named."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from tulle.errors import ConfigError
from tulle.kube import config as kube_config
from tulle.kube.config import in_cluster, load_kubeconfig, resolve

PEM = base64.b64encode(b"-----BEGIN CERTIFICATE-----\n").decode()


def kubeconfig(
    cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **top: Any
) -> dict[str, Any]:
    return {
        "current-context": "lab",
        "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443"} | (cluster or {})}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "lab", "context": {"cluster": "c", "user": "u", "namespace": "web"}}],
    } | top


def write(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def test_inline_and_file_material(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    (tmp_path / "token").write_text("secret")
    user = {"client-certificate-data": PEM, "client-key-data": PEM, "tokenFile": "token"}
    cluster = {"certificate-authority": "ca.pem", "tls-server-name": "kubernetes", "server": "https://h/"}
    loaded = load_kubeconfig(write(tmp_path / "config", kubeconfig(cluster, user)))
    assert (loaded.server, loaded.namespace, loaded.tls_server_name) == ("https://h", "web", "kubernetes")
    assert loaded.ca and loaded.ca.path == tmp_path / "ca.pem"
    assert loaded.identity and loaded.identity.key.read() == b"-----BEGIN CERTIFICATE-----\n"
    assert loaded.token_file == tmp_path / "token"


def test_secrets_are_not_printed(tmp_path: Path) -> None:
    user = {"token": "hush", "client-certificate-data": PEM, "client-key-data": PEM}
    text = repr(load_kubeconfig(write(tmp_path / "config", kubeconfig(user=user))))
    assert "hush" not in text
    assert "BEGIN" not in text


EXEC = {"apiVersion": "client.authentication.k8s.io/v1", "command": "issue", "interactiveMode": "Never"}
BAD: list[tuple[str, dict[str, Any], str]] = [
    (
        "no current context",
        kubeconfig(**{"current-context": ""}),
        "current-context: not set; give one of lab",
    ),
    ("unknown context", kubeconfig(**{"current-context": "x"}), "there is no context 'x', only lab"),
    ("no cluster", kubeconfig(clusters=[]), "contexts[lab].context.cluster: no cluster 'c'"),
    ("no user", kubeconfig(users=None), "contexts[lab].context.user: there is no user 'u'"),
    ("server is no URL", kubeconfig({"server": "h:1"}), "clusters[c].cluster.server: 'h:1' is not a URL"),
    ("server is a number", kubeconfig({"server": 1}), "clusters[0].cluster.server: Expected `str`"),
    ("CA not base64", kubeconfig({"certificate-authority-data": "%"}), "authority-data: not base64"),
    ("CA not PEM", kubeconfig({"certificate-authority-data": "aGk="}), "authority-data: holds no PEM"),
    ("CA file missing", kubeconfig({"certificate-authority": "nope"}), "nope cannot be read"),
    ("key missing", kubeconfig(user={"client-certificate-data": PEM}), "users[u].user.client-key: missing"),
    ("token file missing", kubeconfig(user={"tokenFile": "nope"}), "users[u].user.tokenFile:"),
    ("proxy", kubeconfig({"proxy-url": "socks5://h"}), "cluster.proxy-url: 'socks5://h' is not supported"),
    ("provider", kubeconfig(user={"auth-provider": {"name": "gcp"}}), "auth-provider: no longer part"),
    ("exec version", kubeconfig(user={"exec": EXEC | {"apiVersion": "v9"}}), "exec.apiVersion: 'v9'"),
    ("exec mode", kubeconfig(user={"exec": EXEC | {"interactiveMode": "x"}}), "exec.interactiveMode: 'x'"),
    ("exec command", kubeconfig(user={"exec": EXEC | {"command": ""}}), "exec.command: empty"),
    ("exec incomplete", kubeconfig(user={"exec": {"command": "x"}}), "users[0].user.exec: Object missing"),
]


@pytest.mark.parametrize(("content", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_each_mistake_names_file_and_field(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "config", content)
    with pytest.raises(ConfigError) as raised:
        load_kubeconfig(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert message in str(raised.value)


@pytest.mark.parametrize("text", ["{", "- a", "\x00", "just text"])
def test_what_is_no_kubeconfig(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ConfigError, match=str(path)):
        load_kubeconfig(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nope: cannot be read"):
        load_kubeconfig(tmp_path / "nope")


def test_several_files_are_merged_and_the_first_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write(tmp_path / "a", {"clusters": kubeconfig({"server": "https://first"})["clusters"]})
    second = write(tmp_path / "b", kubeconfig({"server": "https://second"}))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/absent:{first}:{second}")
    assert resolve(None).server == "https://first"


def test_the_order_of_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text("t")
    (account / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    (account / "namespace").write_text("kube-system")
    home = tmp_path / "home"
    (home / ".kube").mkdir(parents=True)
    write(home / ".kube" / "config", kubeconfig({"server": "https://home"}))
    monkeypatch.setattr(kube_config, "SERVICE_ACCOUNT", account)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert resolve(None).server == "https://home"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    assert (resolve(None).server, resolve(None).namespace) == ("https://[fd00::1]:443", "kube-system")
    named = write(tmp_path / "named", kubeconfig({"server": "https://named"}))
    assert resolve(named).server == "https://named"
    monkeypatch.setenv("KUBECONFIG", str(named))
    assert resolve(None).server == "https://named"


def test_outside_a_pod_there_is_no_cluster_to_be_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match="KUBERNETES_SERVICE_HOST"):
        in_cluster()
