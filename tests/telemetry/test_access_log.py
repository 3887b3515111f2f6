"""The access log: the content of a line, what it never contains, and when it is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.telemetry.access_log import FLUSH_AFTER_S, FLUSH_BYTES, AccessLog

NOW = 1795401064.25
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class FakeTimer:
    def __init__(self, loop: FakeLoop, delay_s: float, call: Callable[[], None]) -> None:
        self.loop = loop
        self.delay_s = delay_s
        self.call = call

    def cancel(self) -> None:
        self.loop.timers.remove(self)


class FakeLoop:
    """Timers that fire when they are told to."""

    def __init__(self) -> None:
        self.timers: list[FakeTimer] = []

    def call_later(self, delay_s: float, call: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(self, delay_s, call)
        self.timers.append(timer)
        return timer

    def fire(self) -> None:
        for timer in self.timers[:]:
            timer.call()


class Log:
    """An access log, its timers, and what it wrote."""

    def __init__(self, mode: Literal["off", "errors", "all"] = "all", *, query: bool = False) -> None:
        self.loop = FakeLoop()
        self.now = NOW
        self.writes: list[bytes] = []
        self.log = AccessLog(mode, self.writes.append, cast(Any, self.loop), query=query, clock=lambda: self.now)

    def request(self, **changed: Any) -> None:
        said: dict[str, Any] = {
            "service": "venue",
            "route": "",
            "method": "GET",
            "target": b"/venue/events/42",
            "request_id": b"request-1",
            "traceparent": None,
            "code": 200,
            "reason": "ok",
            "detail": "",
            "attempts": [],
            "seconds": 0.01234,
        }
        self.log.request(**(said | changed))

    def entries(self) -> list[dict[str, Any]]:
        self.log.flush()
        written = b"".join(self.writes)
        assert written.endswith(b"\n")
        return [json.loads(line) for line in written.removesuffix(b"\n").split(b"\n")]

    def entry(self) -> dict[str, Any]:
        (entry,) = self.entries()
        return entry


class Attempt(msgspec.Struct):
    endpoint: str
    reason: str
    status: int | None
    duration_ms: float


@pytest.mark.parametrize(
    ("mode", "wants_all", "wants_errors"), [("off", False, False), ("errors", False, True), ("all", True, True)]
)
def test_the_mode_selects_the_requests(
    mode: Literal["off", "errors", "all"], wants_all: bool, wants_errors: bool
) -> None:
    log = Log(mode).log
    assert (log.all, log.errors) == (wants_all, wants_errors)


def test_a_request_that_went_well() -> None:
    log = Log()
    log.request(attempts=[Attempt("10.0.0.7:3002", "ok", 200, 12.1)], received=10, sent=150)
    assert log.entry() == {
        "time": "2026-11-23T02:31:04.250Z",
        "level": "info",
        "event": "request",
        "request_id": "request-1",
        "service": "venue",
        "method": "GET",
        "target": "/venue/events/42",
        "status": 200,
        "reason": "ok",
        "duration_ms": 12.3,
        "upstream_ms": 12.1,
        "waiting_ms": 0.0,
        "bytes_received": 10,
        "bytes_sent": 150,
        "attempts": [{"endpoint": "10.0.0.7:3002", "reason": "ok", "status": 200, "duration_ms": 12.1}],
        "endpoint": "10.0.0.7:3002",
    }


def test_a_request_whose_attempts_waited() -> None:
    """An attempt's time begins before its connection is there; the line tells the two apart."""
    log = Log()
    attempts = [Attempt("10.0.0.7:3002", "connect_timeout", None, 100.0), Attempt("10.0.0.8:3002", "ok", 200, 12.1)]
    log.request(attempts=attempts, seconds=0.1627, connecting_s=0.1021, backoff_s=0.05)
    entry = log.entry()
    assert (entry["duration_ms"], entry["upstream_ms"], entry["waiting_ms"]) == (162.7, 10.0, 152.1)
    assert entry["endpoint"] == "10.0.0.8:3002"


def test_a_request_without_attempts() -> None:
    log = Log()
    log.request(code=503, reason="circuit_open", connecting_s=0.0001)
    entry = log.entry()
    assert (entry["upstream_ms"], entry["attempts"], "endpoint" in entry) == (0.0, [], False)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (NOW, "2026-11-23T02:31:04.250Z"),
        (NOW + 0.7499, "2026-11-23T02:31:04.999Z"),
        (NOW + 0.75, "2026-11-23T02:31:05.000Z"),
        (NOW - 1, "2026-11-23T02:31:03.250Z"),
        (0.001, "1970-01-01T00:00:00.001Z"),
    ],
)
def test_the_time_is_the_clocks_whichever_way_that_was_set(now: float, said: str) -> None:
    log = Log()
    log.request()
    log.now = now
    log.request()
    assert [entry["time"] for entry in log.entries()] == ["2026-11-23T02:31:04.250Z", said]


def test_the_line_of_a_failed_request_says_where_and_why() -> None:
    log = Log()
    failed = [Attempt("10.0.0.7:3002", "reset", None, 3.0), Attempt("10.0.0.8:3002", "reset", None, 4.0)]
    log.request(code=502, reason="reset", detail="it broke", route="POST /reports", traceparent=TRACE, attempts=failed)
    entry = log.entry()
    assert (entry["level"], entry["status"], entry["reason"], entry["detail"]) == ("warning", 502, "reset", "it broke")
    assert entry["route"] == "POST /reports"
    assert entry["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert [attempt["endpoint"] for attempt in entry["attempts"]] == ["10.0.0.7:3002", "10.0.0.8:3002"]


def test_a_request_that_reached_no_service() -> None:
    log = Log()
    target = b"/venu/x?token=secret"
    log.log.refused("request-1", "GET", 404, "unknown_service", "no service of that name is configured", target)
    entry = log.entry()
    assert entry.pop("time")
    assert entry == {
        "level": "warning",
        "event": "request",
        "service": "",
        "method": "GET",
        "target": "/venu/x",
        "status": 404,
        "reason": "unknown_service",
        "detail": "no service of that name is configured",
        "request_id": "request-1",
    }


@pytest.mark.parametrize(("reason", "level"), [("ok", "info"), ("partial", "warning")])
def test_a_request_for_an_aggregate(reason: str, level: str) -> None:
    log = Log()
    log.log.aggregate(
        name="venue-page",
        method="GET",
        request_id=b"request-1",
        traceparent=TRACE,
        code=200,
        reason=reason,
        detail="events: not_json",
        seconds=0.25,
    )
    entry = log.entry()
    assert entry.pop("time")
    assert entry == {
        "level": level,
        "event": "request",
        "service": "",
        "aggregate": "venue-page",
        "method": "GET",
        "status": 200,
        "reason": reason,
        "duration_ms": 250.0,
        "detail": "events: not_json",
        "request_id": "request-1",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    }


@pytest.mark.parametrize(
    ("target", "logged"),
    [
        (b"/venue/x?token=secret", "/venue/x"),
        (b"/venue?secret?secret", "/venue"),
        (b"/?secret", "/"),
        (b"http://venue/x?secret=/secret", "http://venue/x"),
        (b"*", "*"),
        (b"/venue/%3Fx", "/venue/%3Fx"),
    ],
)
def test_the_query_is_never_logged(target: bytes, logged: str) -> None:
    log = Log()
    log.request(target=target)
    assert log.entry()["target"] == logged
    assert b"secret" not in b"".join(log.writes)


@pytest.mark.parametrize("target", [None, b"http://user:secret@venue/", b"*", b"venue:80"])
def test_a_refused_target_is_logged_only_where_it_is_a_path(target: bytes | None) -> None:
    log = Log(query=True)
    log.log.refused("request-1", "GET", 400, "bad_request", "the authority has user information", target)
    assert "target" not in log.entry()


def test_the_query_is_logged_if_configured() -> None:
    log = Log(query=True)
    log.request(target=b"/venue/x?a=1")
    log.log.refused("request-1", "GET", 404, "unknown_service", "", b"/venu/x?b=2")
    assert [entry["target"] for entry in log.entries()] == ["/venue/x?a=1", "/venu/x?b=2"]


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_no_query_is_ever_logged(path: bytes, query: bytes) -> None:
    log = Log()
    log.request(target=b"/" + path.replace(b"?", b"") + b"?" + query)
    without = Log()
    without.request(target=b"/" + path.replace(b"?", b""))
    assert log.entry() | {"time": ""} == without.entry() | {"time": ""}


@pytest.mark.parametrize(
    ("traceparent", "trace_id"),
    [
        (TRACE, "4bf92f3577b34da6a3ce929d0e0e4736"),
        (TRACE.replace(b"00-", b"cc-", 1) + b"-what-a-later-version-adds", "4bf92f3577b34da6a3ce929d0e0e4736"),
        (None, None),
        (b"", None),
        (TRACE[:-1], None),
        (TRACE + b"0", None),
        (TRACE.upper(), None),
        (TRACE + b"-more", None),
        (TRACE.replace(b"00-", b"ff-", 1), None),
        (b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01", None),
        (b"00-4bf92f3577b34da6a3ce929d0e0e4736-" + b"0" * 16 + b"-01", None),
        (TRACE + b", " + TRACE, None),
        (b"Bearer secret-secret-secret-secret-secret-secret-secret", None),
        (b"00-" + b"s" * 32 + b"-00f067aa0ba902b7-01", None),
    ],
)
def test_only_a_valid_trace_id_is_logged(traceparent: bytes | None, trace_id: str | None) -> None:
    log = Log()
    log.request(traceparent=traceparent)
    entry = log.entry()
    assert entry.get("trace_id") == trace_id
    assert b"secret" not in b"".join(log.writes)


@given(st.binary(), st.binary(), st.text(), st.text())
def test_any_request_gives_one_line_without_control_characters(
    target: bytes, request_id: bytes, detail: str, method: str
) -> None:
    log = Log()
    log.request(target=target, request_id=request_id, detail=detail)
    log.log.refused(request_id.decode("latin-1"), method, 400, "bad_request", detail)
    requested, refused = log.entries()
    assert requested["request_id"] == refused["request_id"] == request_id.decode("latin-1")
    assert requested["target"] == target.partition(b"?")[0].decode("latin-1")
    text = b"".join(log.writes).decode().replace("\n", "")
    assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in text)


def test_lines_wait_a_moment_and_are_written_together() -> None:
    log = Log()
    log.request(request_id=b"1")
    log.request(request_id=b"2")
    assert log.writes == []
    assert [timer.delay_s for timer in log.loop.timers] == [FLUSH_AFTER_S]
    log.loop.fire()
    assert len(log.writes) == 1
    assert [entry["request_id"] for entry in log.entries()] == ["1", "2"]
    assert log.loop.timers == []


@pytest.mark.parametrize(("short_by", "written"), [(1, 0), (0, 1), (-1, 1)])
def test_many_bytes_are_written_before_the_moment_is_over(short_by: int, written: int) -> None:
    log = Log()
    log.request(target=b"")
    log.log.flush()
    empty = len(log.writes.pop())
    log.request(target=b"/" * (FLUSH_BYTES - empty - short_by))
    assert len(log.writes) == written
    assert len(log.loop.timers) == 1 - written
    assert len(log.entries()) == 1


def test_half_a_surrogate_pair_is_escaped_and_its_neighbours_stay() -> None:
    log = Log()
    log.request(detail="before")
    log.request(detail="\udcff")
    log.request(detail="after")
    assert [entry["detail"] for entry in log.entries()] == ["before", "\udcff", "after"]


def test_a_timer_is_started_again_after_a_flush() -> None:
    log = Log()
    log.request()
    log.log.flush()
    assert log.loop.timers == []
    log.request()
    assert len(log.loop.timers) == 1


def test_flushing_nothing_writes_nothing() -> None:
    log = Log()
    log.log.flush()
    log.log.flush()
    assert log.writes == []
