"""Run in a Pod or on a node: servers that say who they are, and clients that say what they saw.

``serve <name> <protocol> <port>`` prints ``ready`` and answers each request with its name and the client's
address and port. ``ask <how> <address> <port> <times> <size>`` prints a JSON line for each request: ``name``,
``seen`` (the client as the server saw it), ``peer`` (whom the client's socket shows), ``error``, ``seconds``.
``keep <address> <port>`` asks by one connected UDP socket whenever it reads a line; ``converse`` does so by one TCP
connection, with a server of the protocol ``tcp-lines``, which answers each line of a connection. ``load <host> <port>``
uses new TCP connections, one after the other, until its input ends; it resolves the host for each, and
prints how often it was answered by whom, and every failure. ``mode <address> <port>`` prints ``socket`` where
connect() was led to another port than that, ``packet`` where the kernel knows of no other.
``alternate <own port> <address> <port> …`` makes a TCP connection to one after the other from one and the
same port, and prints who answered each, in order.
"""

from __future__ import annotations

import contextlib
import errno
import json
import select
import socket
import struct
import sys
import threading
import time
from pathlib import Path

PATIENCE = 1.0  # seconds
LONGEST_LOAD = 60.0


def serve(name: str, protocol: str, port: int) -> None:
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    server = socket.socket(socket.AF_INET6, kind)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", port))
    if protocol != "udp":
        server.listen(64)
    print("ready", flush=True)
    while True:
        if protocol == "tcp-lines":
            connection, client = server.accept()
            threading.Thread(target=answer_lines, args=(name, connection), daemon=True).start()
        elif protocol == "tcp":
            connection, client = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(PATIENCE)
                if size := connection.makefile("rb").readline():  # a probe says nothing
                    connection.sendall(answer(name, client, int(size)))
        else:
            data, client = server.recvfrom(65536)
            server.sendto(answer(name, client, len(data)), client)


def answer_lines(name: str, connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError), connection.makefile("rb") as lines:
        for _ in lines:
            connection.sendall(f"{name}\n".encode())


def answer(name: str, client: tuple[str, int], size: int) -> bytes:
    return f"{name} {plain(client[0])} {client[1]} ".encode().ljust(size, b".")


def plain(address: str) -> str:
    return address.removeprefix("::ffff:")


def ask(how: str, address: str, port: int, size: int) -> dict[str, object]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if how == "tcp" else socket.SOCK_DGRAM
    start = time.monotonic()
    with socket.socket(family, kind) as client:
        client.settimeout(PATIENCE)
        try:
            data, peer = exchange(client, how, (address, port), size)
        except OSError as error:
            return {"error": type(error).__name__, "seconds": time.monotonic() - start}
        name, seen, seen_port, *_ = data.decode().split(" ")
        mine = client.getsockname()[1]
        return {
            "name": name,
            "seen": seen,
            "port_kept": int(seen_port) == mine,
            "peer": [plain(peer[0]), peer[1]],
            "size": len(data),
            "seconds": time.monotonic() - start,
        }


def exchange(
    client: socket.socket, how: str, server: tuple[str, int], size: int
) -> tuple[bytes, tuple[str, int]]:
    if how == "udp-unconnected":
        client.sendto(b"?" * size, server)
        return client.recvfrom(65536)
    client.connect(server)
    if how == "udp":
        client.send(b"?" * size)
        return client.recv(65536), client.getpeername()
    client.sendall(f"{size}\n".encode())
    return b"".join(iter(lambda: client.recv(65536), b"")), client.getpeername()


def keep_asking(address: str, port: int) -> None:
    """One connected UDP socket: a request for each line of the input, and what came of it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect((address, port))
        print("ready", flush=True)
        for _ in sys.stdin:
            try:
                client.send(b"?")
                print(client.recv(65536).decode().split()[0], flush=True)
            except OSError as error:
                print(errno.errorcode.get(error.errno or 0, "timeout"), flush=True)


def converse(address: str, port: int) -> None:
    """One TCP connection: a line for each line of the input, and what came of it."""
    with socket.create_connection((address, port), 5) as client, client.makefile("rb") as answers:
        print("ready", flush=True)
        for _ in sys.stdin:
            try:
                client.sendall(b"?\n")
                print(answers.readline().decode().strip() or "closed", flush=True)
            except OSError as error:
                print(errno.errorcode.get(error.errno or 0, "timeout"), flush=True)


def load(host: str, port: int) -> None:
    """Says ``begun`` after the first answer."""
    answered: dict[str, int] = {}
    failures: list[str] = []
    end = time.monotonic() + LONGEST_LOAD
    while time.monotonic() < end and not select.select([sys.stdin], [], [], 0)[0]:
        try:
            with socket.create_connection((host, port), 5) as client:
                client.sendall(b"64\n")
                name = b"".join(iter(lambda: client.recv(65536), b"")).decode().split(" ")[0]
            if not name:
                raise ConnectionResetError("closed without an answer")
        except OSError as error:
            failures.append(repr(error))
            continue
        if not answered:
            print("begun", flush=True)
        answered[name] = answered.get(name, 0) + 1
    print(json.dumps({"answered": answered, "failures": failures}), flush=True)


def alternate(own: int, ends: list[str]) -> None:
    """A socket that is closed with a reset leaves nothing behind: the next one can have its port."""
    for address, port in zip(ends[::2], ends[1::2], strict=True):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.settimeout(PATIENCE)
            client.bind(("", own))
            try:
                client.connect((address, int(port)))
                client.sendall(b"64\n")
                print(client.recv(64).decode().split(" ")[0], flush=True)
            except OSError as error:
                print(type(error).__name__, flush=True)


def mode(address: str, port: int) -> str:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.connect((address, port))
        mine = client.getsockname()[1]
        table = Path("/proc/self/net/tcp6" if ":" in address else "/proc/self/net/tcp")
        ends = [line.split()[1:3] for line in table.read_text().splitlines()[1:]]
    remote = next(int(r.split(":")[1], 16) for local, r in ends if int(local.split(":")[1], 16) == mine)
    return "packet" if remote == port else "socket"


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    if verb == "serve":
        serve(rest[0], rest[1], int(rest[2]))
    elif verb == "keep":
        keep_asking(rest[0], int(rest[1]))
    elif verb == "converse":
        converse(rest[0], int(rest[1]))
    elif verb == "mode":
        print(mode(rest[0], int(rest[1])))
    elif verb == "load":
        load(rest[0], int(rest[1]))
    elif verb == "alternate":
        alternate(int(rest[0]), rest[1:])
    else:
        for _ in range(int(rest[3])):
            print(json.dumps(ask(rest[0], rest[1], int(rest[2]), int(rest[4]))))
