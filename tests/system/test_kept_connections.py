"""Kept connections to a service on the real daemon: what happens if one is closed, and how long one is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.eventually import eventually
from tests.support.rig import Rig
from tests.support.steps import answer, close, close_on_reuse, read_request, then
from tests.support.traffic import Traffic
from tests.support.upstream import Turn, Upstream


@pytest.fixture
def make_rig() -> Iterator[Callable[..., Rig]]:
    with ExitStack() as stack:
        yield lambda *args, **more: stack.enter_context(Rig(*args, **more))


def venue(**options: str) -> str:
    keys = "".join(f", {key}: {value}" for key, value in options.items())
    return f'log: {{access: all}}\nservices: {{venue: {{endpoints: ["$venue"]{keys}}}}}'


def attempts(rig: Rig) -> list[list[str]]:
    return [
        [one["reason"] for one in line["attempts"]] for line in rig.daemon.log_lines() if line.get("event") == "request"
    ]


# A connection that is closed as the request is sent.


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_each_copy_that_was_sent_is_listed(make_rig: Callable[..., Rig], method: str) -> None:
    rig = make_rig(venue(retry="{max_retries: 0}"), upstreams={"venue": Upstream(close_on_reuse(answer()))})
    first = rig.ask("GET", "/venue/")
    second = rig.ask(method, "/venue/", body=None if method == "GET" else b"x")
    assert (first.status, second.status, second.get("x-envoy-attempt-count")) == (200, 200, "2")
    assert rig["venue"].hits == 3
    eventually(lambda: attempts(rig) == [["ok"], ["stale_connection", "ok"]])
    counted = rig.daemon.metrics()
    assert counted.total("sidecar_attempts_total", service="venue", reason="stale_connection") == 1
    assert counted.total("sidecar_retries_total", service="venue", result="stale_connection") == 1
    assert counted.total("sidecar_breaker_events_total", service="venue", event="failure") == 0


@pytest.mark.parametrize(("retries", "copies"), [(0, 1), (2, 3)])
def test_a_service_that_worked_on_it_for_a_while_gets_no_free_copy(
    make_rig: Callable[..., Rig], retries: int, copies: int
) -> None:
    def works_and_closes(turn: Turn) -> None:
        turn.read()
        time.sleep(0.3)
        turn.close()

    rig = make_rig(
        venue(retry=f"{{max_retries: {retries}, backoff: {{base: 1ms, max: 1ms}}}}"),
        upstreams={"venue": Upstream(answer(), works_and_closes)},
    )
    assert rig.ask("GET", "/venue/").status == 200
    response = rig.ask("GET", "/venue/")
    assert (response.status, response.reason) == (502, "reset")
    assert rig["venue"].hits == 1 + copies
    assert [one["reason"] for one in response.json()["attempts"]] == ["reset"] * copies


def test_a_post_gets_no_free_copy(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(venue(), upstreams={"venue": Upstream(close_on_reuse(answer()))})
    assert rig.ask("GET", "/venue/").status == 200
    assert rig.ask("POST", "/venue/", body=b"x").reason == "reset"
    assert rig["venue"].hits == 2


# What cannot be sent again.


def closes_what_was_idle(turn: Turn) -> None:
    """Answers the first request of a connection, and closes it as the second one begins to arrive, after a pause."""
    if turn.connection.served == 0:
        answer()(turn)
    else:
        then(read_request, close)(turn)


@pytest.mark.parametrize("headers", [[], [("Transfer-Encoding", "chunked")]])
def test_a_large_upload_takes_no_connection_that_was_idle_for_long(
    make_rig: Callable[..., Rig], headers: list[tuple[str, str]]
) -> None:
    rig = make_rig(venue(), upstreams={"venue": Upstream(closes_what_was_idle)})
    for _ in range(3):
        assert rig.ask("GET", "/venue/").status == 200
        time.sleep(1.1)  # the bound is a second
        body = b"x" * 200_000
        with rig.client() as client:
            if headers:
                client.send(b"PUT /venue/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
                client.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
                assert client.read_response("PUT").status == 200
            else:
                assert client.ask("PUT", "/venue/", body=body).status == 200
    assert rig.daemon.metric("sidecar_attempts_total", service="venue", reason="ok") == 6


# How long a connection is kept.


@pytest.mark.parametrize(
    ("limits", "connections"),
    [("{max_connection_age: 200ms}", 3), ("{max_connection_age: 'off'}", 1), ("{max_connection_requests: 2}", 2)],
)
def test_a_connection_that_is_over_closes_once_it_is_idle(
    make_rig: Callable[..., Rig], limits: str, connections: int
) -> None:
    rig = make_rig(venue(limits=limits), upstreams={"venue": Upstream(answer())})
    for _ in range(3):
        assert rig.ask("GET", "/venue/").status == 200
        time.sleep(0.25)  # more than the age
    assert len({request.connection for request in rig["venue"].requests}) == connections


def test_traffic_loses_nothing_as_connections_are_renewed(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(
        venue(limits="{max_connection_age: 100ms}", retry="{max_retries: 0}"), upstreams={"venue": Upstream(answer())}
    )
    with Traffic(rig.client, lambda client: client.ask("POST", "/venue/", body=b"x"), every=0.002) as traffic:
        eventually(lambda: len({request.connection for request in list(rig["venue"].requests)}) >= 5, timeout=20)
    assert set(traffic.statuses) == {200}
    assert rig["venue"].hits == traffic.count
