"""Who is asking, and what they may do: bearer tokens, client certificates, and a small table of rules."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tulle.apiserver.tokens import TokenIssuer
from tulle.errors import ConfigError

READ = frozenset({"get", "list", "watch"})
CHANGE = frozenset({"create", "update", "patch"})
EVERY = READ | CHANGE | {"delete", "deletecollection"}
INTERACTIVE = ("exec", "attach", "portforward")


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: frozenset[str]

    @property
    def node(self) -> str:
        """The node that this user is, empty for others."""
        return self.name.removeprefix("system:node:") if "system:nodes" in self.groups else ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What somebody wants to do. ``node`` is the node that the object belongs to, where it belongs to one."""

    verb: str
    group: str
    plural: str
    part: str = ""
    namespace: str = ""
    name: str = ""
    node: str = ""

    @property
    def resource(self) -> str:
        return f"{self.plural}/{self.part}" if self.part else self.plural


@dataclass(frozen=True, slots=True)
class Rule:
    """Allows members of ``members`` the verbs on the resources (``*``: all but secrets and running commands);
    with ``own`` only on objects that belong to the node that they are, with ``only`` on this namespace/name.
    """

    members: str
    verbs: frozenset[str]
    resources: frozenset[str]
    own: bool = False
    only: str = ""


RULES = (
    Rule("system:nodes", CHANGE, frozenset({"nodes", "nodes/status"}), own=True),
    Rule(
        "system:nodes", frozenset({"update", "patch", "delete"}), frozenset({"pods", "pods/status"}), own=True
    ),
    Rule("system:nodes", CHANGE | {"delete"}, frozenset({"leases", "events"})),
    Rule("system:nodes", frozenset({"create"}), frozenset({"serviceaccounts/token"})),
    Rule("system:nodes", frozenset({"patch"}), frozenset({"bgppeers/status"})),
    Rule("system:nodes", frozenset({"get"}), frozenset({"secrets"}), only="kube-system/tulle-bgp"),
    Rule(
        "tulle:controllers",
        frozenset({"patch"}),
        frozenset({"services", "services/status", "loadbalancerpools/status"}),
    ),
    Rule("tulle:controllers", CHANGE, frozenset({"leases"})),
    Rule("tulle:controllers", frozenset({"create"}), frozenset({"events"})),
    Rule("system:authenticated", READ, frozenset({"*"})),
    Rule("system:authenticated", EVERY, frozenset({"selfsubjectaccessreviews", "selfsubjectreviews"})),
)


def allowed(user: User, attempt: Attempt) -> bool:
    if "system:masters" in user.groups:
        return True
    guarded = attempt.plural == "secrets" or attempt.part in INTERACTIVE
    return any(
        rule.members in user.groups
        and attempt.verb in rule.verbs
        and (attempt.resource in rule.resources or ("*" in rule.resources and not guarded))
        and (not rule.own or bool(user.node and attempt.node == user.node))
        and rule.only in ("", f"{attempt.namespace}/{attempt.name}")
        for rule in RULES
    )


def refusal(user: User, attempt: Attempt) -> str:
    """The sentence that follows ``… is forbidden: ``."""
    where = f'in the namespace "{attempt.namespace}"' if attempt.namespace else "at the cluster scope"
    what = f'cannot {attempt.verb} resource "{attempt.resource}" in API group "{attempt.group}"'
    return f'User "{user.name}" {what} {where}'


class Authenticator:
    """Knows tokens by their digest, so that comparing takes the same time for all."""

    def __init__(self, known: Mapping[str, User], issuer: TokenIssuer) -> None:
        self.tokens = issuer
        self._known = {_digest(token): owner for token, owner in known.items()}

    def identify(self, authorization: str, peer: Mapping[str, Any] | None) -> User | None:
        """The user of a bearer token, else of a client certificate that TLS has verified; None if neither."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer" and token:
            return self._by_token(token.strip())
        return _by_certificate(peer) if peer else None

    def _by_token(self, token: str) -> User | None:
        found, digest = None, _digest(token)
        for known, owner in self._known.items():
            if hmac.compare_digest(known, digest):
                found = owner
        if found is None and (name := self.tokens.subject(token)):
            namespace = name.split(":")[2]
            return user(name, "system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def user(name: str, *groups: str) -> User:
    return User(name, frozenset({*groups, "system:authenticated"}))


def _by_certificate(peer: Mapping[str, Any]) -> User | None:
    """CN is the user, every O a group; ``peer`` as ``ssl.SSLSocket.getpeercert`` gives it."""
    subject = [pair for part in peer.get("subject", ()) for pair in part]
    names = [value for key, value in subject if key == "commonName"]
    groups = [value for key, value in subject if key == "organizationName"]
    return user(names[0], *groups) if names else None


def read_tokens(path: Path) -> dict[str, User]:
    """Lines ``token,user,group1|group2``; empty lines and those that begin with ``#`` do not count."""
    tokens: dict[str, User] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split(",")]
        if len(parts) not in (2, 3) or not all(parts[:2]):
            raise ConfigError(f"{path}, line {number}: must be token,user,group1|group2")
        tokens[parts[0]] = user(parts[1], *filter(None, parts[2].split("|") if len(parts) == 3 else ()))
    return tokens
