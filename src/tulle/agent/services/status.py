"""Services as this node's kernel has them, beside what the API says, with the differences."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from tulle.agent.host_ports.status import planned, split
from tulle.agent.services.api import ask, connected
from tulle.agent.services.describe import describe
from tulle.agent.services.look import SECOND_LOOK, Look, confirmed, look_at
from tulle.agent.services.maps import KernelSide, ServiceMaps
from tulle.agent.services.shown import ServicesStatus
from tulle.agent.settings import Settings
from tulle.errors import ApiError, ApiUnreachable, ConfigError
from tulle.pod_to_pod.pinned import Pinned
from tulle.pod_to_service.compare import kernel_only


async def services_status(settings: Settings) -> ServicesStatus:
    """Looks twice when there are differences, and tells those that stay. Raises ``KernelError``."""
    maps = _ServicesOf(settings)
    try:
        async with connected(settings) as client:
            look = look_at(await ask(client, settings), maps.read(), settings)
            if not look.well:
                await asyncio.sleep(SECOND_LOOK)
                again = look_at(await ask(client, settings), maps.read(), settings)
                look = confirmed(look, again)
            return describe(look, settings.services)
    except (ApiError, ApiUnreachable, ConfigError) as error:
        kernel = maps.read()
        return describe(Look(kernel, None, kernel_only(kernel.table)), settings.services, str(error))


class _ServicesOf:
    """The kernel's side without host ports, which are in the same table, and no Services."""

    def __init__(self, settings: Settings) -> None:
        self._maps = ServiceMaps(Pinned(Path(settings.bpffs)))
        self._state = Path(settings.state_dir)

    def read(self) -> KernelSide:
        kernel = self._maps.read()
        return replace(kernel, table=split(kernel.table, planned(self._state))[0])
