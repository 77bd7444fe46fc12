"""Label selectors, as Kubernetes' objects carry them (``metav1.LabelSelector``)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Requirement(msgspec.Struct, frozen=True, gc=False):
    """One of ``matchExpressions``. ``operator``: In, NotIn, Exists or DoesNotExist."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] | None = None

    def matches(self, labels: Mapping[str, str]) -> bool:
        """As Kubernetes does: NotIn takes what lacks the label."""
        values = self.values or ()
        match self.operator:
            case "In":
                return self.key in labels and labels[self.key] in values
            case "NotIn":
                return labels.get(self.key) not in values
            case "Exists":
                return self.key in labels
        return self.key not in labels

    def flaw(self) -> str:
        """What cannot be right about it; empty when nothing is."""
        if not self.key:
            return "key: a label's name is needed"
        if self.operator in ("In", "NotIn"):
            return "" if self.values else f"values: {self.operator} needs at least one"
        if self.operator in ("Exists", "DoesNotExist"):
            return f"values: {self.operator} takes none" if self.values else ""
        return f"operator: {self.operator!r} is not In, NotIn, Exists or DoesNotExist"


class LabelSelector(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """All of it must hold; one that is empty matches everything."""

    match_labels: dict[str, str] | None = None
    match_expressions: tuple[Requirement, ...] | None = None

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is meant."""
        wanted = (self.match_labels or {}).items()
        return all(labels.get(key) == value for key, value in wanted) and all(
            each.matches(labels) for each in self.match_expressions or ()
        )

    def flaw(self) -> str:
        """The first thing that cannot be right, with its place; empty when nothing is wrong."""
        for index, each in enumerate(self.match_expressions or ()):
            if flaw := each.flaw():
                return f"matchExpressions[{index}].{flaw}"
        return ""
