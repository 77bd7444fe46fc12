"""Takes away what an agent left on a node, but for the links of Pods, which are the runtime's to remove."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from tulle.agent import install
from tulle.agent.bgp.bird import Bird
from tulle.agent.settings import Settings
from tulle.errors import TulleError
from tulle.kernel import nft
from tulle.kernel.netlink import Netlink
from tulle.kernel.rtnetlink import delete_route, routes
from tulle.pod_to_pod import masquerade
from tulle.pod_to_pod.routes import remove_overlay
from tulle.pod_to_pod.store import recorded


async def uninstall(settings: Settings) -> None:
    """Programs, maps, routes, the overlay device, BGP sessions, masquerading, records, the runtime's files.

    Raises ``TulleError`` while Pods are connected, and nothing is touched then; ``KernelError``.
    """
    if pods := recorded(Path(settings.state_dir)):
        names = ", ".join(a.owner for a in pods[:5]) + (", …" if len(pods) > 5 else "")
        raise TulleError(f"{len(pods)} Pods are connected ({names}): drain the node first")
    (Path(settings.cni_conf_dir) / install.CONFLIST).unlink(missing_ok=True)
    (Path(settings.cni_bin_dir) / install.PLUGIN).unlink(missing_ok=True)
    await Bird(settings.bgp).stop()
    await nft.apply(masquerade.removal())
    with Netlink() as netlink:
        netlink.send([delete_route(r) for r in routes(netlink)], tolerate=frozenset({errno.ESRCH}))
        remove_overlay(netlink)
    for folder in (settings.bpffs, settings.state_dir, settings.run_dir):
        shutil.rmtree(folder, ignore_errors=True)
