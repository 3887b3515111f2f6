"""What the real daemon takes for evidence: which ends of a call count for the breaker and for ejection, and when."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event

import pytest

from tests.support.client import Response, request_bytes
from tests.support.eventually import eventually
from tests.support.rig import Rig
from tests.support.steps import answer, close, raw, read_request, silence, then
from tests.support.traffic import Traffic
from tests.support.upstream import ConnectBlackHole, Turn, Upstream

SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
)


def window(rig: Rig, service: str, kind: str) -> float:
    return rig.daemon.metric("sidecar_breaker_events_total", service=service, event=kind)


def state(rig: Rig, service: str) -> str:
    scraped = rig.daemon.metrics()
    active = [
        one for one in ("closed", "open", "half_open")
        if scraped.total("sidecar_breaker_state", service=service, state=one) == 1
    ]  # fmt: skip
    (only,) = active
    return only


def ejected(rig: Rig, service: str) -> float:
    return rig.daemon.metric("sidecar_ejected_endpoints", service=service)


@pytest.fixture
def make_rig() -> Iterator[Callable[..., Rig]]:
    with ExitStack() as stack:
        yield lambda *args, **more: stack.enter_context(Rig(*args, **more))


# Impatience.

HANGS = """
defaults: {breaker: {volume_threshold: 5, reset_timeout: 60s}, retry: {max_retries: 0}}
services:
  hangs: {endpoints: ["$hangs"], routes: [{match: {path: /poll}, impatience: ignore}]}
aggregates:
  page: {timeout: 350ms, parts: {a: {service: hangs, path: /}}}
"""


def aggregate(rig: Rig) -> Response:
    return rig.ask("GET", "/_aggregate/page")


def deadline_of_the_app(rig: Rig) -> Response:
    return rig.ask("GET", "/hangs/", [("x-envoy-upstream-rq-timeout-ms", "350")])


def deadline_of_the_caller(rig: Rig) -> Response:
    return rig.ask("GET", "/hangs/", [("x-envoy-expected-rq-timeout-ms", "350")])


def hang_up(rig: Rig) -> None:
    with rig.client() as client:
        client.send(request_bytes("GET", "/hangs/"))
        time.sleep(0.35)


@pytest.mark.parametrize("ask", [aggregate, deadline_of_the_app, deadline_of_the_caller, hang_up])
def test_who_gives_up_after_long_enough_opens_the_breaker(
    make_rig: Callable[..., Rig], ask: Callable[[Rig], object]
) -> None:
    rig = make_rig(HANGS, upstreams={"hangs": Upstream(silence)})
    with ThreadPoolExecutor(5) as threads:
        list(threads.map(lambda _: ask(rig), range(5)))
    eventually(lambda: state(rig, "hangs") == "open")
    assert window(rig, "hangs", "failure") == 5
    assert window(rig, "hangs", "timeout") == 5


@pytest.mark.parametrize("headers", [[("x-envoy-upstream-rq-timeout-ms", "60")], []])
def test_who_gives_up_too_soon_says_nothing(make_rig: Callable[..., Rig], headers: list[tuple[str, str]]) -> None:
    rig = make_rig(HANGS, upstreams={"hangs": Upstream(silence)})
    for _ in range(6):
        with rig.client() as client:
            client.send(request_bytes("GET", "/hangs/", headers))
            if headers:
                assert client.read_response().status == 504
            else:
                assert eventually(lambda: rig["hangs"].hits > 0)
    rig.idle("hangs")
    assert (window(rig, "hangs", "failure"), state(rig, "hangs")) == (0, "closed")


def test_a_route_of_long_polls_forgives_impatience(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(HANGS, upstreams={"hangs": Upstream(silence)})
    for _ in range(6):
        assert rig.ask("GET", "/hangs/poll", [("x-envoy-upstream-rq-timeout-ms", "300")]).status == 504
    assert (window(rig, "hangs", "failure"), state(rig, "hangs")) == (0, "closed")


def test_what_is_long_enough_is_learned_from_successes(make_rig: Callable[..., Rig]) -> None:
    """A quick service: 40 ms are enough once 20 answers are known. The same 40 ms blame nobody before."""
    rig = make_rig(HANGS, upstreams={"hangs": Upstream(*[answer()] * 20, silence)})
    for _ in range(20):
        assert rig.ask("GET", "/hangs/").status == 200
    given_ms = 200  # far over twice what the answers took, and under the 250 ms for a service of which little is known
    for _ in range(3):
        assert rig.ask("GET", "/hangs/", [("x-envoy-upstream-rq-timeout-ms", str(given_ms))]).status == 504
    assert window(rig, "hangs", "failure") == 3


def test_an_app_that_still_sends_is_no_evidence(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(HANGS, upstreams={"hangs": Upstream(silence)})
    for _ in range(6):
        with rig.client() as client:
            client.send(b"POST /hangs/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf")
            time.sleep(0.3)
    rig.idle("hangs")
    assert window(rig, "hangs", "failure") == 0


def test_many_calls_at_once_that_one_endpoint_leaves_hanging_open_nothing(make_rig: Callable[..., Rig]) -> None:
    config = 'services: {venue: {endpoints: ["$hangs", "$well"]}}'
    rig = make_rig(config, upstreams={"hangs": Upstream(silence), "well": Upstream(answer())})
    with ThreadPoolExecutor(80) as threads:
        deadline = [("x-envoy-upstream-rq-timeout-ms", "2000")]  # which a busy machine does not need
        statuses = list(threads.map(lambda _: rig.ask("GET", "/venue/", deadline).status, range(80)))
    assert statuses.count(504) <= 41
    assert (state(rig, "venue"), ejected(rig, "venue")) == ("closed", 1)
    assert {rig.ask("POST", "/venue/").status for _ in range(20)} == {200}


def test_an_endpoint_on_which_apps_give_up_is_ejected(make_rig: Callable[..., Rig]) -> None:
    config = """
services:
  venue: {endpoints: ["$hangs", "$well"]}
"""
    rig = make_rig(config, upstreams={"hangs": Upstream(silence), "well": Upstream(answer())})
    with ThreadPoolExecutor(12) as threads:
        deadline = [("x-envoy-upstream-rq-timeout-ms", "2000")]  # which a busy machine does not need
        list(threads.map(lambda _: rig.ask("GET", "/venue/", deadline), range(12)))
    eventually(lambda: ejected(rig, "venue") == 1)
    hits = rig["hangs"].hits
    assert {rig.ask("GET", "/venue/").status for _ in range(20)} == {200}
    assert rig["hangs"].hits == hits


def test_a_black_hole_is_a_failure_for_a_short_deadline_too(make_rig: Callable[..., Rig]) -> None:
    config = """
defaults: {breaker: {volume_threshold: 5, reset_timeout: 60s}, retry: {max_retries: 0}, timeout: {connect: 5s}}
services: {hole: {endpoints: ["$hole"]}}
"""
    rig = make_rig(config, dead={"hole": ConnectBlackHole()})
    for _ in range(5):
        response = rig.ask("GET", "/hole/", [("x-envoy-upstream-rq-timeout-ms", "300")])
        assert response.reason == "request_timeout"
    assert state(rig, "hole") == "open"


def test_waiting_for_a_connection_to_be_given_back_blames_nobody(make_rig: Callable[..., Rig]) -> None:
    config = """
defaults:
  breaker: {volume_threshold: 2, reset_timeout: 60s}
  retry: {max_retries: 0}
  timeout: {connect: 5s}
  limits: {max_connections: 1}
services: {venue: {endpoints: ["$venue"]}}
"""
    rig = make_rig(config, upstreams={"venue": Upstream(silence)})
    with rig.client() as holder:
        holder.send(request_bytes("GET", "/venue/"))
        eventually(lambda: rig["venue"].hits == 1)
        for _ in range(3):
            response = rig.ask("GET", "/venue/", [("x-envoy-upstream-rq-timeout-ms", "300")])
            assert response.reason == "request_timeout"
        assert window(rig, "venue", "failure") == 0


def test_the_outcome_is_that_of_the_last_attempt_that_counts(make_rig: Callable[..., Rig]) -> None:
    config = """
defaults:
  breaker: {volume_threshold: 5, reset_timeout: 60s}
  retry: {backoff: {base: 1ms, max: 1ms}}
services: {venue: {endpoints: ["$venue"]}}
"""
    rig = make_rig(config, upstreams={"venue": Upstream(*[answer(503), silence] * 5, silence)})
    for _ in range(5):
        response = rig.ask("GET", "/venue/", [("x-envoy-upstream-rq-timeout-ms", "240")])
        assert response.reason == "request_timeout"
    assert window(rig, "venue", "failure") == 5


# Half-open probes.

PROBED = """
defaults:
  breaker: {volume_threshold: 3, reset_timeout: 500ms}
  retry: {max_retries: 0}
  timeout: {attempt: 1s}
services: {venue: {endpoints: ["$venue"]}}
"""


def open_breaker(rig: Rig) -> None:
    for _ in range(3):
        assert rig.ask("GET", "/venue/").status == 500
    assert state(rig, "venue") == "open"
    eventually(lambda: state(rig, "venue") == "half_open")


def test_a_probe_that_streams_closes_the_breaker_at_its_head(make_rig: Callable[..., Rig]) -> None:
    stream = then(raw(SSE_HEAD), Turn.wait_for_gate, close)
    rig = make_rig(PROBED, upstreams={"venue": Upstream(*[answer(500)] * 3, stream, answer())})
    open_breaker(rig)
    with rig.client() as probe:
        probe.send(request_bytes("GET", "/venue/"))
        assert probe.read_head().status == 200
        assert {rig.ask("GET", "/venue/").status for _ in range(5)} == {200}
        assert state(rig, "venue") == "closed"
        rig["venue"].gate.set()


def test_a_probe_whose_app_reads_nothing_closes_the_breaker(make_rig: Callable[..., Rig]) -> None:
    large = answer(200, b"x" * 8_000_000)
    rig = make_rig(PROBED, upstreams={"venue": Upstream(*[answer(500)] * 3, large, answer())})
    open_breaker(rig)
    with rig.client(receive_buffer=4096) as probe:
        probe.send(request_bytes("GET", "/venue/"))
        assert probe.read_head().status == 200
        assert rig.ask("GET", "/venue/").status == 200


def test_a_probe_that_fails_opens_it_at_its_head(make_rig: Callable[..., Rig]) -> None:
    failing = then(raw(b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"), Turn.wait_for_gate, close)
    rig = make_rig(PROBED, upstreams={"venue": Upstream(*[answer(500)] * 3, failing, answer())})
    open_breaker(rig)
    with rig.client() as probe:
        probe.send(request_bytes("GET", "/venue/"))
        assert probe.read_head().status == 500
        assert state(rig, "venue") == "open"
        rig["venue"].gate.set()


def test_a_probe_whose_app_sends_for_long_makes_room_and_may_still_close_it(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(PROBED, upstreams={"venue": Upstream(*[answer(500)] * 3, answer(), answer(500))})
    open_breaker(rig)
    with rig.client() as slow:
        slow.send(b"POST /venue/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n")
        eventually(lambda: rig["venue"].hits == 4)
        assert rig.ask("GET", "/venue/").reason == "circuit_open"
        eventually(lambda: rig.daemon.metric("sidecar_in_flight_requests", service="venue") == 1)
        begun = time.monotonic()
        for byte in (b"b", b"o", b"d"):
            slow.send(byte)
            time.sleep(0.45)
        assert time.monotonic() - begun > 1.0
        assert rig.ask("GET", "/venue/").status == 500, "the next probe"
        assert state(rig, "venue") == "open"
        slow.send(b"y")
        assert slow.read_response("POST").status == 200


def test_a_probe_that_is_given_up_too_soon_is_followed_after_a_second(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(PROBED, upstreams={"venue": Upstream(*[answer(500)] * 3, silence)})
    open_breaker(rig)
    began = time.monotonic()
    for _ in range(40):
        response = rig.ask("GET", "/venue/", [("x-envoy-upstream-rq-timeout-ms", "50")])
        assert response.reason in ("request_timeout", "circuit_open")
        time.sleep(0.05)
    probes = rig["venue"].hits - 3
    assert 1 <= probes <= (time.monotonic() - began) / 1.0 + 1
    assert state(rig, "venue") == "half_open"


def test_a_probe_that_is_given_up_late_is_a_failure(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(PROBED, upstreams={"venue": Upstream(*[answer(500)] * 3, silence)})
    open_breaker(rig)
    assert rig.ask("GET", "/venue/", [("x-envoy-upstream-rq-timeout-ms", "400")]).reason == "request_timeout"
    assert state(rig, "venue") == "open"


def test_an_open_breaker_that_would_let_a_call_through_shows_half_open(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(PROBED, upstreams={"venue": Upstream(answer(500))})
    for _ in range(3):
        rig.ask("GET", "/venue/")
    opened = time.monotonic()
    assert state(rig, "venue") == "open"
    time.sleep(max(0.0, opened + 0.52 - time.monotonic()))  # reset_timeout, which nothing shows before it is over
    assert state(rig, "venue") == "half_open"


# Streams.

STREAMS = """
defaults:
  breaker: {volume_threshold: 5, reset_timeout: 60s}
  retry: {max_retries: 0}
  timeout: {attempt: 300ms, idle: $idle}
  outlier: {consecutive_failures: 3}
services: {venue: {endpoints: ["$first", "$second"]}}
"""


def streams(rig: Rig, count: int, stack: ExitStack) -> None:
    for _ in range(count):
        client = stack.enter_context(rig.client())
        client.send(request_bytes("GET", "/venue/"))
        assert client.read_head().status == 200


def test_streams_that_ran_for_long_and_end_open_and_eject_nothing(make_rig: Callable[..., Rig]) -> None:
    gone = then(raw(SSE_HEAD), Turn.wait_for_gate, close)
    stays = then(raw(SSE_HEAD), Turn.wait_closed)
    rig = make_rig(STREAMS.replace("$idle", "60s"), upstreams={"first": Upstream(gone), "second": Upstream(stays)})
    with ExitStack() as stack:
        streams(rig, 24, stack)
        eventually(lambda: window(rig, "venue", "success") == 24)
        rig["first"].gate.set()
        eventually(lambda: rig.daemon.metric("sidecar_attempts_total", service="venue", reason="truncated") == 12)
        assert window(rig, "venue", "failure") == 0
        assert (state(rig, "venue"), ejected(rig, "venue")) == ("closed", 0)


def test_a_stream_that_breaks_soon_is_a_failure(make_rig: Callable[..., Rig]) -> None:
    breaks = then(raw(SSE_HEAD), close)
    config = STREAMS.replace("$idle", "60s").replace("attempt: 300ms", "attempt: 5s")
    rig = make_rig(config, upstreams={"first": Upstream(breaks), "second": Upstream(breaks)})
    for _ in range(5):
        assert rig.ask("GET", "/venue/").end != "whole"
    eventually(lambda: state(rig, "venue") == "open")


@pytest.mark.parametrize("attempt", ["300ms", "5s"])
def test_quiet_streams_that_the_sidecar_cuts_are_no_failure(make_rig: Callable[..., Rig], attempt: str) -> None:
    quiet = then(raw(SSE_HEAD), Turn.wait_closed)
    config = STREAMS.replace("$idle", "500ms").replace("attempt: 300ms", f"attempt: {attempt}")
    rig = make_rig(config, upstreams={"first": Upstream(quiet), "second": Upstream(quiet)})
    with ExitStack() as stack:
        streams(rig, 12, stack)
        eventually(lambda: rig.daemon.metric("sidecar_attempts_total", service="venue", reason="truncated") == 12)
    assert window(rig, "venue", "failure") == 0
    assert (state(rig, "venue"), ejected(rig, "venue")) == ("closed", 0)


# Balancer.


@pytest.mark.parametrize("fails", [silence, answer(503), then(read_request, close)])
def test_peak_ewma_turns_away_from_an_endpoint_that_fails(
    make_rig: Callable[..., Rig], fails: Callable[[Turn], None]
) -> None:
    """The quick one of two begins to fail; of what follows it gets less than round robin would give it."""
    config = """
defaults: {retry: {max_retries: 0}, timeout: {attempt: 200ms}, breaker: {mode: "off"}, outlier: "off"}
services: {venue: {endpoints: ["$quick", "$slow"], balancer: peak_ewma}}
"""
    broken = Event()

    def quick(turn: Turn) -> None:
        (fails if broken.is_set() else answer())(turn)

    def slow(turn: Turn) -> None:
        turn.read()
        time.sleep(0.01)
        answer()(turn)

    rig = make_rig(config, upstreams={"quick": Upstream(quick), "slow": Upstream(slow)})
    for _ in range(40):
        assert rig.ask("GET", "/venue/").status == 200
    broken.set()
    failed = sum(rig.ask("GET", "/venue/").status != 200 for _ in range(60))
    assert failed <= 20


# Ejection.


def test_defaults_protect_from_one_of_two_that_answers_503(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(
        'services: {venue: {endpoints: ["$sick", "$well"]}}',
        upstreams={"sick": Upstream(answer(503)), "well": Upstream(answer())},
    )
    with Traffic(rig.client, lambda client: client.ask("GET", "/venue/"), every=1 / 60) as traffic:
        eventually(lambda: sum(traffic.statuses.values()) >= 240, timeout=20)
    assert set(traffic.statuses) == {200}
    assert ejected(rig, "venue") == 1
    assert rig["sick"].hits <= 10


def test_a_request_that_fails_everywhere_ejects_nothing(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(
        'services: {venue: {endpoints: ["$first", "$second"], breaker: {mode: "off"}}}',
        upstreams={"first": Upstream(answer(500)), "second": Upstream(answer(500))},
    )
    for _ in range(30):
        assert rig.ask("POST", "/venue/", body=b"bad document").status == 500
    assert rig.daemon.metric("sidecar_endpoint_ejections_total", service="venue") == 0
    assert (rig["first"].hits, rig["second"].hits) == (15, 15)
