"""Pods' processes, as the programs at the sockets know them: by the cookie of their network namespace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from tulle.kernel import netns
from tulle.pod_to_pod.datapath import Datapath
from tulle.pod_to_pod.store import Attachment, AttachmentStore


class PodSockets:
    """``at_sockets`` says whether the sockets of a Pod (namespace, name) are given Services."""

    def __init__(self, store: AttachmentStore, datapath: Datapath) -> None:
        self._store = store
        self._datapath = datapath
        self.at_sockets: Callable[[str, str], bool] = lambda namespace, pod: True

    def know(self, attachment: Attachment, cookie: int) -> Attachment:
        """From now on the Pod's processes are known. Nothing of it runs before."""
        attachment = msgspec.structs.replace(attachment, cookie=cookie)
        self._store.add(attachment)
        self.tell(attachment)
        return attachment

    def tell(self, attachment: Attachment) -> None:
        """Brings the kernel to what is known of the Pod."""
        known = self.at_sockets(attachment.namespace, attachment.pod)
        kind = "POD" if known else "POD_PACKETS"
        self._datapath.set_client(attachment.cookie, kind, attachment.addresses)

    def choose(self, namespace: str, pod: str) -> None:
        """``at_sockets`` may say otherwise now for this Pod; without ``pod``, for all of the namespace."""
        for attachment in self._store:
            if attachment.namespace == namespace and pod in ("", attachment.pod) and attachment.cookie:
                self.tell(attachment)

    def forget(self, attachment: Attachment) -> None:
        if attachment.cookie:
            self._datapath.remove_client(attachment.cookie)

    def places(self) -> dict[int, Path | None]:
        """The network namespaces of this node by cookie: its Pods', and None for its own."""
        pods = {a.cookie: Path(a.netns) for a in self._store if a.cookie}
        return {netns.own_cookie(): None, **pods}
