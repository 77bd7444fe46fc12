"""Answers of upstreams, kept as long as they may be, and as quick to give as a look into a dict. No I/O.

Bounded by the number of entries and by bytes; the entry that was asked for longest ago goes first. TTLs are
aged as CoreDNS does it: every record of an answer gets the time the answer has left.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from struct import Struct
from typing import Final

from tulle.dns import wire
from tulle.dns.configuration.config import CachePlan
from tulle.dns.outside.response import AD, Response

Key = tuple[bytes, int, bool, int]
"""Name in lower case, type, the DO bit, the CD bit; the class is always IN."""

STALE_TTL: Final = 30  # seconds, RFC 8767 section 4
MOST_BYTES: Final = 16 << 20  # of each kind of answer
_FAILURE_TTL: Final = 5  # seconds: RFC 9520 wants 1 to 300 for an upstream's SERVFAIL
_LARGEST: Final = 16 << 10  # bytes; a larger answer is passed on and not kept
_OVERHEAD: Final = 600  # bytes of Python objects around an entry, as measured with 10,000 of them
_HEADER = Struct("!HHHHHH")
_OPTIONS = tuple(b"\0" + Struct("!HHIH").pack(wire.OPT, wire.UDP_LIMIT, do, 0) for do in (0, wire.DO))


class Entry:
    """One answer. Times are seconds of the clock; ``life`` is how long it was to be kept at first."""

    __slots__ = (
        "_counts",
        "_flags",
        "_image",
        "_image_ttl",
        "_ttls",
        "denial",
        "expires",
        "hits",
        "last_hit",
        "life",
        "plan",
        "rcode",
        "size",
    )

    def __init__(self, question: bytes, response: Response, plan: CachePlan, life: int, now: float) -> None:
        type_class = question[-4:]
        self._flags = wire.QR | wire.RA | response.flags & AD | response.rcode & 0xF
        self._counts = response.counts
        self._image = type_class + response.body
        self._image_ttl = -1
        self._ttls = tuple(at + len(type_class) for at in response.ttls)
        self.rcode = response.rcode
        self.denial = response.denial or response.rcode != wire.NOERROR
        self.plan = plan
        self.life = life
        self.expires = now + life
        self.size = len(question) + len(response.body) + 8 * len(self._ttls) + _OVERHEAD
        self.hits = 0
        self.last_hit = now

    def message(self, query: wire.Query, ttl: int) -> bytes:
        """The answer with the client's id, its spelling of the name (D-10), and this TTL on all records."""
        if ttl != self._image_ttl:
            self._age(ttl)
        answers, authorities, additional = self._counts
        edns, asked = query.edns, query.flags
        flags = self._flags | asked & (wire.RD | wire.CD)
        if not (query.do or asked & AD):
            flags &= ~AD
        header = _HEADER.pack(query.id, flags, 1, answers, authorities, additional + edns)
        whole = header + query.asked + self._image
        return whole + _OPTIONS[query.do] if edns else whole

    def fresh(self, query: wire.Query, now: float) -> bytes:
        """The answer with the time it has left; with its own TTLs if it is not to be kept at all."""
        return self.message(query, ceil(self.expires - now) if self.life else -1)

    def stale(self, now: float) -> bool:
        """Whether it is over, but may still be given when no upstream answers (RFC 8767)."""
        return now < self.expires + self.plan.stale

    def popular(self, now: float) -> bool:
        """Counts one hit. Whether it should be fetched again before it is over."""
        prefetch = self.plan.prefetch
        self.hits = self.hits + 1 if now - self.last_hit <= prefetch.window else 1
        self.last_hit = now
        return 0 < prefetch.amount <= self.hits and self.expires - now < prefetch.share * self.life

    def inherit(self, old: Entry) -> None:
        """A name that is asked often stays so when its answer is renewed."""
        self.hits, self.last_hit = old.hits, old.last_hit

    def _age(self, ttl: int) -> None:
        """Within one second all answers are the same but for id and spelling."""
        image, value = bytearray(self._image), ttl.to_bytes(4)
        for at in self._ttls:
            image[at : at + 4] = value
        self._image, self._image_ttl = bytes(image), ttl


def make_entry(question: bytes, response: Response, plan: CachePlan | None, now: float) -> Entry:
    """The entry with the life that TTLs and plan give it: 0 for what may not be kept."""
    name = question[:-4].lower()
    if plan is None or not plan.keeps(name, response.denial) or len(response.body) > _LARGEST:
        return Entry(question, response, plan or CachePlan(stale=0.0), 0, now)
    if response.rcode == wire.SERVFAIL:
        return Entry(question, response, plan, _FAILURE_TTL, now)
    if not response.ttl:
        return Entry(question, response, plan, 0, now)
    least, most = (
        (plan.denial_least, plan.denial_ttl) if response.denial else (plan.success_least, plan.success_ttl)
    )
    return Entry(question, response, plan, min(max(response.ttl, least), most), now)


class Cache:
    """Two bounded shelves, so that a flood of names that do not exist pushes out no answer."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._success: OrderedDict[Key, Entry] = OrderedDict()
        self._denial: OrderedDict[Key, Entry] = OrderedDict()
        self._bytes = {False: 0, True: 0}

    def __len__(self) -> int:
        return len(self._success) + len(self._denial)

    def sizes(self) -> tuple[int, int]:
        """How many answers and how many denials there are."""
        return len(self._success), len(self._denial)

    def get(self, key: Key) -> Entry | None:
        """The entry, which may be over."""
        for shelf in (self._success, self._denial):
            entry = shelf.get(key)
            if entry is not None:
                shelf.move_to_end(key)
                return entry
        return None

    def put(self, key: Key, entry: Entry) -> None:
        """In place of what was there; then the oldest go until all is within the bounds."""
        old = self._success.get(key) or self._denial.get(key)
        if old is not None:
            entry.inherit(old)
            self._remove(key, old)
        plan, denial = entry.plan, entry.denial
        shelf, most = (self._denial, plan.denial_entries) if denial else (self._success, plan.success_entries)
        shelf[key] = entry
        self._bytes[denial] += entry.size
        while shelf and (len(shelf) > most or self._bytes[denial] > MOST_BYTES):
            self._remove(*next(iter(shelf.items())))

    def clear(self) -> None:
        """After a change of the configuration other upstreams may say otherwise."""
        self._success.clear()
        self._denial.clear()
        self._bytes = {False: 0, True: 0}

    def _remove(self, key: Key, entry: Entry) -> None:
        del (self._denial if entry.denial else self._success)[key]
        self._bytes[entry.denial] -= entry.size
