"""What the file says about gRPC, with real grpcio through the real daemon: where calls go, and what is told of them."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.grpc_stage import Stage, failure, value
from tests.support.grpc_upstream import CLIENT_OPTIONS, App, GrpcUpstream, wishes

S = 20.0
"""A deadline that no call here comes near."""

POLICY = """
retry: {max_retries: 2, on: [UNAVAILABLE], backoff: {base: 1ms, max: 1ms}}
breaker: {volume_threshold: 1000}
outlier: off
routes:
  - {match: {path: /test.Echo/Unary}, unary: true, idempotent: true, timeout: {attempt: 300ms}}
"""
OTHERS = """
  other: {url: "$url", hosts: ["other.test:*"], grpc: [test.Other, "test.deep.*"]}
  plain: {url: "http://127.0.0.1:1"}
  gone: {url: "h2c://127.0.0.1:1"}
log: {access: all}
"""


@pytest.fixture(scope="module")
def shop() -> Iterator[GrpcUpstream]:
    with GrpcUpstream("shop") as one:
        yield one


@pytest.fixture(scope="module")
def other() -> Iterator[GrpcUpstream]:
    with GrpcUpstream("other") as one:
        yield one


@pytest.fixture(scope="module")
def stage(shop: GrpcUpstream, other: GrpcUpstream) -> Iterator[Stage]:
    with Stage(shop, policy=POLICY, config=OTHERS.replace("$url", other.url)) as one:
        yield one


@pytest.fixture
def app(stage: Stage) -> Iterator[App]:
    with stage.app() as one:
        yield one


def daemon_of(stage: Stage) -> Daemon:
    assert stage.daemon is not None
    return stage.daemon


def served_by(app: App, **metadata: str) -> object:
    _, call = app.unary.with_call(b"x", timeout=S, metadata=wishes(**metadata))
    return value(call.initial_metadata(), "served-by")


def test_a_claim_takes_a_call_to_the_sidecar_itself(app: App) -> None:
    assert served_by(app) == "shop"


@pytest.mark.parametrize("name", ["x_sidecar_service", "dapr_app_id"])
def test_metadata_names_a_service_and_is_not_sent_on(app: App, other: GrpcUpstream, name: str) -> None:
    assert served_by(app, **{name: "other", "x_id": name}) == "other"
    assert {"x-sidecar-service", "dapr-app-id"}.isdisjoint(other.began(name)["metadata"])


def test_an_authority_names_a_service(stage: Stage) -> None:
    with stage.app(default_authority="other") as app:
        assert served_by(app) == "other"
        error = failure(lambda: app.unary(b"x", timeout=S, metadata=wishes(x_sidecar_service="shop")))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "the :authority names other, and the metadata names shop: send one of the two"


@pytest.mark.parametrize(
    ("method", "metadata", "code", "reason", "words"),
    [
        ("/none.At/All", {}, "UNIMPLEMENTED", "unknown_service", "no service claims none.At: add it to services.NAME"),
        ("/shop/Unary", {}, "UNIMPLEMENTED", "unknown_service", "send the metadata x-sidecar-service: shop"),
        ("/test.Echo/Unary", {"x_sidecar_service": "nobody"}, "UNIMPLEMENTED", "unknown_service", "named nobody"),
        (
            "/test.Echo/Unary",
            {"x_sidecar_service": "plain"},
            "UNIMPLEMENTED",
            "bad_request",
            "plain is called by",
        ),
        ("/test.Echo/Unary", {"x_sidecar_service": "gone"}, "UNAVAILABLE", "connect_failure", "127.0.0.1:1: "),
    ],
)
def test_who_calls_in_vain_is_told_why(
    app: App, method: str, metadata: dict[str, str], code: str, reason: str, words: str
) -> None:
    call = app.channel.unary_unary(method)
    error = failure(lambda: call(b"x", timeout=S, metadata=wishes(**metadata)))
    assert error.code().name == code
    assert words in error.details()
    known = {*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())}
    assert ("x-sidecar-reason", reason) in known


def test_calls_are_counted_by_status_and_by_the_routes_of_the_file(stage: Stage, app: App) -> None:
    daemon = daemon_of(stage)

    def counted(name: str, **labels: str) -> float:
        return daemon.metrics().total(name, service="shop", **labels)

    def in_route(status: str) -> float:
        return counted("sidecar_grpc_route_requests_total", route="/test.Echo/Unary", grpc_status=status)

    names = ("OK", "NOT_FOUND", "UNAVAILABLE")
    before = [counted("sidecar_grpc_requests_total", grpc_status=one) for one in names]
    routed = [in_route(one) for one in names]
    list(app.down(b"x", timeout=S))
    app.unary(b"x", timeout=S)
    failure(lambda: app.unary(b"x", timeout=S, metadata=wishes(wish_status=5)))
    failure(lambda: app.up(iter([b"x"]), timeout=S, metadata=wishes(wish_status=14)))

    def check() -> None:
        after = [counted("sidecar_grpc_requests_total", grpc_status=one) for one in names]
        assert [now - then for now, then in zip(after, before, strict=True)] == [2, 1, 1]
        assert [in_route(one) - then for one, then in zip(names, routed, strict=True)] == [1, 1, 0]

    eventually(check)


def test_log_and_last_failure_say_what_the_service_said(stage: Stage, app: App, shop: GrpcUpstream) -> None:
    metadata = wishes(wish_status=14, wish_details="no room", x_request_id="in-vain")
    failure(lambda: app.up(iter([b"x"]), timeout=S, metadata=metadata))
    app.unary(b"x", timeout=S, metadata=wishes(x_request_id="fine"))
    words = f"127.0.0.1:{shop.port} answered 14 UNAVAILABLE: no room"

    def check() -> None:
        lines = {line.get("request_id"): line for line in daemon_of(stage).log_lines()}
        assert lines.keys() >= {"in-vain", "fine"}
        bad, good = lines["in-vain"], lines["fine"]
        assert (bad["grpc_status"], bad["reason"], bad["target"]) == ("UNAVAILABLE", "status", "/test.Echo/Up")
        assert bad["detail"] == words
        assert (good["grpc_status"], good["reason"], good["status"]) == ("OK", "ok", 200)
        assert "detail" not in good

    eventually(check)


def test_a_call_that_may_be_sent_twice_is_and_another_is_not(app: App, shop: GrpcUpstream) -> None:
    def wish(call: str) -> tuple[tuple[str, str | bytes], ...]:
        return wishes(x_id=call, wish_status=14, wish_fail_first=2)

    assert app.unary(b"x", timeout=S, metadata=wish("twice")) == b"x"
    assert len(shop.lines("begin", "twice")) == 3
    error = failure(lambda: app.up(iter([b"x"]), timeout=S, metadata=wish("once")))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert len(shop.lines("begin", "once")) == 1


def test_the_file_s_time_ends_a_call_that_is_said_to_be_unary(app: App) -> None:
    slow = wishes(wish_delay_ms=1000)
    error = failure(lambda: app.unary(b"x", timeout=S, metadata=slow))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "timeout.attempt, 0.3 s" in error.details()
    assert app.up(iter([b"x"]), timeout=S, metadata=slow) == b"1 1"


def test_another_status_than_those_of_the_file_opens_no_breaker(shop: GrpcUpstream) -> None:
    policy = "breaker: {volume_threshold: 4, failure_grpc_status: [INTERNAL], reset_timeout: 60s}\noutlier: off"
    with Stage(shop, policy=policy) as stage, stage.app() as app:
        for status, code, times in ((14, "UNAVAILABLE", 4), (13, "INTERNAL", 8)):
            for _ in range(times):
                error = failure(lambda status=status: app.unary(b"x", timeout=S, metadata=wishes(wish_status=status)))
                refused = ("x-sidecar-reason", "circuit_open") in {
                    *(error.initial_metadata() or ()),
                    *(error.trailing_metadata() or ()),
                }
                if refused:
                    break
                assert error.code().name == code
            assert refused is (code == "INTERNAL")
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "the breaker lets a probe through in" in error.details()


def test_a_service_behind_the_address_of_a_proxy(stage: Stage) -> None:
    """gRPC libraries send CONNECT where HTTP_PROXY is set; the channel's option does the same."""
    options = [option for option in CLIENT_OPTIONS if option[0] != "grpc.enable_http_proxy"]
    proxy = ("grpc.http_proxy", f"http://127.0.0.1:{stage.port}")
    with grpc.insecure_channel("dns:///other.test:50051", options=[*options, proxy]) as channel:
        _, call = channel.unary_unary("/test.Echo/Unary").with_call(b"x", timeout=S)
    assert value(call.initial_metadata(), "served-by") == "other"
