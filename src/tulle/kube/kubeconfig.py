"""The kubeconfig file format: decoding, merging of several files, and errors that name file and field."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from tulle.errors import ConfigError
from tulle.kube.credentials import ExecConfig

Body = TypeVar("Body")


def invalid(where: str, problem: str) -> ConfigError:
    """``where`` is file and field, ``problem`` says what stands there and what would be right."""
    return ConfigError(f"{where}: {problem}")


class Cluster(msgspec.Struct, frozen=True, rename="kebab"):
    """``clusters[].cluster``."""

    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str | None = None
    proxy_url: str | None = None


class User(msgspec.Struct, frozen=True, rename="kebab"):
    """``users[].user``."""

    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str | None = None
    token_file: str = msgspec.field(name="tokenFile", default="")
    exec: ExecConfig | None = None
    auth_provider: dict[str, object] | None = None


class Context(msgspec.Struct, frozen=True):
    """``contexts[].context``."""

    cluster: str = ""
    user: str = ""
    namespace: str = ""


class _NamedCluster(msgspec.Struct):
    name: str
    cluster: Cluster


class _NamedUser(msgspec.Struct):
    name: str
    user: User


class _NamedContext(msgspec.Struct):
    name: str
    context: Context


class _File(msgspec.Struct, rename="kebab"):
    current_context: str | None = None
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None


@dataclass(frozen=True)
class Entry(Generic[Body]):
    """One named item, with the file that it stands in: relative paths start there, errors name it."""

    file: Path
    list_name: str
    name: str
    body: Body

    def where(self, field_name: str) -> str:
        """``FILE: users[admin].user.token``."""
        return f"{self.file}: {self.list_name}[{self.name}].{self.list_name[:-1]}.{field_name}"

    def invalid(self, field_name: str, problem: str) -> ConfigError:
        return invalid(self.where(field_name), problem)

    def relative(self, path: str) -> Path:
        """``path`` as the file means it."""
        return self.file.parent.absolute() / path


@dataclass
class Kubeconfig:
    """Several files read as one: whichever names something first wins."""

    files: list[Path]
    current: str = ""
    clusters: dict[str, Entry[Cluster]] = field(default_factory=dict)
    users: dict[str, Entry[User]] = field(default_factory=dict)
    contexts: dict[str, Entry[Context]] = field(default_factory=dict)

    @classmethod
    def read(cls, paths: Iterable[Path], explicit: bool) -> Kubeconfig:
        """A file of a search path may be missing, as long as one is there; an explicit one may not."""
        merged = cls(list(paths))
        present = [path for path in merged.files if path.exists()]
        if explicit or not present:
            present = merged.files
        for path in present:
            merged._add(path)
        return merged

    def _add(self, path: Path) -> None:
        content = _decode(path)
        self.current = self.current or content.current_context or ""
        for cluster in content.clusters or ():
            self.clusters.setdefault(cluster.name, Entry(path, "clusters", cluster.name, cluster.cluster))
        for user in content.users or ():
            self.users.setdefault(user.name, Entry(path, "users", user.name, user.user))
        for context in content.contexts or ():
            self.contexts.setdefault(context.name, Entry(path, "contexts", context.name, context.context))

    def context(self, name: str | None) -> Entry[Context]:
        """The named context, else the current one."""
        wanted = name or self.current
        if wanted in self.contexts:
            return self.contexts[wanted]
        files = ", ".join(map(str, self.files))
        if not wanted:
            raise invalid(files, f"current-context: not set; give one of {_names(self.contexts)}")
        field_name = "contexts" if name else "current-context"
        raise invalid(files, f"{field_name}: there is no context {wanted!r}, only {_names(self.contexts)}")

    def cluster(self, context: Entry[Context]) -> Entry[Cluster]:
        """The cluster of a context."""
        name = context.body.cluster
        if name not in self.clusters:
            raise context.invalid("cluster", f"no cluster {name!r}; give one of {_names(self.clusters)}")
        return self.clusters[name]

    def user(self, context: Entry[Context]) -> Entry[User] | None:
        """The user of a context; a context without one is anonymous."""
        name = context.body.user
        if not name:
            return None
        if name not in self.users:
            raise context.invalid("user", f"there is no user {name!r}; give one of {_names(self.users)}")
        entry = self.users[name]
        if entry.body.auth_provider is not None:
            raise entry.invalid("auth-provider", "no longer part of Kubernetes; use exec with a plugin")
        return entry


def _names(entries: Iterable[str]) -> str:
    return ", ".join(sorted(entries)) or "(none)"


def _decode(path: Path) -> _File:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise invalid(
            str(path), f"cannot be read ({error.strerror}); give the path of a kubeconfig"
        ) from error
    try:
        decoded = msgspec.yaml.decode(text, type=_File | None)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at ")
        location = where.strip("`$").lstrip(".") or "kubeconfig"
        raise invalid(f"{path}: {location}", problem) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(str(path), f"not YAML ({' '.join(str(error).split())}); give a kubeconfig") from error
    return decoded or _File()
