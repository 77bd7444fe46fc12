"""Label selectors select as Kubernetes' own do."""

from __future__ import annotations

import pytest

from tulle.model.selectors import LabelSelector, Requirement

LABELS = {"app": "web", "tier": "front"}


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        (LabelSelector(), True),
        (LabelSelector({"app": "web"}), True),
        (LabelSelector({"app": "web", "tier": "back"}), False),
        (LabelSelector({"none": ""}), False),
        (LabelSelector(None, (Requirement("app", "In", ("db", "web")),)), True),
        (LabelSelector(None, (Requirement("none", "In", ("",)),)), False),
        (LabelSelector(None, (Requirement("app", "NotIn", ("db",)),)), True),
        (LabelSelector(None, (Requirement("app", "NotIn", ("web",)),)), False),
        (LabelSelector(None, (Requirement("none", "NotIn", ("web",)),)), True),
        (LabelSelector(None, (Requirement("app", "Exists"),)), True),
        (LabelSelector(None, (Requirement("app", "DoesNotExist"),)), False),
        (LabelSelector(None, (Requirement("none", "DoesNotExist"),)), True),
        (LabelSelector({"app": "web"}, (Requirement("tier", "DoesNotExist"),)), False),
    ],
)
def test_selectors(selector: LabelSelector, matches: bool) -> None:
    assert selector.matches(LABELS) is matches
    assert selector.flaw() == ""
