"""Keeps the kernel's Service table as planned: writes what changed, and nothing else.

A set of backends in the kernel is never changed. For each change a new one is written, and then one word in
``services`` is switched to it, for all frontends of the port at once. What was taken out is deleted only
after every program that could have seen it has ended (``libc.await_readers``): an element of a hash map is
used again at once, and whoever still looks at it would see something of another Service.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tulle.errors import KernelError
from tulle.kernel.bpf_maps import Map
from tulle.kernel.btf import Contract
from tulle.kube.resources import Key
from tulle.model.address import Network, mapped_length, to_bytes
from tulle.pod_to_service.entries import Entries, LeadsTo
from tulle.pod_to_service.found import Found, Port, read_table
from tulle.pod_to_service.garbage import Garbage
from tulle.pod_to_service.guards import Guards
from tulle.pod_to_service.leads import Leads
from tulle.pod_to_service.plan import Backend, Kind, Lead, PortPlan, Traffic
from tulle.pod_to_service.ring import ring_size
from tulle.pod_to_service.sets import Batch, Sets
from tulle.pod_to_service.shared import Shared


class PortName(NamedTuple):
    """One port of a Service in one family, for one traffic policy: what has an index in ``services``."""

    service: Key
    port: str
    protocol: int
    family: int
    traffic: Traffic


Ports = dict[PortName, Port]


class Table:
    """The Service table of one node.

    What an earlier agent left in the kernel is taken over: a port whose plan is the same is not touched.
    ``own``: addresses that this node itself has; a ClusterIP that is one of them is left to the node.
    """

    def __init__(self, maps: Mapping[str, Map], contract: Contract) -> None:
        self._maps = maps
        self._entries = Entries(contract)
        self._contract = contract
        self._ports: dict[Key, Ports] = {}
        self._found: Found | None = read_table(maps, self._entries)
        self._sets = Sets(maps, contract, self._found)
        self._garbage = Garbage()
        self._guards = Guards(maps["source_ranges"], self._entries, self._found)
        self._leads = Leads(maps["frontends"], self._found.frontends)
        self._vips = Shared()
        self._changed: list[PortName] = []
        self.own: frozenset[bytes] = frozenset()

    def apply(self, plans: Mapping[Key, tuple[PortPlan, ...]]) -> list[PortName]:
        """From now on these Services are as planned: no ports, no Service. Returns the ports that changed.

        A key may be anything that nobody else uses as one. Raises ``KernelError``; whatever was not written
        then is written when the plan is applied again.
        """
        batch, garbage = Batch(), Garbage()
        guards = {key: self._guard(key, plan) for key, plan in plans.items()}
        changed: list[PortName] = []
        ports: dict[Key, Ports] = {}
        for key, plan in plans.items():
            before = self._ports.get(key, {})
            ports[key] = {
                name: port for each in plan for name, port in self._port(key, each, before, batch, garbage)
            }
            for name in before.keys() - ports[key].keys():
                self._sets.retire(before[name], garbage, with_index=True)
            changed += [n for n, p in ports[key].items() if before.get(n) != p]
            changed += before.keys() - ports[key].keys()
        self._write(batch)
        self._keep(ports)
        self._garbage.add(garbage)
        self._changed += changed
        self._leads.lead(self._wanted_frontends(plans))
        for key, numbers in guards.items():
            self._guards.use(key, numbers, self._garbage)
        changed, self._changed = self._changed, []
        return changed

    def _guard(self, key: Key, plan: Iterable[PortPlan]) -> frozenset[int]:
        """The guards that the Service needs from now on; those that it had stay until it is led anew."""
        asked = (lead.sources for port in plan for lead in port.leads)
        guards = frozenset(self._guards.number(sources) for sources in asked if sources is not None)
        self._guards.use(key, guards | self._guards.used(key), self._garbage)
        return guards

    def _write(self, batch: Batch) -> None:
        try:
            self._sets.write(batch)
        except KernelError:
            self._garbage.add(batch.as_garbage())
            if self._found:
                self._found.ports |= {port.index: port for port in batch.taken}
            raise

    def _keep(self, ports: Mapping[Key, Ports]) -> None:
        for key, each in ports.items():
            if each:
                self._ports[key] = each
            else:
                self._ports.pop(key, None)

    def _port(
        self, key: Key, plan: PortPlan, before: Mapping[PortName, Port], batch: Batch, garbage: Garbage
    ) -> Iterable[tuple[PortName, Port]]:
        """One for each choice of the plan; clients with affinity are known to both by one number (S-60)."""
        contents = {
            traffic: self._entries.content(choice, plan.affinity, _is_ringed(plan, traffic))
            for traffic, choice in plan.choices.items()
        }
        names = {t: PortName(key, plan.port, plan.protocol, plan.family, t) for t in contents}
        there = {
            t: port for t, n in names.items() if (port := before.get(n) or self._take_over(plan, t, batch))
        }
        indices = {t: there[t].index if t in there else self._sets.new_index() for t in contents}
        numbers = (port.service for port in there.values() if port.service in indices.values())
        service = next(numbers, min(indices.values(), default=0))
        for traffic, content in contents.items():
            port = there.get(traffic)
            if port is None:
                port = self._sets.add(indices[traffic], service, content, True, batch)
            elif (port.content, port.service) != (content, service):
                self._sets.retire(port, garbage, with_index=False)
                port = self._sets.add(port.index, service, content, False, batch)
            yield names[traffic], port

    def _take_over(self, plan: PortPlan, traffic: Traffic, batch: Batch) -> Port | None:
        """What an earlier agent wrote for one of the frontends: its index stays, its set if that is right."""
        if self._found is None:
            return None
        for lead in plan.leads:
            raw = self._found.frontends.get(self._entries.frontend(lead.frontend))
            if raw is None or traffic not in (lead.inside, lead.outside):
                continue
            leads_to = self._entries.read_lead(raw)
            index = leads_to.inside if lead.inside is traffic else leads_to.outside
            if port := self._found.ports.pop(index, None):
                batch.taken.append(port)
                return self._sets.checked(port)
        return None

    def _wanted_frontends(self, plans: Mapping[Key, tuple[PortPlan, ...]]) -> dict[Key, dict[bytes, bytes]]:
        """By whom they belong to: an address that Services share belongs to none of them."""
        wanted: dict[Key, dict[bytes, bytes]] = {}
        touched: set[bytes] = set()
        for key, plan in plans.items():
            wanted[key] = {}
            touched |= self._vips.put(key, _vips(plan))
            for each in plan:
                for lead in each.leads:
                    wanted[key] |= self._lead(key, each, lead)
        for vip in touched:
            wanted["", vip.hex()] = self._vip(vip)
        return wanted

    def _lead(self, key: Key, plan: PortPlan, lead: Lead) -> dict[bytes, bytes]:
        entries, frontend = self._entries, lead.frontend
        ports = self._ports[key]
        indices = {
            t: ports[PortName(key, plan.port, plan.protocol, plan.family, t)].index
            for t in (lead.inside, lead.outside)
        }
        guard = 0 if lead.sources is None else self._guards.number(lead.sources)
        leads_to = entries.lead(LeadsTo(indices[lead.inside], indices[lead.outside], guard))
        if lead.kind is not Kind.CLUSTER_IP:
            return {entries.frontend(frontend): leads_to}
        others = entries.any_port(frontend.address)
        if frontend.address in self.own:
            return {others: entries.lead(LeadsTo(entries.of_node, entries.of_node))}
        refused = entries.lead(LeadsTo(entries.no_port, entries.no_port))
        return {others: refused, entries.frontend(frontend): leads_to}

    def _vip(self, vip: bytes) -> dict[bytes, bytes]:
        """Other ports of it: refused to clients outside, and of no concern to those inside."""
        entries = self._entries
        if vip not in self._vips or vip in self.own:
            return {}
        return {entries.any_port(vip): entries.lead(LeadsTo(entries.of_node, entries.no_port))}

    def forget_unclaimed(self) -> None:
        """Once, when everything has been planned: what an earlier agent left and nobody asked for goes."""
        if self._found is None:
            return
        garbage = Garbage()
        for port in self._found.ports.values():
            self._sets.retire(port, garbage, with_index=True)
        garbage.sets += self._found.stray_sets
        garbage.slots += self._found.stray_slots
        garbage.members += self._found.stray_members
        garbage.rings += self._found.stray_rings
        self._guards.forget_found(garbage)
        self._leads.forget_found()
        self._garbage.add(garbage)
        self._found = None

    def take_garbage(self) -> Garbage:
        """What was taken out since the last call: for ``free``, after ``libc.await_readers``."""
        garbage, self._garbage = self._garbage, Garbage()
        garbage.deletions = self._leads.deletions
        return garbage

    def free(self, garbage: Garbage) -> None:
        """Deletes what no program can see any more. Raises ``KernelError``."""
        self._leads.are_unseen(garbage.deletions)
        self._maps["source_ranges"].discard_all(garbage.ranges)
        self._sets.free(garbage)

    def set_cidrs(self, cidrs: Iterable[Network]) -> None:
        """Where Services' addresses come from: others in there are nobody's (S-16, S-29)."""
        table = self._maps["service_cidrs"]
        pack = self._contract.pack
        wanted = {pack("prefix", length=mapped_length(c), address=to_bytes(c.network_address)) for c in cidrs}
        there = set(table.keys(len(pack("prefix"))))
        for key in wanted - there:
            table[key] = b"\1"
        for key in there - wanted:
            table.discard(key)

    def serving(self, names: Iterable[PortName]) -> dict[int, frozenset[Backend]]:
        """By index in ``services``: who may keep old flows (S-65), of those ports where this is asked."""
        ports = [self._ports.get(name.service, {}).get(name) for name in names]
        read = self._entries.read_backends
        return {p.index: frozenset(read(p.content.serving)) for p in ports if p and p.content.serving}


def _vips(plan: Iterable[PortPlan]) -> frozenset[bytes]:
    leads = (lead for each in plan for lead in each.leads)
    return frozenset(lead.frontend.address for lead in leads if lead.kind is Kind.LOAD_BALANCER)


def _is_ringed(plan: PortPlan, traffic: Traffic) -> bool:
    """Whether clients outside are led by this choice, so that nodes should choose alike; and there is one."""
    inside = (Kind.CLUSTER_IP, Kind.HOST_PORT)
    led = any(lead.outside is traffic and lead.kind not in inside for lead in plan.leads)
    return led and ring_size(len(plan.choices[traffic].backends)) > 0
