"""The cluster's zone: every name that exists, and the answer to each question about it.

Changes cost what changed: a parent is counted once for each record set below it, so that one without records
of its own answers "no data" and not "no such name" (RFC 8020), until the last of them is gone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import islice

from tulle.dns import wire
from tulle.dns.cluster.service_records import NEGATIVE_TTL, SRV, Options, Records, RecordSet, addresses
from tulle.dns.names import suffixes, within
from tulle.dns.wire import NOERROR, NXDOMAIN, Query, Section
from tulle.model.address import Address

SCHEMA_VERSION = b"\x051.1.0"
"""Of the Kubernetes DNS specification, as TXT data (D-01)."""

_ANY_ORDER = (wire.CNAME, wire.A, wire.AAAA, wire.SRV, wire.TXT, wire.SOA, wire.NS)
_MOST_ALIASES = 8
_MOST_TARGETS = 64


@dataclass(frozen=True, slots=True)
class Alias:
    """An ExternalName that leads out of the zone: what is known so far, and the name to resolve (D-09)."""

    known: Section
    target: bytes


class Zone:
    """Filled by ``replace`` and ``add_namespace``; read by ``answer``. One thread."""

    def __init__(self, options: Options, own: Iterable[Address] = ()) -> None:
        """``own`` are the addresses of the name server, for ``ns.dns.<zone>``."""
        self.options = options
        self._records: dict[int, dict[bytes, Records]] = {}
        self._reverse: dict[bytes, Records] = {}
        self._parents: dict[bytes, int] = {}
        self._pods = b"\x03pod" + options.zone
        self._serial = 0
        for name in (options.services, self._pods):
            self._count(name, 1)
        self.replace({}, self._apex(tuple(own)))

    def _apex(self, own: tuple[Address, ...]) -> RecordSet:
        zone, ttl = self.options.zone, self.options.ttl
        server = b"\x02ns\x03dns" + zone
        records = addresses(server, own, ttl)
        records[wire.NS, zone] = (wire.record(wire.QUESTION_NAME, wire.NS, ttl, server),)
        version = wire.record(wire.QUESTION_NAME, wire.TXT, ttl, SCHEMA_VERSION)
        records[wire.TXT, b"\x0bdns-version" + zone] = (version,)
        return records

    def replace(self, old: RecordSet, new: RecordSet) -> None:
        """One Service's records are ``new`` instead of ``old``; no question sees half of it."""
        for key, records in old.items():
            if new.get(key) != records:
                self._remove(*key, records)
        for key, records in new.items():
            if old.get(key) != records:
                self._add(*key, records)
        self._set_serial()

    def add_namespace(self, name: str) -> None:
        """Names below an existing Namespace are "no data" at the least, and its Pods have names (D-20)."""
        self._count_namespace(name, 1)

    def remove_namespace(self, name: str) -> None:
        """Undoes ``add_namespace``."""
        self._count_namespace(name, -1)

    def _count_namespace(self, name: str, by: int) -> None:
        label = bytes((len(name),)) + name.encode()
        for parent in (self.options.services, self._pods):
            self._count(label + parent, by)

    def _add(self, rtype: int, name: bytes, records: Records) -> None:
        if rtype == wire.PTR:
            self._reverse[name] = self._reverse.get(name, ()) + records
            return
        self._records.setdefault(rtype, {})[name] = records
        self._count(_parent(name), 1)

    def _remove(self, rtype: int, name: bytes, records: Records) -> None:
        """A Pod can be behind several headless Services, so a reverse name can be of several, too (D-08)."""
        if rtype == wire.PTR:
            left = list(self._reverse.pop(name))
            for each in records:
                left.remove(each)
            if left:
                self._reverse[name] = tuple(left)
            return
        del self._records[rtype][name]
        self._count(_parent(name), -1)

    def _count(self, name: bytes, by: int) -> None:
        """A name that has others below it, and its own parents; nothing above the zone."""
        for each in suffixes(name) if self.covers(name) else ():
            count = self._parents.get(each, 0) + by
            if count:
                self._parents[each] = count
            else:
                del self._parents[each]
            if each == self.options.zone:
                return

    def _exists(self, name: bytes) -> bool:
        return name in self._parents or any(name in held for held in self._records.values())

    def _set_serial(self) -> None:
        self._serial = max(self._serial + 1, int(time.time()))
        zone = self.options.zone
        numbers = (self._serial, 7200, 1800, 86400, min(self.options.ttl, NEGATIVE_TTL))
        data = b"\x02ns\x03dns" + zone + b"\x0ahostmaster" + zone
        self._soa = b"".join((data, *(number.to_bytes(4) for number in numbers)))

    def covers(self, name: bytes) -> bool:
        """Whether all names like this one are ours to answer; reverse names are only if we know them."""
        return within(name, self.options.zone)

    def answer(self, query: Query) -> bytes | Alias | None:
        """A whole message, an alias to resolve first, or None: the name is not ours."""
        qtype, name = query.type, query.name
        if qtype == wire.PTR:
            found: Records | None = tuple(dict.fromkeys(self._reverse.get(name, ())))
        else:
            found = self._records[qtype].get(name) if qtype in self._records else None
        if found:
            more = self._targets(found) if qtype == wire.SRV else wire.EMPTY
            return wire.message(query, NOERROR, _in_any_order(found), additional=more)
        if not self.covers(query.name):
            return None
        aliases = self._records.get(wire.CNAME)
        if aliases and query.name in aliases and query.type not in (wire.CNAME, wire.ANY):
            return self._follow(query, aliases[query.name])
        return self._special(query)

    def _targets(self, services: Records) -> Section:
        """The addresses of SRV records' targets (D-03): once each, and as many as one is likely to need."""
        count, records = 0, b""
        names = dict.fromkeys(each[wire.RECORD_HEAD + SRV.size :] for each in services)
        for name in islice(names, _MOST_TARGETS):
            for rtype in (wire.A, wire.AAAA):
                for each in self._records.get(rtype, {}).get(name, ()):
                    count, records = count + 1, records + name + each[2:]
        return Section(count, records)

    def _special(self, query: Query) -> bytes:
        """What no table has: apex SOA, ANY, Pods' names, and that there is nothing."""
        if query.type == wire.SOA and query.name == self.options.zone:
            return wire.message(query, NOERROR, self._authority(query))
        if query.type == wire.ANY:
            records = self._anything(query.name)
            if records:
                return wire.message(query, NOERROR, _in_any_order(records))
        if self._exists(query.name):
            return wire.message(query, NOERROR, authority=self._authority(query))
        address = self._pod(query.name)
        if address is None:
            return wire.message(query, NXDOMAIN, authority=self._authority(query))
        found = addresses(query.name, (address,), self.options.ttl)
        records = (
            next(iter(found.values())) if query.type == wire.ANY else found.get((query.type, query.name))
        )
        if records is None:
            return wire.message(query, NOERROR, authority=self._authority(query))
        return wire.message(query, NOERROR, Section(1, records[0]))

    def _anything(self, name: bytes) -> Records | None:
        """One record set is enough of an answer to ANY, and no amplifier (RFC 8482 section 4.1)."""
        found = (self._records[rtype].get(name) for rtype in _ANY_ORDER if rtype in self._records)
        return next(filter(None, found), None)

    def _pod(self, name: bytes) -> Address | None:
        """``<a-b-c-d>.<namespace>.pod.<zone>`` is that address, whether there is such a Pod or not (D-20)."""
        namespace = name[name[0] + 1 :] if name[0] else b""
        if not namespace.endswith(self._pods) or len(namespace) == len(self._pods):
            return None
        if namespace not in self._parents or not self.options.pods:
            return None
        label = name[1 : name[0] + 1].decode("latin-1")
        text = (
            label.replace("-", ".")
            if label.count("-") == 3 and "--" not in label
            else label.replace("-", ":")
        )
        try:
            return ip_address(text)
        except ValueError:
            return None

    def _authority(self, query: Query) -> Section:
        """The SOA that says how long "nothing" may be kept (D-22); the owner points into the question."""
        zone = self.options.zone
        at = wire.QUESTION + len(query.name) - len(zone)
        ttl = min(self.options.ttl, NEGATIVE_TTL)
        return Section(1, wire.record((0xC000 | at).to_bytes(2), wire.SOA, ttl, self._soa))

    def _follow(self, query: Query, alias: Records) -> bytes | Alias:
        """Aliases within the zone are followed here, as far as is sane."""
        known, owner = b"", wire.QUESTION_NAME
        for count in range(1, _MOST_ALIASES + 1):
            known += owner + alias[0][2:]
            target = alias[0][wire.RECORD_HEAD :]
            if not self.covers(target):
                return Alias(Section(count, known), target)
            found = self._records.get(query.type, {}).get(target)
            if found:
                section = _in_any_order(tuple(target + each[2:] for each in found))
                return wire.message(query, NOERROR, Section(count + section.count, known + section.records))
            following = self._records[wire.CNAME].get(target)
            if following is None:
                rcode = NOERROR if self._exists(target) else NXDOMAIN
                return wire.message(query, rcode, Section(count, known), self._authority(query))
            alias, owner = following, target
        return wire.message(query, wire.SERVFAIL)


def _parent(name: bytes) -> bytes:
    return name[name[0] + 1 :]


def _in_any_order(each: tuple[bytes, ...]) -> Section:
    """Begins anywhere (D-29): clients take the first; of what is too long for UDP each gets its turn."""
    count = len(each)
    if count == 1:
        return Section(1, each[0])
    first = int(random.random() * count)
    return Section(count, b"".join(each[first:] + each[:first]))
