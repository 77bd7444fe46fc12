"""The controller's composition root: one leader at a time gives LoadBalancers their addresses."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

from tulle.controller.balancers import Balancers
from tulle.kube.client import Client
from tulle.kube.config import resolve
from tulle.kube.leader import Leader

log = logging.getLogger(__name__)

LEASE = "tulle-controller"
NAMESPACE = "kube-system"


@dataclass(frozen=True, slots=True)
class Settings:
    """``require_class``: leave Services without a ``loadBalancerClass`` to others."""

    kubeconfig: str = ""
    require_class: bool = False


async def run(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT. Services keep their addresses without it.

    Raises ``ConfigError`` when it cannot start.
    """
    client = Client(resolve(Path(settings.kubeconfig) if settings.kubeconfig else None))
    main = asyncio.current_task()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, main.cancel if main else loop.stop)
    async with client:
        leader = Leader(client, LEASE, NAMESPACE, f"{socket.gethostname()}_{uuid.uuid4()}")
        try:
            while True:
                await _lead_once(client, leader, settings)
        except asyncio.CancelledError:
            log.info("told to stop; Services keep their addresses")
        finally:
            await leader.release()


async def _lead_once(client: Client, leader: Leader, settings: Settings) -> None:
    """From becoming the leader to being it no more. All state is made anew from what the API then says."""
    log.info("waiting for the Lease %s/%s", NAMESPACE, LEASE)
    await leader.acquire()
    log.info("this is the leader now")
    async with asyncio.TaskGroup() as group:
        work = group.create_task(Balancers(client, leader, settings.require_class).run(), name="balancers")
        await leader.keep()
        log.warning("the Lease could not be renewed in time")
        work.cancel()
