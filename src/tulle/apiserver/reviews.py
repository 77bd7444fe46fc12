"""Who am I, may I: objects that are only ever created, to be answered."""

from __future__ import annotations

from tulle.apiserver import access, status
from tulle.apiserver.access import Attempt, User
from tulle.apiserver.kinds import Object

WHO, MAY = "selfsubjectreviews", "selfsubjectaccessreviews"


def answer(plural: str, user: User, asked: Object) -> Object:
    """The review with its status filled in."""
    if plural == WHO:
        who = {"username": user.name, "groups": sorted(user.groups)}
        return asked | {"status": {"userInfo": who}}
    spec = asked.get("spec")
    if not isinstance(spec, dict):
        raise status.bad_request("spec must be set: resourceAttributes or nonResourceAttributes")
    if isinstance(wanted := spec.get("resourceAttributes"), dict):
        attempt = _attempt(wanted)
        may = access.allowed(user, attempt)
        return asked | {
            "status": {"allowed": may} | ({} if may else {"reason": access.refusal(user, attempt)})
        }
    verb = (spec.get("nonResourceAttributes") or {}).get("verb", "")
    return asked | {"status": {"allowed": "system:masters" in user.groups or verb == "get"}}


def _attempt(wanted: Object) -> Attempt:
    """The attempt in a review; on a node user's own objects it is asked for by their name only."""
    keys = ("verb", "group", "resource", "subresource", "namespace", "name")
    verb, group, plural, part, namespace, name = (str(wanted.get(key) or "") for key in keys)
    return Attempt(verb, group, plural, part, namespace, name, name if plural == "nodes" else "")
