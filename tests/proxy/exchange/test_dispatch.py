"""Which handler a request gets, or which refusal."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.config.path_template import parse_path_template
from sidecar.config.schema import Aggregate as AggregateConfig
from sidecar.config.schema import AggregatePart, Match, Route
from sidecar.policy.settings import FallbackStale, FallbackStatic, FallbackStep, Policy, RetrySettings, Timeouts
from sidecar.proxy.downstream.handler import Handler
from sidecar.proxy.exchange.aggregate import Aggregate
from sidecar.proxy.exchange.exchange import Exchange
from sidecar.proxy.h2.request import H2RequestHead, read_request
from sidecar.proxy.http1.head_syntax import BadRequest
from sidecar.proxy.http1.request_head import parse_request
from sidecar.proxy.problem import Problem
from tests.proxy.fakes import World, request

STATIC = FallbackStatic(status=200, body=b"{}")
STALE = FallbackStale(stale=300.0)
PAGE = AggregateConfig(parts={"venue": AggregatePart(service="venue", path=parse_path_template("/a/{query.id}"))})
UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")


def answer_to(world: World, head: str, *fields: str) -> Handler | Problem:
    """What is chosen, and not started: nobody hears of it."""
    return world.core.registry.dispatcher.dispatch(world.app().protocol, parse_request(request(head, *fields)))


@pytest.mark.parametrize("steps", [(), (STATIC,), (STALE,)])
@pytest.mark.parametrize("head", ["GET /venue/", "POST /venue/"])
@pytest.mark.parametrize("fields", [(), UPGRADE])
def test_a_service_s_requests(
    make_world: Callable[..., World], steps: tuple[FallbackStep, ...], head: str, fields: tuple[str, ...]
) -> None:
    world = make_world(Policy(fallback=steps))
    handler = answer_to(world, head, *fields)
    assert type(handler) is Exchange
    assert handler.service_name == "venue"
    assert not world.loop.dials


def test_a_body_may_be_kept_as_far_as_the_route_says(make_world: Callable[..., World]) -> None:
    world = make_world(Policy(timeout=Timeouts(client_idle=7.0), retry=RetrySettings(max_body=5)))
    handler = answer_to(world, "POST /venue/", "Content-Length: 10")
    assert isinstance(handler, Exchange)
    assert handler.body is not None
    assert (handler.body.left, handler.body.max_kept) == (10, 5)
    assert handler.client_idle_s == 7.0
    without = answer_to(world, "POST /venue/", "Content-Length: 0")
    assert isinstance(without, Exchange)
    assert without.body is None


def test_no_websocket_opens_over_http_2(make_world: Callable[..., World]) -> None:
    world = make_world(Policy())
    world.service.h2 = True
    with pytest.raises(BadRequest, match="the service venue is called over HTTP/2") as refused:
        answer_to(world, "GET /venue/", *UPGRADE)
    assert refused.value.status == 501
    assert type(answer_to(world, "GET /venue/")) is Exchange


def test_an_aggregate_is_for_no_single_service(make_world: Callable[..., World]) -> None:
    world = make_world(Policy(timeout=Timeouts(client_idle=7.0)), aggregates={"page": PAGE})
    handler = answer_to(world, "GET /_aggregate/page?id=1")
    assert isinstance(handler, Aggregate)
    assert (handler.service_name, handler.body, handler.client_idle_s) == ("", None, 7.0)


@pytest.mark.parametrize(
    ("head", "status", "reason", "words"),
    [
        ("GET /nobody/", 404, "unknown_service", "no service of that name"),
        ("GET /_aggregate/nobody", 404, "unknown_service", "no aggregate of that name"),
        ("GET /_aggregate/page", 400, "bad_request", "page: the query parameter id is missing"),
        ("POST /_aggregate/page?id=1", 405, "bad_request", "page: an aggregate is for GET and HEAD"),
    ],
)
def test_what_no_service_takes(
    make_world: Callable[..., World], head: str, status: int, reason: str, words: str
) -> None:
    answer = answer_to(make_world(aggregates={"page": PAGE}), head, "X-Request-Id: id-1")
    assert isinstance(answer, Problem)
    assert (answer.status, answer.reason, answer.request_id) == (status, reason, "id-1")
    assert words in answer.detail


def test_a_target_without_a_meaning(world: World) -> None:
    with pytest.raises(BadRequest, match="scheme is not http") as caught:
        answer_to(world, "GET https://venue/")
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("head", "allowed"),
    [
        ("BAN /venue/", True),
        ("FLUSH /venue/", False),
        ("FLUSH /venue/cache", True),
        ("ban /venue/", False),
        ("BAN /nobody/", False),
        ("BAN /_aggregate/page", False),
        ("GET /venue/", True),
    ],
)
def test_unusual_methods(make_world: Callable[..., World], head: str, allowed: bool) -> None:
    route = Route(match=Match(path="/cache", methods=frozenset({"FLUSH"})), policy=Policy())
    world = make_world(Policy(allow_methods=frozenset({"BAN"})), routes=(route,), aggregates={"page": PAGE})
    if allowed:
        assert isinstance(answer_to(world, head), Exchange)
        return
    with pytest.raises(BadRequest, match="allow_methods") as refused:
        answer_to(world, head)
    assert refused.value.status == 501


def test_behind_a_connect_every_request_is_that_service_s(make_world: Callable[..., World]) -> None:
    world = make_world(others={"other": Policy()})
    connected = world.core.registry.dispatcher.for_authority(b"other:3002")
    for head, host in (("GET /venue/", "venue"), ("GET /a", "localhost:15001"), ("OPTIONS *", "venue")):
        asked = f"{head} HTTP/1.1\r\nHost: {host}\r\n\r\n"
        handler = connected.dispatch(world.app().protocol, parse_request(asked.encode()))
        assert isinstance(handler, Exchange)
        assert handler.service_name == "other"
    with pytest.raises(BadRequest, match="the target is a path"):
        connected.dispatch(world.app().protocol, parse_request(request("GET http://venue/")))
    with pytest.raises(BadRequest, match="no CONNECT inside another") as refused:
        connected.for_authority(b"other:3002")
    assert refused.value.status == 405


@pytest.mark.parametrize("authority", [b"example.org:443", b"venue:1", b"localhost:15001"])
def test_a_connect_to_anything_else_is_refused_in_words(world: World, authority: bytes) -> None:
    with pytest.raises(BadRequest, match="no_grpc_proxy") as refused:
        world.core.registry.dispatcher.for_authority(authority)
    assert refused.value.status == 405
    assert authority.decode() not in refused.value.detail  # it goes to the log


# Over HTTP/2.


def head_h2(path: str, *more: tuple[bytes, bytes], host: str = "localhost:15001", grpc: bool = True) -> H2RequestHead:
    kind = b"application/grpc" if grpc else b"application/json"
    pseudo = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", host.encode())]
    return read_request([*pseudo, (b"content-type", kind), *more], ended=True)


def answer_to_h2(world: World, head: H2RequestHead) -> Handler | Problem:
    return world.core.registry.dispatcher.dispatch(world.app().protocol, head)


@pytest.mark.parametrize(
    "head",
    [
        head_h2("/venue/x", grpc=False),
        head_h2("/x", (b"x-sidecar-service", b"venue"), grpc=False),
        head_h2("/x", (b"dapr-app-id", b"venue"), grpc=False),
        head_h2("/x", host="venue", grpc=False),
    ],
)
def test_requests_over_http_2_are_a_service_s(make_world: Callable[..., World], head: H2RequestHead) -> None:
    handler = answer_to_h2(make_world(), head)
    assert isinstance(handler, Exchange)
    assert handler.service_name == "venue"


@pytest.mark.parametrize(
    ("head", "reason", "status", "grpc_status"),
    [
        (head_h2("/shop.v1.Venue/Get"), "unknown_service", 404, "12"),
        (head_h2("/shop.v1.Venue/Get", host="venue"), "bad_request", 501, "12"),
        (head_h2("/shop.v1.Venue/Get", (b"x-sidecar-service", b"nobody")), "unknown_service", 404, "12"),
    ],
)
def test_a_grpc_call_that_no_service_takes(
    make_world: Callable[..., World], head: H2RequestHead, reason: str, status: int, grpc_status: str
) -> None:
    answer = answer_to_h2(make_world(), head)
    assert isinstance(answer, Problem)
    assert (answer.reason, answer.status) == (reason, status)
    assert (b"grpc-status", grpc_status.encode()) in answer.grpc_fields()
