"""Makes the kernel sum what leaves by some links before it leaves: ``no_offload.py LINK…``

Between network namespaces nobody sums a packet, and nobody looks: what would be wrong on a wire goes unseen.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import sys

SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM, ETHTOOL_STSO = 0x17, 0x1F


def turn_off(link: str) -> None:
    """Checksum and segmentation offload of what the link sends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for what in (ETHTOOL_STSO, ETHTOOL_STXCSUM):
            value = array.array("I", [what, 0])
            request = struct.pack("16sP16x", link.encode(), value.buffer_info()[0])
            fcntl.ioctl(any_socket, SIOCETHTOOL, request)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        turn_off(name)
