"""What the real daemon adds and changes: trace context, Via, loops, Location; hosts with ports; a WebSocket's end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.client import Client
from tests.support.eventually import eventually
from tests.support.rig import Rig
from tests.support.steps import answer, raw
from tests.support.upstream import Turn, Upstream

B3 = [("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-0")]
B3_FIELDS = [
    ("X-B3-TraceId", "80f198ee56343ba864fe8b2a57d3eff7"),
    ("X-B3-SpanId", "e457b5a2e4d86bd1"),
    ("X-B3-Sampled", "0"),
]
DATADOG = [("x-datadog-trace-id", "123"), ("x-datadog-parent-id", "456"), ("x-datadog-sampling-priority", "-1")]
W3C = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"), ("tracestate", "a=b")]


@pytest.fixture
def make_rig() -> Iterator[Callable[..., Rig]]:
    with ExitStack() as stack:
        yield lambda *args, **more: stack.enter_context(Rig(*args, **more))


VENUE = 'services: {venue: {endpoints: ["$venue"]}}'


@pytest.mark.parametrize("context", [[], B3, B3_FIELDS, DATADOG, W3C, [("traceparent", "nonsense")]])
@pytest.mark.parametrize("service", ["venue", "_aggregate/page"])
def test_without_tracing_trace_context_passes_untouched(
    make_rig: Callable[..., Rig], context: list[tuple[str, str]], service: str
) -> None:
    config = VENUE + "\naggregates: {page: {parts: {a: {service: venue, path: /}}}}"
    rig = make_rig(config, upstreams={"venue": Upstream(answer(body=b"{}"))})
    assert rig.ask("GET", f"/{service}", context).status == 200
    names = {name.lower() for name, _ in [*B3, *B3_FIELDS, *DATADOG, *W3C]}
    seen = [(name.lower(), value) for name, value in rig["venue"].last.headers if name.lower() in names]
    assert sorted(seen) == sorted((name.lower(), value) for name, value in context)


@pytest.mark.parametrize(("via", "expected"), [("false", 0), ("true", 1)])
def test_via_is_added_only_where_it_is_asked_for(make_rig: Callable[..., Rig], via: str, expected: int) -> None:
    rig = make_rig(
        f'services: {{venue: {{endpoints: ["$venue"], via: {via}}}}}', upstreams={"venue": Upstream(answer())}
    )
    assert rig.ask("GET", "/venue/", [("Via", "1.1 other")]).status == 200
    assert len(rig["venue"].last.all("via")) == 1 + expected
    assert len(rig["venue"].last.all("x-sidecar-loop")) == 1


def test_an_app_that_copies_headers_may_call_back_and_a_loop_ends(make_rig: Callable[..., Rig]) -> None:
    """The service `round` is the sidecar itself, by a URL that leads back to it."""
    config = """
services:
  venue: {endpoints: ["$venue"]}
  round: {endpoints: ["http://127.0.0.1:$proxy"], retry: {max_retries: 0}}
"""
    rig = make_rig(config, upstreams={"venue": Upstream(answer())})
    assert rig.ask("GET", "/round/venue/").status == 200
    assert rig.ask("GET", "/round/round/venue/").status == 200
    response = rig.ask("GET", "/round/round/round/round/venue/")
    assert (response.status, response.reason) == (508, "loop")
    own = rig["venue"].last.all("x-sidecar-loop")
    response = rig.ask("GET", "/venue/", [("X-Sidecar-Loop", ", ".join([own[-1]] * 3))])
    assert (response.status, response.reason) == (508, "loop")


@pytest.mark.parametrize(
    ("policy", "path", "location", "seen"),
    [
        ("{}", "/venue/account", "/venue/login", "/venue/login"),
        ("{}", "/venue/account", "/login", "/venue/login"),
        ("{}", "/venue/account", "http://$authority/venue/login", "/venue/login"),
        ("{}", "/venue/venue/account", "/venue/login", "/venue/venue/login"),
        ("{prefix_aware: true}", "/venue/venue/account", "/venue/login", "/venue/login"),
        ("{prefix_aware: false}", "/venue/account", "/venue/login", "/venue/venue/login"),
        ("{preserve_host: true}", "/venue/account", "http://shop.example/login", "/venue/login"),
        ("{}", "/venue/account", "http://shop.example/login", "http://shop.example/login"),
    ],
)
def test_location_gets_the_prefix_once(
    make_rig: Callable[..., Rig], policy: str, path: str, location: str, seen: str
) -> None:
    config = 'services: {venue: {endpoints: ["$venue"], POLICY}}'.replace("POLICY", policy.strip("{}") or "hosts: []")
    rig = make_rig(config, upstreams={"venue": Upstream(lambda turn: redirect(turn, location))})
    response = rig.ask("GET", path, host="shop.example")
    assert (response.status, response.get("location")) == (302, seen)


def redirect(turn: Turn, location: str) -> None:
    answer(302, headers=[("Location", location.replace("$authority", turn.upstream.authority))])(turn)


def test_hosts_with_ports_tell_services_apart(make_rig: Callable[..., Rig]) -> None:
    config = """
services:
  first: {endpoints: ["$first"], hosts: ["backend:3001"]}
  second: {endpoints: ["$second"], hosts: ["backend:3002", "anything:*"]}
"""
    rig = make_rig(config, upstreams={"first": Upstream(answer(body=b"1")), "second": Upstream(answer(body=b"2"))})
    for authority, body in [("backend:3001", b"1"), ("backend:3002", b"2"), ("anything:81", b"2"), ("anything", b"2")]:
        assert rig.ask("GET", f"http://{authority}/x", host=authority).body == body
    response = rig.ask("GET", "http://backend:3003/x")
    assert response.status == 404
    assert (
        "first has that name with another port; add backend:3003 to services.first.hosts" in response.json()["detail"]
    )


def test_a_websocket_has_a_line_when_it_ends(make_rig: Callable[..., Rig]) -> None:
    switched = raw(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")

    def tunnel(turn: Turn) -> None:
        switched(turn)
        turn.connection.stream.exactly(3, bytearray())
        turn.wait_closed()

    config = f"log: {{access: all}}\ndrain: {{delay: 10ms, timeout: 1s}}\n{VENUE}"
    rig = make_rig(config, upstreams={"venue": Upstream(tunnel)})

    def ends() -> list[dict[str, object]]:
        return [line for line in rig.daemon.log_lines() if line.get("event") == "websocket"]

    def opened() -> Client:
        client = rig.client()
        client.send(
            b"GET /venue/ HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a\r\n"
            b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        assert client.read_head().status == 101
        assert client.receive(5) == b"hello"
        client.send(b"abc")
        return client

    with opened():
        eventually(lambda: rig["venue"].hits == 1)
    (line,) = eventually(lambda: ends() or False)
    assert (line["ended_by"], line["bytes_received"], line["bytes_sent"]) == ("app", 3, 5)
    assert (line["request_id"], line["service"]) == ("a", "venue")
    assert float(str(line["duration_ms"])) > 0
    with opened():
        rig.daemon.signal()
        rig.daemon.wait(15)
        assert [line["ended_by"] for line in ends()] == ["app", "sidecar"]
