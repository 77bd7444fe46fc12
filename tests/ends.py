"""Run in a Pod or on a node: servers that say who they are, and clients that say what they saw.

``serve <name> <protocol> <port>`` prints ``ready`` and answers each request with its name and the client's
address and port; ``both`` is TCP and UDP, and ``tcp-lines`` is TCP that answers each line of a connection.
``ask <how> <address> <port> <times> <size> [<patience>]`` prints a JSON line for each request: ``name``,
``seen`` (the client as the server saw it), ``peer`` (whom the client's socket shows), or ``error``.
``keep <address> <port> [<own port>]`` asks by one connected UDP socket whenever it reads a line, and
``converse <address> <port>`` by one TCP connection. ``load <host> <port> [<least>]`` uses new connections,
one after the other, until its input says so and there were so many; it resolves the host for each, and says
how often it was answered by whom, and every failure. ``mode <address> <port>`` prints ``socket`` where
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

PATIENCE = 3.0  # seconds for an answer
SILENCE = 1.0  # seconds after which none is expected any more; what is lost is sent again only then
LONGEST_LOAD = 280.0


def serve(name: str, protocol: str, port: int) -> None:
    parts = ("tcp", "udp") if protocol == "both" else (protocol,)
    servers = [(part, listening(part, port)) for part in parts]
    print("ready", flush=True)
    for part, server in servers[1:]:
        threading.Thread(target=SERVING[part], args=(name, server), daemon=True).start()
    part, server = servers[0]
    SERVING[part](name, server)


def listening(protocol: str, port: int) -> socket.socket:
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    server = socket.socket(socket.AF_INET6, kind)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", port))
    if protocol != "udp":
        server.listen(512)
    return server


def serve_tcp(name: str, server: socket.socket) -> None:
    while True:
        connection, client = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(PATIENCE)
            if size := connection.makefile("rb").readline():  # a probe says nothing
                connection.sendall(answer(name, client, int(size)))


def serve_udp(name: str, server: socket.socket) -> None:
    while True:
        data, client = server.recvfrom(65536)
        server.sendto(answer(name, client, len(data)), client)


def serve_lines(name: str, server: socket.socket) -> None:
    def talk(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            for _ in connection.makefile("rb"):
                connection.sendall(f"{name}\n".encode())

    while True:
        threading.Thread(target=talk, args=(server.accept()[0],), daemon=True).start()


SERVING = {"tcp": serve_tcp, "udp": serve_udp, "tcp-lines": serve_lines}


def answer(name: str, client: tuple[str, int], size: int) -> bytes:
    return f"{name} {plain(client[0])} {client[1]} ".encode().ljust(size, b".")


def plain(address: str) -> str:
    return address.removeprefix("::ffff:")


def ask(how: str, address: str, port: int, size: int, patience: float = PATIENCE) -> dict[str, object]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if how == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as client:
        client.settimeout(patience)
        try:
            data, peer = exchange(client, how, (address, port), size)
        except OSError as error:
            return {"error": type(error).__name__, "text": str(error)}
        name, seen, seen_port, *_ = data.decode().split(" ")
        mine = client.getsockname()[1]
        return {
            "name": name,
            "seen": seen,
            "port_kept": int(seen_port) == mine,
            "peer": [plain(peer[0]), peer[1]],
            "size": len(data),
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


def keep_asking(address: str, port: int, own: int = 0) -> None:
    """One connected UDP socket: a request for each line of the input, and what came of it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.bind(("", own))
        client.connect((address, port))
        print("ready", flush=True)
        for _ in sys.stdin:
            try:
                client.send(b"?")
                print(client.recv(65536).decode().split()[0], flush=True)
            except OSError as error:
                print(errno.errorcode.get(error.errno or 0, "timeout"), flush=True)


def converse(address: str, port: int) -> None:
    """One TCP connection, to a server of lines."""
    with socket.create_connection((address, port), PATIENCE) as client:
        client.settimeout(10 * PATIENCE)
        answers = client.makefile("rb")
        print("ready", flush=True)
        for line in sys.stdin:
            try:
                client.sendall(line.encode())
                print(answers.readline().decode().strip() or "closed", flush=True)
            except OSError as error:
                print(errno.errorcode.get(error.errno or 0, "timeout"), flush=True)


def load(host: str, port: int, least: int = 0) -> None:
    """Says ``begun`` after the first answer."""
    answered: dict[str, int] = {}
    failures: list[str] = []
    end = time.monotonic() + LONGEST_LOAD
    while time.monotonic() < end:
        if sum(answered.values()) >= least and select.select([sys.stdin], [], [], 0)[0]:
            break
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
        keep_asking(rest[0], *map(int, rest[1:]))
    elif verb == "converse":
        converse(rest[0], int(rest[1]))
    elif verb == "mode":
        print(mode(rest[0], int(rest[1])))
    elif verb == "load":
        load(rest[0], *map(int, rest[1:]))
    elif verb == "alternate":
        alternate(int(rest[0]), rest[1:])
    else:
        for _ in range(int(rest[3])):
            print(json.dumps(ask(rest[0], rest[1], int(rest[2]), int(rest[4]), *map(float, rest[5:]))))
