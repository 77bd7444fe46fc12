"""How the network outside learns of load balancers' addresses: by ARP and neighbour discovery, or by BGP."""

from __future__ import annotations

import asyncio

from tulle.agent.announce.announcer import Announcer
from tulle.agent.bgp.speaker import Bgp
from tulle.agent.node import NodeReconciler
from tulle.agent.settings import Settings
from tulle.kube.client import Client
from tulle.kube.informer import Informer
from tulle.model.objects import Node
from tulle.model.services import EndpointSlice, Service
from tulle.pod_to_pod.datapath import Datapath


class External:
    """Both ways, as far as the settings want them."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        datapath: Datapath,
        nodes: Informer[Node],
        services: Informer[Service],
        slices: Informer[EndpointSlice],
    ) -> None:
        self._settings = settings
        self._announcer = Announcer(client, settings.node_name, datapath, services, slices, nodes)
        self._bgp = Bgp(client, settings, nodes, services, slices)

    async def start(self, group: asyncio.TaskGroup) -> None:
        """Adds the tasks that never return, and takes away what an earlier agent left of what is off now."""
        if self._settings.announces:
            group.create_task(self._announcer.run(), name="announce LoadBalancer IPs")
        else:
            self._announcer.remove()
        if self._settings.services:
            self._bgp.start(group)
        else:
            await self._bgp.remove()

    def locate(self, found: NodeReconciler) -> None:
        """The node's uplinks and addresses, as last found."""
        if self._settings.announces:
            self._announcer.place(found.uplinks)
        self._bgp.locate(found.addresses)
