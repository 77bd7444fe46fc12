"""SPDY/3.1 frames: what is read of a client, what is sent to it, and that nothing else gets through."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.apiserver import spdy
from tulle.apiserver.spdy import Data, Decoder, Malformed, Ping, RstStream, SynStream
from tulle.apiserver.spdy_session import expected

STREAMS = st.integers(1, 2**31 - 1)
TEXTS = st.text(st.characters(max_codepoint=255), max_size=60)
HEADERS = st.dictionaries(TEXTS, TEXTS, max_size=8)


class Client:
    """The other side: its headers are one zlib stream too."""

    def __init__(self) -> None:
        self._deflater = zlib.compressobj(zdict=spdy.DICTIONARY)

    def block(self, headers: dict[str, str]) -> bytes:
        words = [word.encode("latin-1") for pair in headers.items() for word in pair]
        plain = struct.pack("!I", len(headers)) + b"".join(struct.pack("!I", len(w)) + w for w in words)
        return self.deflated(plain)

    def deflated(self, plain: bytes) -> bytes:
        return self._deflater.compress(plain) + self._deflater.flush(zlib.Z_SYNC_FLUSH)

    def syn_stream(self, stream: int, headers: dict[str, str], flags: int = 0) -> bytes:
        return control(1, struct.pack("!IIH", stream, 0, 0) + self.block(headers), flags)


def control(kind: int, payload: bytes, flags: int = 0) -> bytes:
    return struct.pack("!HHI", 0x8003, kind, flags << 24 | len(payload)) + payload


def decoded(decoder: Decoder, octets: bytes) -> list[spdy.Frame | None]:
    """Every frame of ``octets``, of which nothing is left over."""
    found = []
    while octets:
        head, octets = octets[:8], octets[8:]
        size = spdy.size_of(head)
        payload, octets = octets[:size], octets[size:]
        assert len(payload) == size
        found.append(decoder.decode(head, payload))
    return found


def test_the_dictionary_is_the_drafts() -> None:
    """Its checksum is in the first octets that every client sends."""
    assert zlib.adler32(spdy.DICTIONARY) == 0xE3C6A7C2
    assert len(spdy.DICTIONARY) == 1423


@given(st.lists(st.tuples(STREAMS, HEADERS, st.booleans()), max_size=5))
def test_headers_go_on_from_one_stream_to_the_next(opened: list[tuple[int, dict[str, str], bool]]) -> None:
    client, decoder = Client(), Decoder()
    sent = b"".join(client.syn_stream(stream, headers, flags=fin) for stream, headers, fin in opened)
    assert decoded(decoder, sent) == [SynStream(*each) for each in opened]


def test_headers_that_are_not_used_are_inflated_all_the_same() -> None:
    client, decoder = Client(), Decoder()
    sent = client.syn_stream(1, {"streamtype": "error"})
    sent += control(8, struct.pack("!I", 1) + client.block({"a": "b"}))
    sent += client.syn_stream(3, {"a": "b"})
    assert decoded(decoder, sent) == [
        SynStream(1, {"streamtype": "error"}, False),
        None,
        SynStream(3, {"a": "b"}, False),
    ]


@given(STREAMS, st.binary(max_size=200), st.booleans(), st.integers(0, 3))
def test_data_comes_back(stream: int, content: bytes, fin: bool, more: int) -> None:
    """In frames that fit, of which only the last says that it is."""
    content += bytes(more * spdy.DATA_SIZE)
    frames = decoded(Decoder(), spdy.data(stream, content, fin=fin))
    data = [frame for frame in frames if isinstance(frame, Data)]
    assert len(data) == len(frames) >= 1
    assert {frame.stream for frame in data} == {stream}
    assert b"".join(frame.data for frame in data) == content
    assert [frame.fin for frame in data] == [False] * (len(data) - 1) + [fin]


@pytest.mark.parametrize(
    ("octets", "frame"),
    [
        (control(3, struct.pack("!II", 5, 5)), RstStream(5)),
        (spdy.ping(7), Ping(7)),
        (control(4, struct.pack("!III", 1, 7, 65536)), None),
        (control(9, struct.pack("!II", 0, 1)), None),
        (spdy.go_away(), None),
        (control(77, b"whatever"), None),
    ],
)
def test_control_frames(octets: bytes, frame: spdy.Frame | None) -> None:
    assert decoded(Decoder(), octets) == [frame]


def test_what_is_sent() -> None:
    """The octets as the draft draws them."""
    assert spdy.reset(5, spdy.Reset.INVALID_STREAM) == control(3, struct.pack("!II", 5, 2))
    window = [control(9, struct.pack("!II", stream, 10)) for stream in (5, 0)]
    assert spdy.window_update(5, 10) == b"".join(window)
    encoder, inflater = spdy.Encoder(), zlib.decompressobj(zdict=spdy.DICTIONARY)
    for stream in (1, 3):
        reply = encoder.reply(stream)
        assert reply == control(2, reply[8:])
        assert reply[8:12] == struct.pack("!I", stream)
        assert inflater.decompress(reply[12:]) == bytes(4)


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"GET / HT", "at most 1048576"),
        (bytes(8), "stream 0"),
        (control(1, bytes(10)), "stream 0"),
        (b"\x80\x02" + spdy.ping(1)[2:], "another version"),
        (control(6, b"123"), "ends too early"),
        (control(1, struct.pack("!IIH", 1, 0, 0)), "ends too early"),
        (control(1, struct.pack("!IIH", 1, 0, 0) + b"plain"), "cannot be inflated"),
        (spdy.Encoder().reply(1), "never opened"),
    ],
)
def test_what_is_malformed_is_named(octets: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        decoded(Decoder(), octets)


@pytest.mark.parametrize(
    ("plain", "why"),
    [
        (struct.pack("!I", 2**32 - 1), "ends too early"),
        (struct.pack("!III", 1, 2**32 - 1, 0), "headers that end too early"),
        (bytes(10_000_000), "16384 octets or more"),
    ],
)
def test_headers_with_false_lengths(plain: bytes, why: str) -> None:
    """Ten million octets are few when deflated: they are not inflated."""
    octets = control(1, struct.pack("!IIH", 1, 0, 0) + Client().deflated(plain))
    with pytest.raises(Malformed, match=why):
        decoded(Decoder(), octets)


@given(st.integers(0, 2**32 - 1), st.integers(0, 255), st.binary(max_size=300))
def test_any_frame_is_read_or_refused(word: int, flags: int, payload: bytes) -> None:
    with suppress(Malformed):
        Decoder().decode(struct.pack("!II", word, flags << 24 | len(payload)), payload)


@given(st.sampled_from(range(1, 10)), st.integers(0, 255), st.binary(max_size=60), st.binary(max_size=300))
def test_any_control_frame_is_read_or_refused(kind: int, flags: int, start: bytes, plain: bytes) -> None:
    """With headers that can be inflated and say anything."""
    octets = control(kind, start + Client().deflated(plain), flags)
    with suppress(Malformed):
        decoded(Decoder(), octets)


@pytest.mark.parametrize(
    ("query", "streams"),
    [
        ({}, {"error": 3}),
        ({"stdout": "true", "stderr": "true"}, {"stdout": 1, "stderr": 2, "error": 3}),
        ({"stdin": "1", "stdout": "1", "stderr": "false"}, {"stdin": 0, "stdout": 1, "error": 3}),
        ({"stdin": "true", "stdout": "true", "stderr": "true", "tty": "true"},
         {"stdin": 0, "stdout": 1, "error": 3, "resize": 4}),
    ],
)  # fmt: skip
def test_which_streams_a_client_opens(query: dict[str, str], streams: dict[str, int]) -> None:
    assert expected(query) == streams
