"""An aggregate as a dialogue: what the app asks, what each part is sent, and what one answer they make."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from sidecar.config.path_template import parse_path_template
from sidecar.config.schema import Aggregate, AggregatePart
from sidecar.policy.settings import BreakerSettings, FallbackStatic, Limits, Policy, RetrySettings, Timeouts
from sidecar.proxy.core import ANSWER_BUDGET
from sidecar.proxy.exchange.aggregate import LATER_S, is_json
from sidecar.proxy.exchange.inner_call import MAX_BODY
from sidecar.telemetry.trace import Tracer
from tests.proxy.fakes import PATIENT, Wire, World, field_of, ok, problem, request, status


def part(service: str, path: str, *, required: bool = False, timeout: float | None = None) -> AggregatePart:
    return AggregatePart(service=service, path=parse_path_template(path), required=required, timeout=timeout)


PAGE = Aggregate(
    timeout=2.0,
    parts={
        "venue": part("venue", "/venues/{query.id}", required=True),
        "events": part("event", "/events?venue={query.id}"),
    },
)
BOTH_OPTIONAL = Aggregate(parts={"a": part("venue", "/a"), "b": part("event", "/b")})
AGGREGATES = {"venue-page": PAGE, "optional": BOTH_OPTIONAL}
GET = "GET /_aggregate/venue-page?id=42"


class Page(World):
    """`venue` and `event`, and aggregates of them."""

    def __init__(self, policy: Policy = PATIENT, *, event: Policy | None = None, **more: Any) -> None:
        more = {"aggregates": AGGREGATES, **more}
        super().__init__(policy, others={"event": event or policy}, **more)

    def of(self, service: str) -> Wire:
        """The newest connection to that service."""
        host = "10.0.0.1" if service == "venue" else "10.0.1.1"
        return [dial.wire for dial in self.loop.dials if dial.host == host and dial.wire is not None][-1]

    def recorded(self, name: str = "venue-page") -> dict[tuple[int, str], int]:
        return self.live.aggregates[name].requests

    def in_flight(self) -> list[int]:
        return [service.limit.in_flight for service in self.live.services.values()]


@pytest.fixture
def page() -> Iterator[Page]:
    with Page() as world:
        yield world


@pytest.fixture
def make_page() -> Iterator[Callable[..., Page]]:
    with ExitStack() as stack:
        yield lambda *args, **more: stack.enter_context(Page(*args, **more))


def body(answer: bytes) -> Any:
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert field_of(head, "content-length") == [str(len(rest))]
    return json.loads(rest)


# All well.


def test_each_part_s_body_stands_under_its_key(page: Page) -> None:
    app = page.asks(GET)
    assert page.of("venue").heard.startswith(b"GET /venues/42 HTTP/1.1\r\n")
    assert page.of("event").heard.startswith(b"GET /events?venue=42 HTTP/1.1\r\n")
    page.of("event").says(ok(b'[ {"n": 1} ]'))
    assert app.heard == b""
    page.of("venue").says(ok(b'{"name":"Arena"}\n'))
    assert status(app.heard) == 200
    assert body(app.heard) == {"venue": {"name": "Arena"}, "events": [{"n": 1}]}
    assert list(body(app.heard)) == ["venue", "events"]
    assert field_of(app.heard, "content-type") == ["application/json"]
    assert field_of(app.heard, "cache-control") == ["no-store"]
    assert len(field_of(app.heard, "x-request-id")) == 1
    assert field_of(app.heard, "x-sidecar-reason") == []
    assert app.open
    assert page.recorded() == {(200, "ok"): 1}
    assert page.reasons() == {(200, "ok"): 1}


def test_a_body_is_put_in_as_it_came(page: Page) -> None:
    app = page.asks(GET)
    page.of("venue").says(ok(b'{"b":1.0,"a":1e2,"a":12345678901234567890}'))
    page.of("event").says(ok(b"[]"))
    assert app.heard.endswith(b'{"venue":{"b":1.0,"a":1e2,"a":12345678901234567890},"events":[]}')


PACKED = {
    "gzip": gzip.compress(b"[1, 2]", mtime=0),
    "deflate": zlib.compress(b"[1, 2]"),
    "x-gzip": gzip.compress(b"[1, 2]", mtime=0),
}


@pytest.mark.parametrize("coding", [*PACKED, "GZIP", "identity", ""])
def test_a_body_in_a_coding_that_nobody_asked_for_is_unpacked(page: Page, coding: str) -> None:
    app = page.asks(GET)
    assert field_of(page.of("event").heard, "accept-encoding") == ["identity"]
    fields = [f"Content-Encoding: {coding}"] if coding else []
    packed = b"[1, 2]" if coding == "identity" else PACKED.get(coding.lower(), PACKED["gzip"])
    page.of("event").says(ok(packed, *fields))
    page.of("venue").says(ok(b'\xef\xbb\xbf{"a": 1}'))
    assert app.heard.endswith(b'{"venue":{"a": 1},"events":[1, 2]}')


@pytest.mark.parametrize(
    ("coding", "packed", "reason", "words"),
    [
        ("br", b"\x0b\x02\x80[1, 2]\x03", "not_json", "cannot be undone: br"),
        ("aes128gcm, secret", b"[1]", "not_json", "cannot be undone: unknown to the sidecar"),
        ("gzip, br", b"[1]", "not_json", "cannot be undone: unknown to the sidecar"),
        ("gzip", b"[1]", "not_json", "cannot be undone: gzip"),
        ("gzip", PACKED["gzip"][:-1], "not_json", "cannot be undone: gzip"),
        ("gzip", gzip.compress(b'"' + b"a" * MAX_BODY + b'"', mtime=0), "too_large", "over 1048576 bytes"),
        ("", gzip.compress(bytes(64 << 20), mtime=0), "too_large", "over 1048576 bytes"),
    ],
)
def test_a_coding_that_is_not_undone_is_named(page: Page, coding: str, packed: bytes, reason: str, words: str) -> None:
    error = failed(page, ok(packed, *([f"Content-Encoding: {coding}"] if coding else [])))
    assert (error["status"], error["reason"], words in error["detail"]) == (502, reason, True)
    assert "secret" not in error["detail"]
    assert page.core.answer_budget.left == ANSWER_BUDGET


def test_204_is_null(page: Page) -> None:
    app = page.asks(GET)
    page.of("venue").says(b"HTTP/1.1 204 No Content\r\n\r\n")
    page.of("event").says(ok(b"0"))
    assert body(app.heard) == {"venue": None, "events": 0}


def test_head_is_answered_by_a_head(page: Page) -> None:
    app = page.asks("HEAD /_aggregate/venue-page?id=42")
    assert page.of("venue").heard.startswith(b"GET ")
    page.of("venue").says(ok(b"1"))
    page.of("event").says(ok(b"2"))
    head, _, rest = app.heard.partition(b"\r\n\r\n")
    assert (status(head), rest) == (200, b"")
    assert field_of(head, "content-length") == [str(len('{"venue":1,"events":2}'))]
    assert page.asks("HEAD /_aggregate/venue-page").heard.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("authority", ["localhost:15001", "127.0.0.1:15001"])
def test_an_absolute_target_that_names_the_listener(page: Page, authority: str) -> None:
    app = page.asks(f"GET http://{authority}/_aggregate/optional")
    page.of("venue").says(ok(b"1"))
    page.of("event").says(ok(b"2"))
    assert body(app.heard) == {"a": 1, "b": 2}


def test_a_host_that_names_a_service_is_that_service_s(page: Page) -> None:
    page.app().says(b"GET /_aggregate/optional HTTP/1.1\r\nHost: venue\r\n\r\n")
    assert page.upstream.heard.startswith(b"GET /_aggregate/optional HTTP/1.1\r\n")
    page.upstream.says(ok())


def test_pipelined_aggregates_are_answered_in_order(page: Page) -> None:
    ordinary = request("GET /venue/x")
    app = page.app().says(
        request(GET) + request("GET /_aggregate/optional") + request("GET /_aggregate/none") + ordinary
    )
    for number in (b"1", b"2"):
        page.of("event").says(ok(number))
        page.of("venue").says(ok(number))
    page.of("venue").says(ok(b"last"))
    codes = [one[:3] for one in app.heard.split(b"HTTP/1.1 ")[1:]]
    assert codes == [b"200", b"200", b"404", b"200"]
    assert b'{"venue":1,"events":1}' in app.heard
    assert app.heard.index(b'{"venue":1') < app.heard.index(b'{"a":2,"b":2}') < app.heard.index(b"last")


def test_http_1_0(page: Page) -> None:
    app = page.app().says(b"GET /_aggregate/optional HTTP/1.0\r\n\r\n")
    page.of("venue").says(ok(b"1"))
    page.of("event").says(ok(b"2"))
    assert body(app.heard) == {"a": 1, "b": 2}
    assert app.how == "close"


# What parts are sent.


def test_parts_get_who_asks_and_the_trace_and_nothing_else(page: Page) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    page.asks(
        GET,
        "Authorization: Bearer secret",
        "cookie: a=1",
        "Cookie: b=2",
        f"traceparent: {trace}",
        "tracestate: x=1",
        "X-Request-Id: r-1",
        "Via: 1.1 gateway",
        "X-Evil: 1",
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-Prefix: /elsewhere",
        "Accept: text/html",
        "Accept-Language: de",
        "If-None-Match: *",
        "Range: bytes=0-1",
        "Idempotency-Key: k",
        "Expect: 100-continue",
    )
    for service in ("venue", "event"):
        heard = page.of(service).heard
        names = [line.split(b":")[0].lower() for line in heard.split(b"\r\n")[1:-2]]
        assert set(names) == {
            *(b"host", b"accept", b"accept-encoding", b"authorization", b"cookie", b"traceparent", b"tracestate"),
            *(b"x-request-id", b"via", b"x-envoy-attempt-count", b"x-envoy-expected-rq-timeout-ms"),
            *(b"x-forwarded-prefix", b"x-sidecar-loop"),
        }
        assert field_of(heard, "authorization") == ["Bearer secret"]
        assert field_of(heard, "cookie") == ["a=1", "b=2"]
        assert field_of(heard, "traceparent") == [trace]
        assert field_of(heard, "tracestate") == ["x=1"]
        assert field_of(heard, "x-request-id") == ["r-1"]
        assert field_of(heard, "accept") == ["application/json"]
        assert field_of(heard, "via")[0] == "1.1 gateway"
        assert field_of(heard, "x-forwarded-prefix") == [f"/{service}"]
        page.of(service).says(ok(b"1"))


def test_parts_share_an_id_and_a_trace_that_are_made_for_them(page: Page) -> None:
    page.core.tracer = Tracer(0.0, lambda trace: None)
    app = page.asks(GET)
    heard = [page.of(service).heard for service in ("venue", "event")]
    for name in ("x-request-id", "traceparent"):
        first, second = [field_of(one, name) for one in heard]
        assert first == second
        assert len(first) == 1
    page.of("venue").says(ok(b"1"))
    page.of("event").says(ok(b"1"))
    assert field_of(app.heard, "x-request-id") == field_of(heard[0], "x-request-id")


def test_parts_of_a_request_that_is_itself_repeated_are_not(make_page: Callable[..., Page]) -> None:
    page = make_page(structs.replace(PATIENT, retry=RetrySettings(max_retries=2)))
    app = page.asks(GET, "x-envoy-attempt-count: 2")
    page.of("event").says(ok(b"1"))
    page.of("venue").says(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
    assert app.heard
    assert page.live.services["venue"].counters.retries == {"denied_repeated": 1}


@pytest.mark.parametrize("name", ["x-envoy-upstream-rq-timeout-ms", "x-envoy-expected-rq-timeout-ms"])
@pytest.mark.parametrize(("given", "left"), [("300", 300), ("60000", 1000), ("0", 1000), ("soon", 1000)])
def test_parts_get_the_remaining_time(page: Page, name: str, given: str, left: int) -> None:
    page.asks(GET, f"{name}: {given}")
    for service in ("venue", "event"):
        (expected,) = field_of(page.of(service).heard, "x-envoy-expected-rq-timeout-ms")
        assert int(expected) == pytest.approx(left, abs=1)
        page.of(service).says(ok(b"1"))


# What does not become one.


@pytest.mark.parametrize(
    "target",
    [
        *("/_aggregate/nobody", "/_aggregate/", "/_aggregate", "/_aggregate//venue-page", "/_aggregate/venue-page/"),
        *(
            "/_aggregate/venue%2dpage",
            "/_aggregate/Venue-page",
            "/_aggregate/x%2fvenue-page",
            "/%5faggregate/venue-page",
        ),
        *("/_aggregates/venue-page", "/_aggregate/venue-page;a", "/_aggregate/../_aggregate/venue-page", "/_x"),
        "/_aggregate/%ff",
    ],
)
def test_no_other_spelling_is_an_aggregate(page: Page, target: str) -> None:
    app = page.asks(f"GET {target}?id=1")
    assert status(app.heard) == 404
    assert problem(app.heard)["reason"] == "unknown_service"
    assert problem(app.heard)["service"] == ""
    assert app.open
    assert not page.loop.dials


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_refused_and_told_of_those_that_are_not(page: Page, method: str) -> None:
    app = page.asks(f"{method} /_aggregate/venue-page?id=1", body=b"body")
    assert status(app.heard) == 405
    assert field_of(app.heard, "allow") == ["GET, HEAD"]
    app.take()
    app.says(request("GET /_aggregate/optional"))  # the body was no request
    assert len(page.upstreams) == 2
    app.breaks()


def test_a_body_is_refused(page: Page) -> None:
    app = page.asks(GET, body=b"{}")
    assert status(app.heard) == 400
    assert "body" in problem(app.heard)["detail"]
    chunked = page.app().says(request("GET /_aggregate/optional", "Transfer-Encoding: chunked"), b"1\r\na\r\n0\r\n\r\n")
    assert status(chunked.heard) == 400
    assert not page.upstreams


@pytest.mark.parametrize(
    ("query", "words"),
    [("", "id is missing"), ("?id=", "id is empty"), ("?id=1&id=2", "id came more than once"), ("?id=..", "segment")],
)
def test_a_parameter_that_cannot_be_put_in_is_named(page: Page, query: str, words: str) -> None:
    app = page.asks(f"GET /_aggregate/venue-page{query}")
    assert status(app.heard) == 400
    assert words in problem(app.heard)["detail"]
    assert problem(app.heard)["reason"] == "bad_request"
    assert not page.upstreams
    assert page.live.unrouted.requests == {(400, "bad_request"): 1}
    assert page.recorded() == {}


def test_a_huge_query(page: Page) -> None:
    app = page.asks(f"GET /_aggregate/venue-page?id={'a' * 20_000}")
    assert status(app.heard) == 414
    crowd = page.asks(f"GET /_aggregate/venue-page?{'&' * 30_000}id=7")
    assert page.of("venue").heard.startswith(b"GET /venues/7 HTTP/1.1\r\n")
    crowd.breaks()


def test_our_own_name_three_times_is_a_loop(page: Page) -> None:
    own = page.core.outgoing.loop_name.decode()
    app = page.asks(GET, f"x-sidecar-loop: other, {own}, {own}", f"x-sidecar-loop: {own}")
    assert status(app.heard) == 508
    assert problem(app.heard)["reason"] == "loop"
    assert not page.upstreams


# Parts that fail.


def failed(page: Page, answer: bytes) -> dict[str, Any]:
    """What an optional part's failure looks like, whose upstream answers that and nothing more."""
    app = page.asks(GET)
    page.of("venue").says(ok(b"1"))
    page.of("event").says(answer)
    if page.of("event").open and not app.heard:
        page.of("event").leaves()
    assert status(app.heard) == 200, app.heard
    found = body(app.heard)
    assert list(found) == ["venue", "errors", "partial"]
    assert found["partial"] is True
    assert page.recorded() == {(200, "partial"): 1}
    error = found["errors"]["events"]
    assert isinstance(error, dict)
    return error


@pytest.mark.parametrize("line", ["400 Bad Request", "404 Not Found", "301 Moved", "304 Not Modified", "501 No"])
def test_a_status_that_is_no_success(page: Page, line: str) -> None:
    code = int(line[:3])
    answer = (
        b"HTTP/1.1 304 Not Modified\r\n\r\n"
        if code == 304
        else ok(b'{"secret":"10.0.0.1"}', "Location: /x", status=line)
    )
    assert failed(page, answer) == {
        "service": "event",
        "status": code,
        "reason": "status",
        "detail": f"the service answered {code}",
    }


@pytest.mark.parametrize(
    "text", [b"", b"<html>", b"{", b"[1] 2", b'"\xff"', b"[" * 100_000, b"NaN", b"\xef\xbb\xbf", b"{}\xef\xbb\xbf"]
)
def test_a_body_that_is_not_json(page: Page, text: bytes) -> None:
    error = failed(page, ok(text, "Content-Type: application/json"))
    assert (error["status"], error["reason"]) == (502, "not_json")


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [
        (ok(b"[1,2,3]")[:-2], 502, "truncated"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1]\r\n", 502, "truncated"),
        (ok(b'"' + b"a" * MAX_BODY + b'"'), 502, "too_large"),
        (b"SSH-2.0-OpenSSH\r\n", 502, "bad_response"),
    ],
)
def test_a_response_that_is_not_whole(page: Page, answer: bytes, code: int, reason: str) -> None:
    app = page.asks(GET)
    page.of("venue").says(ok(b"1"))
    for _ in range(5):
        if app.heard:
            break
        page.of("event").says(answer)
        if page.of("event").open:
            page.of("event").leaves()
        page.pass_time(0.5)
    error = body(app.heard)["errors"]["events"]
    assert (error["status"], error["reason"]) == (code, reason)


def test_a_body_of_the_largest_size(page: Page) -> None:
    app = page.asks(GET)
    whole = b'"' + b"a" * (MAX_BODY - 2) + b'"'
    page.of("venue").says(ok(whole))
    page.of("event").says(ok(whole))
    assert len(body(app.heard)["events"]) == MAX_BODY - 2
    assert page.core.answer_budget.left > 2 * MAX_BODY


def test_a_refusal_of_the_sidecar_has_its_reason_and_no_address(page: Page) -> None:
    page.live.services["event"].set_endpoints([], page.loop.now)
    app = page.asks(GET)
    page.of("venue").says(ok(b"1"))
    assert body(app.heard)["errors"] == {
        "events": {
            "service": "event",
            "status": 503,
            "reason": "no_endpoint",
            "detail": "The service has no endpoint",
        }
    }
    assert field_of(app.heard, "x-envoy-attempt-count") == []


def test_an_open_breaker_is_a_part_s_failure(make_page: Callable[..., Page]) -> None:
    page = make_page(event=Policy(breaker=BreakerSettings(volume_threshold=1), limits=Limits()))
    breaker = page.live.services["event"].default_route.breaker
    breaker.failure(breaker.admit(page.loop.now), page.loop.now, False)
    app = page.asks(GET)
    page.of("venue").says(ok(b"1"))
    assert body(app.heard)["errors"]["events"]["reason"] == "circuit_open"


def test_a_fallback_s_answer_is_a_part_s(make_page: Callable[..., Page]) -> None:
    instead = FallbackStatic(status=200, headers={"content-type": "application/json"}, body=b'{"events": []}')
    page = make_page(event=Policy(fallback=(instead,), retry=RetrySettings(max_retries=0)))
    app = page.asks(GET)
    page.of("venue").says(ok(b"1"))
    page.of("event").breaks()
    found = body(app.heard)
    assert found == {"venue": 1, "events": {"events": []}, "fallbacks": {"events": "static"}}
    assert list(found) == ["venue", "events", "fallbacks"]
    assert page.recorded() == {(200, "ok"): 1}


def test_a_fallback_that_is_no_success_is_told_of_beside_the_part_s_error(make_page: Callable[..., Page]) -> None:
    instead = FallbackStatic(status=404, headers={}, body=b"{}")
    page = make_page(event=Policy(fallback=(instead,), retry=RetrySettings(max_retries=0)))
    app = page.asks(GET)
    page.of("venue").says(ok(b"1"))
    page.of("event").breaks()
    found = body(app.heard)
    assert list(found) == ["venue", "fallbacks", "errors", "partial"]
    assert (found["fallbacks"], found["errors"]["events"]["status"]) == ({"events": "static"}, 404)


def test_an_upstream_cannot_pretend_to_be_a_fallback(page: Page) -> None:
    app = page.asks(GET)
    page.of("venue").says(ok(b"1", "x-sidecar-fallback: stale"))
    page.of("event").says(ok(b"2"))
    assert body(app.heard) == {"venue": 1, "events": 2}


@pytest.mark.parametrize("fields", [[f"Cookie: {'a' * 32_600}"], ["Cookie: a"] * 127])
def test_a_part_whose_own_head_grows_too_large_says_so(page: Page, fields: list[str]) -> None:
    app = page.asks("GET /_aggregate/optional", *fields)
    error = body(app.heard)["errors"]["a"]
    assert (error["service"], error["status"], error["reason"]) == ("venue", 431, "head_too_large")
    assert "listen.max_head or listen.max_header_fields" in error["detail"]
    assert not page.upstreams


def test_refused_connections_show_no_address(page: Page) -> None:
    page.loop.network = lambda dial: dial.refuse() if dial.host == "10.0.1.1" else dial.accept()
    app = page.asks(GET)
    page.of("venue").says(ok(b"1"))
    page.pass_time(1.5)
    assert body(app.heard)["errors"]["events"]["reason"] == "connect_failure"
    assert b"10.0.1" not in app.heard
    assert b"3002" not in app.heard


def test_an_upstream_cannot_pretend_to_be_the_sidecar(page: Page) -> None:
    error = failed(page, ok(b"{}", "x-sidecar-reason: circuit_open", status="400 Bad Request"))
    assert error["reason"] == "status"


def test_all_optional_parts_may_fail(page: Page) -> None:
    app = page.asks("GET /_aggregate/optional")
    page.of("venue").says(ok(b"", status="404 Not Found"))
    page.of("event").says(ok(b"", status="404 Not Found"))
    assert status(app.heard) == 200
    found = body(app.heard)
    assert (list(found), list(found["errors"]), found["partial"]) == (["errors", "partial"], ["a", "b"], True)


def test_a_required_part_s_failure_ends_it_at_once(page: Page) -> None:
    app = page.asks(GET)
    page.of("venue").says(ok(b'{"m":1}', status="404 Not Found"))
    assert status(app.heard) == 502
    found = problem(app.heard)
    assert found["reason"] == "aggregate_failed"
    assert found["errors"] == {
        "venue": {
            "service": "venue",
            "status": 404,
            "reason": "status",
            "detail": "the service answered 404",
        }
    }
    told = [(one["endpoint"], one["reason"], one["status"]) for one in found["attempts"]]
    assert told == [("venue", "ok", 404), ("event", "client_disconnect", None)]
    assert field_of(app.heard, "x-envoy-attempt-count") == ["2"]
    assert "venue" in found["detail"]
    page.settle()
    assert page.in_flight() == [0, 0]
    assert not page.of("event").open
    assert app.open
    assert page.recorded() == {(502, "aggregate_failed"): 1}


# What a part's failure hands on.

PASSING = {
    "strict": Aggregate(
        parts={
            "venue": structs.replace(part("venue", "/v", required=True), pass_status=frozenset({401, 404, 503})),
            "events": part("event", "/e"),
        }
    )
}


def test_an_answer_that_is_passed_on(make_page: Callable[..., Page]) -> None:
    page = make_page(aggregates=PASSING)
    app = page.asks("GET /_aggregate/strict")
    fields = ["Content-Type: text/plain", 'WWW-Authenticate: Bearer realm="a"', "WWW-Authenticate: Basic"]
    page.of("venue").says(ok(b"who?", *fields, "Set-Cookie: a=b", "X-Own: 1", "Server: x", status="401 Who"))
    assert app.heard.startswith(b"HTTP/1.1 401 Who\r\n")
    head, _, rest = app.heard.partition(b"\r\n\r\n")
    assert rest == b"who?"
    names = [line.partition(b":")[0].decode().lower() for line in head.split(b"\r\n")[1:]]
    assert sorted(names) == sorted(
        [
            *("cache-control", "content-length", "content-type", "date", "www-authenticate", "www-authenticate"),
            *("x-envoy-attempt-count", "x-request-id"),
        ]
    )
    assert field_of(head, "x-envoy-attempt-count") == ["2"]
    page.settle()
    assert (app.open, page.in_flight(), page.of("event").open) == (True, [0, 0], False)
    assert page.core.answer_budget.left == ANSWER_BUDGET
    assert page.recorded("strict") == {(401, "passed"): 1}


def test_a_head_request_gets_the_head_of_it(make_page: Callable[..., Page]) -> None:
    page = make_page(aggregates=PASSING)
    app = page.asks("HEAD /_aggregate/strict")
    page.of("venue").says(ok(gzip.compress(b"none", mtime=0), "Content-Encoding: gzip", status="404 Not Found"))
    head, _, rest = app.heard.partition(b"\r\n\r\n")
    assert (status(head), rest) == (404, b"")
    assert (field_of(head, "content-length"), field_of(head, "content-encoding")) == (["4"], [])


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"no", status="403 Forbidden"),
        ok(b"a" * (MAX_BODY + 1), status="404 Not Found"),
        ok(b"cut", status="404 Not Found")[:-1],
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n<>",
    ],
    ids=["another status", "too large", "not whole", "not JSON"],
)
def test_an_answer_that_is_not_passed_on(make_page: Callable[..., Page], answer: bytes) -> None:
    page = make_page(aggregates=PASSING)
    app = page.asks("GET /_aggregate/strict")
    page.of("venue").says(answer)
    if not app.heard:
        page.of("venue").leaves()
    assert (status(app.heard), problem(app.heard)["reason"]) == (502, "aggregate_failed")


def test_a_refusal_of_the_sidecar_is_not_passed_on(make_page: Callable[..., Page]) -> None:
    page = make_page(aggregates=PASSING)
    page.live.services["venue"].set_endpoints([], page.loop.now)
    app = page.asks("GET /_aggregate/strict")
    found = problem(app.heard)
    assert found["errors"]["venue"]["status"] == 503
    assert [one["endpoint"] for one in found["attempts"]] == ["event"]


# Time.


def test_what_has_not_come_in_time_is_missing(page: Page) -> None:
    app = page.asks("GET /_aggregate/optional", "x-envoy-upstream-rq-timeout-ms: 400")
    page.of("venue").says(ok(b"1"))
    page.pass_time(0.39)
    assert app.heard == b""
    page.pass_time(0.03)
    found = body(app.heard)
    assert (found["a"], found["errors"]["b"]["reason"], found["errors"]["b"]["status"]) == (1, "request_timeout", 504)
    assert page.live.services["event"].counters.requests == {(504, "request_timeout"): 1}


def test_a_required_part_out_of_time_is_504(page: Page) -> None:
    app = page.asks(GET, "x-envoy-upstream-rq-timeout-ms: 400")
    page.of("event").says(ok(b"1"))
    page.pass_time(0.42)
    assert status(app.heard) == 504
    assert problem(app.heard)["reason"] == "request_timeout"
    assert list(problem(app.heard)["errors"]) == ["venue"]
    assert page.recorded() == {(504, "request_timeout"): 1}


def test_a_body_that_trickles_in_is_cut_by_the_deadline_of_the_whole(page: Page) -> None:
    app = page.asks(GET)
    page.of("venue").says(ok(b"1"))
    page.of("event").says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    for _ in range(20):
        assert app.heard == b""
        page.of("event").says(b" ")
        page.pass_time(0.1)
    page.pass_time(2 * LATER_S)
    assert body(app.heard)["errors"]["events"]["reason"] == "request_timeout"
    assert not page.of("event").open
    assert page.in_flight() == [0, 0]


def test_a_part_may_have_less_time_than_the_whole(make_page: Callable[..., Page]) -> None:
    parts = {"a": part("venue", "/a"), "b": part("event", "/b", timeout=0.3)}
    page = make_page(aggregates={"x": Aggregate(parts=parts)})
    app = page.asks("GET /_aggregate/x")
    page.pass_time(0.35)
    assert app.heard == b""
    page.of("venue").says(ok(b"1"))
    assert body(app.heard)["errors"]["b"]["reason"] == "request_timeout"


def test_the_timeout_of_the_whole_is_not_pushed_on(make_page: Callable[..., Page]) -> None:
    patient = Policy(timeout=Timeouts(attempt=60.0, request=60.0))
    page = make_page(patient)
    app = page.asks(GET)
    page.pass_time(1.99)
    assert app.heard == b""
    page.pass_time(0.04)
    assert status(app.heard) == 504


# The app.


@pytest.mark.parametrize("how", ["leaves", "breaks"])
def test_an_app_that_goes_away_gives_everything_back(page: Page, how: str) -> None:
    app = page.asks(GET)
    page.of("venue").says(ok(b"1"))
    assert page.in_flight() == [0, 1]
    getattr(app, how)()
    page.settle()
    assert page.in_flight() == [0, 0]
    assert not page.of("event").open
    assert not page.core.inner
    assert page.recorded() == {(499, "client_disconnect"): 1}


def test_an_app_that_takes_its_answer_slowly_is_waited_for_while_it_takes_any(page: Page) -> None:
    app = page.asks(GET)
    app.stall()
    left = page.core.answer_budget.left
    page.of("venue").says(ok(b"[" + b"1," * 400_000 + b"1]"))
    page.of("event").says(ok(b"1"))
    assert status(app.heard) == 200
    assert page.recorded() == {}
    assert page.core.answer_budget.left < left
    app.buffered -= 10_000
    page.pass_time(page.policy.timeout.idle + 1)
    app.flow()
    assert page.recorded() == {(200, "ok"): 1}
    assert page.core.answer_budget.left == left
    assert app.open


def test_an_app_that_takes_nothing_is_given_up(page: Page) -> None:
    app = page.asks(GET)
    app.stall()
    left = page.core.answer_budget.left
    page.of("venue").says(ok(b"[" + b"1," * 400_000 + b"1]"))
    page.of("event").says(ok(b"1"))
    page.pass_time(2 * page.policy.timeout.idle + 1)
    assert page.recorded() == {(499, "client_disconnect"): 1}
    assert page.core.answer_budget.left == left
    page.pass_time(300)
    assert not app.open


def test_the_room_for_all_answers_is_bounded(page: Page) -> None:
    page.core.answer_budget.left = 100
    app = page.asks(GET)
    page.of("venue").says(ok(b"1"))
    page.of("event").says(ok(b'"' + b"a" * 200 + b'"'))
    assert body(app.heard)["errors"]["events"]["reason"] == "overloaded"
    assert page.core.answer_budget.left == 100


def test_the_end_of_the_daemon_cuts_it(page: Page) -> None:
    app = page.asks(GET)
    page.core.registry.draining = True
    app.protocol.close_at_rest()
    assert app.open
    page.loop.run(page.core.close())
    page.settle()
    assert page.in_flight() == [0, 0]
    assert not app.open


def test_a_configuration_without_it_leaves_it_be(page: Page) -> None:
    app = page.asks(GET)
    page.live.adopt(structs.replace(page.live.config, aggregates={}), page.loop.now)
    page.core.adopt()
    page.of("venue").says(ok(b"1"))
    page.of("event").says(ok(b"2"))
    assert body(app.heard) == {"venue": 1, "events": 2}
    assert status(page.asks(GET).heard) == 404


# What is told.


def test_the_log_has_a_line_for_the_whole_and_one_for_each_part(make_page: Callable[..., Page]) -> None:
    page = make_page(access="all")
    page.asks(GET, "X-Request-Id: r-1", "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    page.of("event").says(ok(b"", status="404 Not Found"))
    page.of("venue").says(ok(b"1"))
    page.access_log.flush()
    assert [(line["service"], line["status"], line["reason"]) for line in page.lines] == [
        ("event", 404, "ok"),
        ("venue", 200, "ok"),
        ("", 200, "partial"),
    ]
    assert {line["request_id"] for line in page.lines} == {"r-1"}
    assert len({line["trace_id"] for line in page.lines}) == 1
    assert page.lines[-1]["aggregate"] == "venue-page"
    assert page.lines[-1]["detail"] == "events: status"


def test_a_defect_is_an_answer_and_leaves_nothing_behind(
    page: Page, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*, usegmt: bool) -> str:
        raise RuntimeError("a defect")

    monkeypatch.setattr("sidecar.proxy.exchange.aggregate.formatdate", broken)
    app = page.asks(GET)
    page.of("venue").says(ok(b"1"))
    page.of("event").says(ok(b"1"))
    assert status(app.heard) == 500
    assert problem(app.heard)["reason"] == "internal"
    assert "a defect" in caplog.text
    assert page.in_flight() == [0, 0]
    assert page.recorded() == {(500, "internal"): 1}
    assert app.open


# JSON.


TEXT = st.text(st.characters(codec="utf-8"))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT


@given(st.recursive(SCALARS, lambda one: st.lists(one) | st.dictionaries(TEXT, one)))
def test_what_is_json_passes(value: Any) -> None:
    assert is_json(json.dumps(value).encode())
    assert is_json(json.dumps(value, ensure_ascii=False, indent=1).encode())


@given(st.binary(max_size=20) | st.text(alphabet='{}[]",:0123eE.+-tfn\\u ', max_size=12).map(str.encode))
def test_what_passes_is_json(text: bytes) -> None:
    def no_constants(word: str) -> None:
        raise ValueError(word)

    if is_json(text):
        json.loads(text.decode(), parse_constant=no_constants)
        json.loads(b'{"a":' + text + b',"b":1}')
