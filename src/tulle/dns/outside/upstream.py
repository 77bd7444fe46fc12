"""One upstream: asked over UDP from changing ports, over TCP for long answers, and probed when in doubt.

An answer counts only if it comes from the address asked to the port asked from (the kernel sees to that: the
sockets are connected), with the random id and with the question (RFC 5452). Anything else is passed over, and
the real answer still waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import socket
from asyncio import Future
from struct import Struct
from typing import Final, NamedTuple

from tulle.dns import wire
from tulle.dns.configuration.config import Endpoint, Forward
from tulle.dns.names import ROOT
from tulle.dns.outside import response
from tulle.dns.outside.response import AD, Response, Untrusted

MOST_PORTS: Final = 16
_PORT_QUERIES: Final = 200  # after so many a port has been seen long enough
_LONGEST_DATAGRAM: Final = 4096  # bytes; we say that we take 1232
_AT_ONCE: Final = 64  # datagrams read before others get their turn
_PROBE_TIMEOUT: Final = 1.0  # seconds
_HEADER = Struct("!HHHHHH")
_QUESTION = Struct("!HH")
_OPTIONS = {do: b"\0" + Struct("!HHIH").pack(wire.OPT, wire.UDP_LIMIT, wire.DO * do, 0) for do in (0, 1)}


class Unanswered(Exception):
    """No usable answer came; says why."""


class Question(NamedTuple):
    """What is asked: name in lower case, type and class as in a message, and the client's DO and CD."""

    wire: bytes
    do: bool = False
    checking_disabled: bool = False

    def packet(self, ident: int, edns: bool) -> bytes:
        """The query, recursion desired; AD asks to be told what was validated (RFC 6840 section 5.7)."""
        flags = wire.RD | AD | (wire.CD if self.checking_disabled else 0)
        header = _HEADER.pack(ident, flags, 1, 0, 0, int(edns))
        return header + self.wire + (_OPTIONS[int(self.do)] if edns else b"")


_Address = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]

PROBE: Final = Question(ROOT + _QUESTION.pack(wire.NS, wire.IN))


class _Port:
    """One UDP socket on a port that the kernel chose at random, and who waits for answers on it."""

    def __init__(self, family: int, address: _Address, until: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, tuple[bytes, Future[Response]]] = {}
        self._left = _PORT_QUERIES
        self._until = until
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket.fileno(), self._read)

    @property
    def usable(self) -> bool:
        return self._left > 0 and self._loop.time() < self._until

    async def ask(self, question: Question, edns: bool) -> Response:
        """Waits without end. Raises ``OSError``."""
        ident = secrets.randbits(16)
        while ident in self._waiting:
            ident = secrets.randbits(16)
        self._left -= 1
        future: Future[Response] = self._loop.create_future()
        self._waiting[ident] = question.wire, future
        try:
            self._socket.send(question.packet(ident, edns))
            return await future
        finally:
            self._waiting.pop(ident, None)

    @property
    def idle(self) -> bool:
        return not self._waiting

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
        self._fail(ConnectionError("the upstream is not used any longer"))

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data = self._socket.recv(_LONGEST_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:  # an ICMP error: nobody listens there
                self._fail(error)
                return
            self._take(data)

    def _take(self, data: bytes) -> None:
        question, future = self._waiting.get(int.from_bytes(data[:2]), (b"", None))
        if future is None or future.done():
            return
        with contextlib.suppress(Untrusted):
            future.set_result(response.read(data, question))

    def _fail(self, error: OSError) -> None:
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(error)


class Upstream:
    """``down`` once ``max_fails`` probes in a row had no answer; each probe that has one ends that.

    A failed query proves nothing, as names can be slow or broken: it only starts the probes.
    """

    def __init__(self, endpoint: Endpoint, plan: Forward) -> None:
        self.endpoint = endpoint
        self.name = str(endpoint)
        self.down = False
        self._plan = plan
        info = socket.getaddrinfo(
            endpoint.address, endpoint.port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )
        self._family, self._address = info[0][0], info[0][4]
        self._ports: list[_Port] = []
        self._retired: list[_Port] = []
        self._probing: asyncio.Task[None] | None = None
        self._closed = False

    async def ask(self, question: Question) -> Response:
        """The answer, whatever its rcode. Raises ``Unanswered``; to be cancelled when it takes too long."""
        try:
            return await self._ask(question)
        except (OSError, EOFError, Untrusted) as error:
            self.suspect()
            raise Unanswered(f"{self.name}: {error}") from None
        except asyncio.CancelledError:
            self.suspect()
            raise

    def close(self) -> None:
        """Queries in flight end with ``Unanswered``."""
        self._closed = True
        if self._probing:
            self._probing.cancel()
        for port in self._ports + self._retired:
            port.close()
        self._ports, self._retired = [], []

    async def _ask(self, question: Question) -> Response:
        if self._plan.force_tcp:
            return await self._tcp(question, edns=True)
        answer = await self._port().ask(question, edns=True)
        if answer.rcode in (wire.FORMERR, wire.NOTIMP):  # it may know no EDNS (RFC 6891 section 6.2.2)
            answer = await self._port().ask(question, edns=False)
        return await self._tcp(question, edns=True) if answer.truncated else answer

    async def _tcp(self, question: Question, edns: bool) -> Response:
        ident = secrets.randbits(16)
        packet = question.packet(ident, edns)
        reader, writer = await asyncio.open_connection(self.endpoint.address, self.endpoint.port)
        try:
            writer.write(len(packet).to_bytes(2) + packet)
            data = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
        finally:
            writer.transport.abort()
        if int.from_bytes(data[:2]) != ident:
            raise Untrusted("its id is another one")
        answer = response.read(data, question.wire)
        if answer.truncated:
            raise Untrusted("it is cut off over TCP too")
        return answer

    def _port(self) -> _Port:
        """One of up to ``MOST_PORTS`` that are open now, taken at random; old ones are replaced."""
        if self._closed:
            raise ConnectionError("the upstream is not used any longer")
        self._retired += [port for port in self._ports if not port.usable]
        self._ports = [port for port in self._ports if port.usable]
        self._sweep()
        if len(self._ports) < MOST_PORTS:
            until = asyncio.get_running_loop().time() + max(self._plan.expire, 1.0)
            self._ports.append(_Port(self._family, self._address, until))
            return self._ports[-1]
        return random.choice(self._ports)

    def _sweep(self) -> None:
        for port in [port for port in self._retired if port.idle]:
            port.close()
            self._retired.remove(port)

    def suspect(self) -> None:
        """It failed, or is slow: probes begin, which tell whether it is down."""
        if self._closed or not self._plan.max_fails or (self._probing and not self._probing.done()):
            return
        self._probing = asyncio.create_task(self._probe(), name=f"probe upstream {self.name}")

    async def _probe(self) -> None:
        """Until it answers again, whatever it says."""
        fails = 0
        while not await self._alive():
            fails += 1
            self.down = self.down or fails >= self._plan.max_fails
            await asyncio.sleep(self._plan.health_interval)
        self.down = False

    async def _alive(self) -> bool:
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT):
                await self._ask(PROBE)
        except (OSError, EOFError, Untrusted, TimeoutError):
            return False
        return True
