"""Ports that are a test's own for as long as it needs them, whatever other processes take meanwhile."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


def open_pair(host: str = "127.0.0.1", listen: bool = True) -> tuple[socket.socket, socket.socket]:
    """TCP and UDP on one port, which the kernel has chosen; the caller closes both."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        with ExitStack() as stack:
            stream = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            datagrams = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            stream.bind((host, 0))
            try:
                datagrams.bind(stream.getsockname())
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue  # it was free for TCP only
            if listen:
                stream.listen()
            stack.pop_all()
            return stream, datagrams


@contextmanager
def closed(host: str = "127.0.0.1") -> Iterator[int]:
    """A port where everybody is refused: TCP does not listen, and UDP takes only what it sends itself."""
    stream, datagrams = open_pair(host, listen=False)
    with stream, datagrams:
        datagrams.connect(datagrams.getsockname())
        yield stream.getsockname()[1]


@contextmanager
def reserved(host: str) -> Iterator[int]:
    """A TCP port that the kernel gives to nobody, and that a server within the block can listen on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((host, 0))
        yield holder.getsockname()[1]
