"""Where the API server is and how to prove who we are: a kubeconfig, or the Pod that we run in."""

from __future__ import annotations

import base64
import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tulle.errors import ConfigError
from tulle.kube.credentials import (
    EXEC_API_VERSIONS,
    INTERACTIVE_MODES,
    Credential,
    CredentialSource,
    ExecConfig,
    ExecPlugin,
    Fixed,
    TokenFile,
)
from tulle.kube.kubeconfig import Cluster, Entry, Kubeconfig, User, invalid
from tulle.kube.tls import Identity, Pem

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class ClusterConfig:
    """One cluster and one user of it. Of ``token``, ``token_file`` and ``exec_plugin`` at most one counts."""

    server: str
    namespace: str = "default"
    ca: Pem | None = None
    identity: Identity | None = None
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    exec_plugin: ExecConfig | None = None
    insecure_skip_tls_verify: bool = False
    tls_server_name: str | None = None
    proxy_url: str | None = None

    def credentials(self) -> CredentialSource:
        """Exec plugin, else token file, else what is written in the configuration itself."""
        if self.exec_plugin:
            return ExecPlugin(self.exec_plugin, self._cluster_info())
        if self.token_file:
            return TokenFile(self.token_file)
        return Fixed(Credential(self.token, self.identity))

    def _cluster_info(self) -> dict[str, object]:
        info: dict[str, object] = {"server": self.server}
        if self.tls_server_name:
            info["tls-server-name"] = self.tls_server_name
        if self.insecure_skip_tls_verify:
            info["insecure-skip-tls-verify"] = True
        if self.proxy_url:
            info["proxy-url"] = self.proxy_url
        if self.ca:
            info["certificate-authority-data"] = base64.b64encode(self.ca.read()).decode()
        return info


def resolve(path: Path | None, context: str | None = None) -> ClusterConfig:
    """``path``, else the files in ``$KUBECONFIG``, else the Pod that we run in, else ``~/.kube/config``."""
    if path is None and not os.environ.get("KUBECONFIG") and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return in_cluster()
    return load_kubeconfig(path, context)


def in_cluster() -> ClusterConfig:
    """The API server as a Pod's environment names it, with the Pod's own service account."""
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{name}", "") for name in ("HOST", "PORT"))
    if not host or not port:
        raise ConfigError(
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not both set; give a kubeconfig "
            "when not running in a Pod"
        )
    token_file = SERVICE_ACCOUNT / "token"
    if not token_file.exists():
        raise ConfigError(
            f"{token_file} does not exist; the Pod needs automountServiceAccountToken: true, or a kubeconfig"
        )
    ca = Pem("in-cluster CA", path=SERVICE_ACCOUNT / "ca.crt")
    ca.read()
    namespace = SERVICE_ACCOUNT / "namespace"
    return ClusterConfig(
        server=f"https://{_bracketed(host)}:{port}",
        namespace=namespace.read_text().strip() if namespace.exists() else "default",
        ca=ca,
        token_file=token_file,
    )


def load_kubeconfig(path: Path | None, context: str | None = None) -> ClusterConfig:
    """The named context, else the current one.

    Without ``path`` the files in ``$KUBECONFIG`` are merged (the first to name something wins), else
    ``~/.kube/config`` is read. Raises :class:`ConfigError` naming the file and the field.
    """
    merged = Kubeconfig.read([path] if path else _default_files(), explicit=path is not None)
    chosen = merged.context(context)
    cluster = merged.cluster(chosen)
    user = merged.user(chosen)
    return ClusterConfig(
        server=_server(cluster),
        namespace=chosen.body.namespace or "default",
        ca=_pem(cluster, "certificate-authority"),
        identity=_identity(user),
        token=user.body.token if user else None,
        token_file=_token_file(user),
        exec_plugin=_exec_plugin(user),
        insecure_skip_tls_verify=cluster.body.insecure_skip_tls_verify,
        tls_server_name=cluster.body.tls_server_name,
        proxy_url=_proxy_url(cluster),
    )


def _default_files() -> list[Path]:
    listed = [Path(name) for name in os.environ.get("KUBECONFIG", "").split(os.pathsep) if name]
    return listed or [Path.home() / ".kube" / "config"]


def _bracketed(host: str) -> str:
    try:
        return f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        return host


def _server(cluster: Entry[Cluster]) -> str:
    server = cluster.body.server
    if not server.startswith(("https://", "http://")):
        raise cluster.invalid("server", f"{server!r} is not a URL such as https://10.0.0.1:6443")
    return server.rstrip("/")


def _proxy_url(cluster: Entry[Cluster]) -> str | None:
    url = cluster.body.proxy_url
    if url and not url.startswith(("http://", "https://")):
        raise cluster.invalid("proxy-url", f"{url!r} is not supported; give an http:// or https:// proxy")
    return url or None


def _pem(entry: Entry[Cluster] | Entry[User], name: str) -> Pem | None:
    """The inline data of a field, which wins, or the file that it names; read at once to fail early."""
    attribute = name.replace("-", "_")
    data: str = getattr(entry.body, f"{attribute}_data")
    file: str = getattr(entry.body, attribute)
    if data:
        try:
            inline = base64.b64decode("".join(data.split()), validate=True)
        except ValueError as error:
            raise entry.invalid(f"{name}-data", "not base64; give a base64-encoded PEM") from error
        pem = Pem(entry.where(f"{name}-data"), inline=inline)
    elif file:
        pem = Pem(entry.where(name), path=entry.relative(file))
    else:
        return None
    if b"-----BEGIN " not in pem.read():
        raise invalid(pem.origin, "holds no PEM block; give a PEM certificate or key")
    return pem


def _identity(user: Entry[User] | None) -> Identity | None:
    if user is None:
        return None
    certificate, key = _pem(user, "client-certificate"), _pem(user, "client-key")
    if certificate and key:
        return Identity(certificate, key)
    if certificate or key:
        missing = "client-key" if certificate else "client-certificate"
        raise user.invalid(missing, "missing; a certificate and its key are given together")
    return None


def _token_file(user: Entry[User] | None) -> Path | None:
    if user is None or not user.body.token_file:
        return None
    path = user.relative(user.body.token_file)
    if not path.is_file() or not os.access(path, os.R_OK):
        raise user.invalid("tokenFile", f"{path} cannot be read; give a readable file that holds a token")
    return path


def _exec_plugin(user: Entry[User] | None) -> ExecConfig | None:
    """The plugin, its command made absolute if it is a path: that is relative to the file."""
    if user is None or user.body.exec is None:
        return None
    plugin = user.body.exec
    if plugin.api_version not in EXEC_API_VERSIONS:
        supported = " or ".join(EXEC_API_VERSIONS)
        raise user.invalid("exec.apiVersion", f"{plugin.api_version!r} is not supported; give {supported}")
    if plugin.interactive_mode not in INTERACTIVE_MODES:
        raise user.invalid(
            "exec.interactiveMode", f"{plugin.interactive_mode!r} is none of {', '.join(INTERACTIVE_MODES)}"
        )
    if not plugin.command:
        raise user.invalid("exec.command", "empty; give the program that issues the credentials")
    if "/" in plugin.command:
        return msgspec.structs.replace(plugin, command=str(user.relative(plugin.command)))
    return plugin
