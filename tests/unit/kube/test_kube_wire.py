from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.errors import ApiError, ApiUnreachable, Conflict, Forbidden, Gone, NotFound
from tulle.kube.resources import NODE, PODS
from tulle.kube.streams import exec_query, exit_code
from tulle.kube.wire import body_error, decode_event, lines


async def chunks_of(data: bytes, cuts: list[int]) -> AsyncIterator[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        yield data[start:end]


@given(st.lists(st.binary().filter(lambda b: b.strip() and b"\n" not in b)), st.lists(st.integers(0, 999)))
async def test_lines_do_not_depend_on_how_they_were_cut(wanted: list[bytes], cuts: list[int]) -> None:
    data = b"".join(line + b"\n" for line in wanted) + b"unfinished"
    assert [line async for line in lines(chunks_of(data, cuts))] == wanted


@pytest.mark.parametrize(
    ("code", "error"),
    [(401, Forbidden), (403, Forbidden), (404, NotFound), (409, Conflict), (410, Gone), (500, ApiError)],
)
def test_a_status_becomes_its_error(code: int, error: type[ApiError]) -> None:
    raised = body_error(code, b'{"kind":"Status","message":"so it is","reason":"Why"}')
    assert type(raised) is error
    assert (str(raised), raised.code, raised.reason) == ("so it is", code, "Why")


def test_what_is_no_status_is_quoted() -> None:
    assert str(body_error(502, b"<html>bad gateway")) == "HTTP 502: <html>bad gateway"


def test_a_version_ahead_of_the_server_means_list_again() -> None:
    body = b'{"code":504,"details":{"causes":[{"reason":"ResourceVersionTooLarge"}]},"message":"Too large"}'
    assert isinstance(body_error(504, body), Gone)


def test_an_error_event_is_raised() -> None:
    with pytest.raises(Gone, match="too old"):
        decode_event(PODS, b'{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}')


def test_an_object_that_does_not_fit_keeps_its_name(caplog: pytest.LogCaptureFixture) -> None:
    node = {"metadata": {"name": "n", "resourceVersion": "7"}, "spec": {"podCIDRs": "10.0.0.0/24"}}
    event = decode_event(NODE, msgspec.json.encode({"type": "ADDED", "object": node}))
    assert (event.item.key, event.item.version, event.item.value) == (("", "n"), "7", None)
    assert "Node n cannot be used" in caplog.text
    assert "podCIDRs" in caplog.text


def test_exec_asks_for_what_it_needs() -> None:
    assert exec_query(["echo", "a b"], None, with_stdin=False) == [
        ("command", "echo"),
        ("command", "a b"),
        ("stdout", "true"),
        ("stderr", "true"),
    ]
    assert ("container", "c") in exec_query(["cat"], "c", with_stdin=True)
    assert ("stdin", "true") in exec_query(["cat"], "c", with_stdin=True)


def test_exit_codes() -> None:
    failed = {
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
    }
    assert exit_code(b'{"status":"Success"}') == 0
    assert exit_code(msgspec.json.encode(failed)) == 3
    with pytest.raises(ApiError, match="no such file"):
        exit_code(b'{"status":"Failure","reason":"InternalError","message":"no such file","code":500}')
    with pytest.raises(ApiUnreachable):
        exit_code(b"garbage")


def test_a_bookmark_of_a_typed_resource_is_no_broken_object(caplog: pytest.LogCaptureFixture) -> None:
    line = b'{"type":"BOOKMARK","object":{"kind":"Node","metadata":{"resourceVersion":"7"}}}'
    event = decode_event(NODE, line)
    assert (event.type, event.item.version, event.item.value) == ("BOOKMARK", "7", None)
    assert not caplog.records
