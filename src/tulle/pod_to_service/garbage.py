"""What was taken out of the Service table, and may not be given away yet."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from tulle.pod_to_service.regions import Region


@dataclass(slots=True)
class Garbage:
    """What nobody is led to any more, but somebody may still be looking at."""

    sets: list[bytes] = field(default_factory=list)
    slots: list[bytes] = field(default_factory=list)
    members: list[bytes] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    rings: list[Region] = field(default_factory=list)
    ranges: list[bytes] = field(default_factory=list)
    deletions: int = 0  # of frontends, by then

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(self))

    def add(self, other: Garbage) -> None:
        """All but ``deletions``, which are counted elsewhere."""
        for each in fields(self):
            if each.name != "deletions":
                getattr(self, each.name).extend(getattr(other, each.name))
