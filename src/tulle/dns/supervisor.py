"""The process that holds the sockets of ``tulle dns`` and keeps one worker alive.

It never reads a query: while no worker runs, queries wait in the sockets' buffers, and the next worker finds
them. So it must not fail itself, and is small: the standard library only, no packages. It runs as a file::

    python -I -S supervisor.py '{"listen": [...], "port": 53, ...}'

A planned restart passes the very same sockets on. The next supervisor finds this one at an abstract unix
socket and gets all descriptors; when its worker is ready it says "take", our worker stops reading and ends,
and theirs begins. (SO_REUSEPORT alone would lose what waits in the old socket when that is closed; it is
set for servers of other kinds, which bind beside us.)

If the supervisor is killed, the worker goes on, and passes the sockets on in its place.

Messages: to the worker "go", "stop"; from it "ready", "stopped". Between supervisors "take", "stopped".
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

RECEIVE_BUFFER = 16 << 20
"""Bytes for each UDP socket, of kernel memory and only when needed: seconds of queries without a worker."""

BACKLOG = 1024
STABLE_SECONDS = 10.0
"""A worker that lived this long is replaced at once; others after a pause that doubles."""

PAUSES = (0.1, 5.0)
GRACE_SECONDS = 8.0
"""For a worker to send the answers that are due."""

KINDS = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM, "http": socket.SOCK_STREAM}
Sockets = dict[str, socket.socket]
"""By "udp 10.96.0.10 53"."""


def rendezvous(listen: list[str], port: int) -> str:
    """Where the holder of these sockets is found: abstract, so of one network namespace, and never stale."""
    return f"\0tulle-dns {sorted(listen)[0]} {port}"


def wanted(settings: dict[str, Any]) -> list[str]:
    """The names of all sockets."""
    ports = {"udp": settings["port"], "tcp": settings["port"], "http": settings["http_port"]}
    return [f"{kind} {address} {port}" for address in settings["listen"] for kind, port in ports.items()]


def open_socket(name: str) -> socket.socket:
    """Bound and, for TCP, listening. Raises ``OSError``."""
    kind, address, port = name.split()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, KINDS[kind])
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == "udp":
            _enlarge(sock)
        sock.bind((address, int(port)))
        if kind != "udp":
            sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {name}: {error.strerror}") from error
    return sock


def _enlarge(sock: socket.socket) -> None:
    """Beyond the system's limit where we may."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), RECEIVE_BUFFER)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


def is_ours(connection: socket.socket) -> bool:
    """Whether the other end runs as the same user: anybody may find an abstract socket."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _, uid, _ = struct.unpack("=iii", raw)
    return bool(uid == os.geteuid())


def accept_successor(listener: socket.socket, sockets: Sockets) -> socket.socket | None:
    """Gives all ``sockets`` and ``listener`` to who connects; None if that is nobody of ours."""
    try:
        connection, _ = listener.accept()
    except OSError:
        return None
    try:
        if is_ours(connection):
            given = {**sockets, "rendezvous": listener}
            names = json.dumps(list(given)).encode()
            socket.send_fds(connection, [names], [each.fileno() for each in given.values()])
            return connection
    except OSError:
        pass
    connection.close()
    return None


def find_predecessor(name: str) -> tuple[socket.socket, Sockets] | None:
    """The holder of the sockets, if there is one, and copies of what it holds."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(5.0)
    try:
        connection.connect(name)
        if not is_ours(connection):
            raise OSError("held by another user")
        data, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 200)
        names = json.loads(data)
    except (OSError, ValueError):
        connection.close()
        return None
    found = (socket.socket(fileno=descriptor) for descriptor in descriptors)
    return connection, dict(zip(names, found, strict=False))


class Supervisor:
    """``settings``: listen, port, http_port, worker (its command), release (a last command, or empty)."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._sockets: Sockets = {}
        self._worker = 0
        self._control: socket.socket | None = None
        self._old: socket.socket | None = None
        self._successors: list[socket.socket] = []
        self._next: socket.socket | None = None
        self._began = 0.0
        self._pause = 0.0
        self._start_at: float | None = None
        self._kill_at: float | None = None
        self._ending = False
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}

    def open(self) -> None:
        """Takes the predecessor's sockets, and opens what it does not have. Raises ``OSError``."""
        name = rendezvous(self._settings["listen"], self._settings["port"])
        predecessor = find_predecessor(name)
        inherited: Sockets = {}
        if predecessor:
            self._old, inherited = predecessor
            self._listen(self._old, self._hear_old)
        for each in wanted(self._settings):
            self._sockets[each] = inherited.pop(each) if each in inherited else open_socket(each)
        given = inherited.pop("rendezvous") if "rendezvous" in inherited else None
        self._rendezvous = given or self._bind(name)
        for rest in inherited.values():
            rest.close()
        for sock in (*self._sockets.values(), self._rendezvous):
            sock.set_inheritable(True)
        if not self._old:
            self._listen(self._rendezvous, self._accept)

    def _bind(self, name: str) -> socket.socket:
        """Who holds the name but is not us keeps it: then nobody finds our socket, and takes it over."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            listener.bind(name)
        except OSError:
            listener.bind("")
        listener.listen(4)
        return listener

    def run(self) -> None:
        """Until SIGTERM or SIGINT, or until a successor has taken over."""
        wake, woken = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._poll.register(wake, select.POLLIN)
        self._handlers[wake] = lambda: self._signals(os.read(wake, 64))
        self._start()
        while not (self._ending and not self._worker):
            for descriptor, _ in self._poll.poll(self._patience()):
                if descriptor in self._handlers:
                    self._handlers[descriptor]()
            self._on_time()

    def _patience(self) -> float | None:
        """Milliseconds until something is due."""
        due = [at for at in (self._start_at, self._kill_at) if at is not None]
        return max(0.0, min(due) - time.monotonic()) * 1000 if due else None

    def _on_time(self) -> None:
        now = time.monotonic()
        if self._start_at is not None and now >= self._start_at:
            self._start_at = None
            self._start()
        if self._kill_at is not None and now >= self._kill_at and self._worker:
            self._kill_at = None
            os.kill(self._worker, signal.SIGKILL)

    def _start(self) -> None:
        if self._ending:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.set_inheritable(True)
        descriptors = {name: sock.fileno() for name, sock in self._sockets.items()}
        descriptors |= {"control": theirs.fileno(), "rendezvous": self._rendezvous.fileno()}
        command = [*self._settings["worker"], json.dumps(descriptors)]
        default = [signal.SIGTERM, signal.SIGINT, signal.SIGCHLD]
        self._worker = os.posix_spawn(command[0], command, os.environ, setsigdef=default)
        theirs.close()
        self._control = ours
        self._began = time.monotonic()
        self._listen(ours, self._hear_worker)
        if not self._old:
            _tell(ours, b"go")

    def _signals(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._end()
        if signal.SIGCHLD in numbers:
            self._reap()

    def _end(self) -> None:
        self._ending = True
        self._kill_at = time.monotonic() + GRACE_SECONDS
        if self._control:
            _tell(self._control, b"stop")

    def _reap(self) -> None:
        """Also others' children come here when we are a container's first process."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self._worker:
                self._ended(status)

    def _ended(self, status: int) -> None:
        self._worker = 0
        if self._control:
            self._forget(self._control)
            self._control = None
        if self._next:
            _tell(self._next, b"stopped")
        if self._ending:
            return
        lived = time.monotonic() - self._began
        self._pause = 0.0 if lived > STABLE_SECONDS else min(max(self._pause * 2, PAUSES[0]), PAUSES[1])
        self._start_at = time.monotonic() + self._pause
        code = os.waitstatus_to_exitcode(status)
        why = f"signal {-code}" if code < 0 else f"exit code {code}"
        print(f"the worker ended after {lived:.1f} s ({why}); queries wait for the next one", file=sys.stderr)

    def _hear_worker(self) -> None:
        assert self._control
        said = _hear(self._control)
        if said == b"ready" and self._old:
            _tell(self._old, b"take")
        elif said == b"stopped" and self._next:
            _tell(self._next, b"stopped")
        elif not said:
            self._unlisten(self._control)

    def _hear_old(self) -> None:
        """Whether it said "stopped" or died: nobody reads the sockets now."""
        assert self._old
        _hear(self._old)
        self._forget(self._old)
        self._old = None
        self._listen(self._rendezvous, self._accept)
        if self._control:
            _tell(self._control, b"go")

    def _accept(self) -> None:
        successor = accept_successor(self._rendezvous, self._sockets)
        if successor:
            self._successors.append(successor)
            self._listen(successor, lambda: self._hear_successor(successor))

    def _hear_successor(self, successor: socket.socket) -> None:
        if _hear(successor) != b"take" or self._ending:
            self._forget(successor)
            return
        self._next = successor
        self._unlisten(self._rendezvous)
        self._settings["release"] = []
        if self._worker:
            self._end()
        else:
            self._ending = True
            _tell(successor, b"stopped")

    def _listen(self, sock: socket.socket, handler: Callable[[], None]) -> None:
        self._poll.register(sock.fileno(), select.POLLIN)
        self._handlers[sock.fileno()] = handler

    def _unlisten(self, sock: socket.socket) -> None:
        if self._handlers.pop(sock.fileno(), None):
            self._poll.unregister(sock.fileno())

    def _forget(self, sock: socket.socket) -> None:
        self._unlisten(sock)
        sock.close()


def _tell(sock: socket.socket, word: bytes) -> None:
    """Who is gone does not hear it."""
    with contextlib.suppress(OSError):
        sock.send(word)


def _hear(sock: socket.socket) -> bytes:
    """A word; empty at the end."""
    try:
        return sock.recv(16)
    except OSError:
        return b""


def main() -> None:
    """The settings are the only argument."""
    settings = json.loads(sys.argv[1])
    supervisor = Supervisor(settings)
    try:
        supervisor.open()
    except OSError as error:
        sys.exit(f"tulle: {error.strerror}")
    supervisor.run()
    if settings["release"]:
        os.execv(settings["release"][0], settings["release"])


if __name__ == "__main__":
    main()
