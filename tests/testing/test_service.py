"""One faked service behind the real sidecar."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from sidecar.testing.errors import FakeError
from sidecar.testing.stage import Fakes, Stage
from tests.support.eventually import eventually
from tests.testing.asking import ask

VERBS = ("get", "head", "post", "put", "patch", "delete", "options")


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_a_method(fakes: Fakes, verb: str) -> None:
    getattr(fakes.venue, verb)("/x", params={"a": 1}).then(202)
    assert ask(f"{fakes.venue.url}/x?a=1", verb.upper()).status == 202
    getattr(fakes.venue, verb)("/x").assert_called(times=1)
    fakes.venue.assert_called(times=1)


def test_any_method_and_any_path(fakes: Fakes) -> None:
    fakes.venue.any().then(202)
    assert ask(fakes.venue.url + "/x", "DELETE").status == 202
    assert len(fakes.venue.any().calls) == 1


def test_the_sidecar_retries_what_fails(fakes: Fakes) -> None:
    fakes.venue.get("/events/1").fails(status=503, times=2).then(json={"id": 1})
    assert ask(fakes.venue.url + "/events/1").json() == {"id": 1}
    fakes.venue.get("/events/1").assert_called(times=3)
    assert len({call.headers["X-Request-ID"] for call in fakes.venue.calls}) == 1


def test_and_not_what_must_not_be_sent_twice(fakes: Fakes) -> None:
    fakes.payment.post("/charges").resets().then(status=201)
    assert ask(fakes.payment.url + "/charges", "POST", b"{}").reason == "reset"
    fakes.payment.post("/charges").assert_called(times=1)


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [("resets", 502, "reset"), ("closes", 502, "reset"), ("hangs", 504, "attempt_timeout")],
)
def test_each_way_to_fail_has_its_reason(fakes: Fakes, how: str, status: int, reason: str) -> None:
    fakes.venue.policy(timeout={"attempt": "500ms"}, retry={"max_retries": 0})
    getattr(fakes.venue.get("/x"), how)()
    answered = ask(fakes.venue.url + "/x")
    assert (answered.status, answered.reason) == (status, reason)


def test_a_delay_beyond_the_timeout(fakes: Fakes) -> None:
    fakes.venue.policy(timeout={"attempt": "500ms"}, retry={"max_retries": 0})
    fakes.venue.get("/x").delays(2).then().then(201)
    assert ask(fakes.venue.url + "/x").reason == "attempt_timeout"
    assert ask(fakes.venue.url + "/x").status == 201


def test_down_and_up(fakes: Fakes) -> None:
    fakes.payment.get("/").then(201)
    assert ask(fakes.payment.url + "/").status == 201
    port = fakes.payment.port
    fakes.payment.down()
    assert ask(fakes.payment.url + "/").reason == "connect_failure"
    fakes.payment.up()
    assert ask(fakes.payment.url + "/").status == 201
    assert fakes.payment.port == port
    fakes.payment.assert_called(times=2)


def test_a_forced_breaker(fakes: Fakes) -> None:
    fakes.payment.get("/").fails(500).then(201)
    fakes.payment.breaker.open()
    assert fakes.payment.breaker.state == "open"
    answered = ask(fakes.payment.url + "/")
    assert (answered.status, answered.reason) == (503, "circuit_open")
    assert 30 <= int(answered.headers["retry-after"]) <= 36, "apps are spread over a fifth"
    fakes.payment.assert_not_called()
    fakes.payment.breaker.close()
    assert [ask(fakes.payment.url + "/").status for _ in range(2)] == [500, 201]
    fakes.payment.breaker.auto()
    assert fakes.payment.breaker.state == "closed"
    assert repr(fakes.payment.breaker) == "<breaker of payment: closed>"


def test_a_forced_breaker_stays_open_beyond_its_retry_after(fakes: Fakes) -> None:
    fakes.payment.get("/").then()
    fakes.payment.breaker.open(retry_after=1)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        answered = ask(fakes.payment.url + "/")
        assert answered.reason == "circuit_open"
        assert answered.headers["retry-after"] in ("1", "2"), "apps are spread over a second"
        time.sleep(0.05)
    fakes.payment.breaker.auto()
    assert ask(fakes.payment.url + "/").status == 200
    assert fakes.payment.breaker.state == "closed"


def test_nobody_holds_a_breaker_open_after_its_test(stage: Stage) -> None:
    before = set(threading.enumerate())
    fakes = stage.fakes()
    fakes.payment.breaker.open()
    fakes.payment.breaker.open(retry_after=60)
    assert len(set(threading.enumerate()) - before) == 1
    fakes.close()
    assert set(threading.enumerate()) <= before


def test_a_retry_after_that_cannot_be(fakes: Fakes) -> None:
    for seconds in (0.9, 3600.1, float("nan")):
        with pytest.raises(FakeError, match="1 to 3600 seconds"):
            fakes.payment.breaker.open(retry_after=seconds)
    assert fakes.payment.breaker.state == "closed"


@pytest.mark.parametrize("how", ["resets", "closes"])
@pytest.mark.parametrize("calls_before", [0, 1, 3])
def test_how_often_a_request_is_sent_does_not_depend_on_calls_before(fakes: Fakes, how: str, calls_before: int) -> None:
    fakes.venue.get("/ok").then(json=1)
    getattr(fakes.venue.get("/x"), how)()
    for _ in range(calls_before):
        assert ask(fakes.venue.url + "/ok").status == 200
    assert ask(fakes.venue.url + "/x").reason == "reset"
    fakes.venue.get("/x").assert_called(times=3)  # and two retries


def test_a_body_in_pieces_through_the_sidecar(fakes: Fakes) -> None:
    fakes.venue.get("/news").drips(["data: 1\n\n", "data: 2\n\n"], headers={"Content-Type": "text/event-stream"})
    assert ask(fakes.venue.url + "/news").body == b"data: 1\n\ndata: 2\n\n"


def test_a_breaker_opens_by_itself(fakes: Fakes) -> None:
    fakes.payment.policy(breaker={"volume_threshold": 3}, retry={"max_retries": 0})
    fakes.payment.get("/").fails(500)
    assert [ask(fakes.payment.url + "/").status for _ in range(4)] == [500, 500, 500, 503]
    assert fakes.payment.breaker.state == "open"
    fakes.payment.assert_called(times=3)


def test_a_route_s_own_breaker_is_forced_by_itself(fakes: Fakes) -> None:
    route = {"match": {"path": "/reports", "methods": ["POST"]}, "breaker": {"volume_threshold": 5}}
    fakes.venue.policy(routes=[route])
    fakes.venue.any().then()
    fakes.venue.breaker.open(route="POST /reports")
    assert ask(fakes.venue.url + "/reports", "POST").reason == "circuit_open"
    assert ask(fakes.venue.url + "/reports").status == 200
    fakes.venue.breaker.close(route="POST /reports")
    assert ask(fakes.venue.url + "/reports", "POST").status == 200
    fakes.venue.breaker.auto(route="POST /reports")
    with pytest.raises(FakeError, match="route"):
        fakes.venue.breaker.open(route="GET /nowhere")


def test_a_breaker_that_is_off_cannot_be_forced(fakes: Fakes) -> None:
    fakes.payment.policy(breaker={"mode": "off"})
    with pytest.raises(FakeError, match="breaker"):
        fakes.payment.breaker.open()


def test_policies_add_up_and_are_undone_where_they_are_wrong(fakes: Fakes) -> None:
    fakes.venue.policy(retry={"max_retries": 0})
    with pytest.raises(FakeError) as refused:
        fakes.venue.policy(timeout={"attempt": "soon"})
    assert str(refused.value).splitlines() == [
        "fake.venue.policy(timeout={'attempt': 'soon'}): the sidecar rejects it:",
        "services.venue.timeout.attempt: expected a duration such as 250ms, 5s, 2m or 1h",
    ]
    fakes.venue.policy(timeout={"attempt": "50ms"})
    fakes.venue.get("/x").hangs()
    before = time.monotonic()
    assert ask(fakes.venue.url + "/x").reason == "attempt_timeout"
    assert time.monotonic() - before < 4  # the default is 5 s
    fakes.venue.assert_called(times=1)


def test_where_a_fake_is_is_not_a_policy(fakes: Fakes) -> None:
    with pytest.raises(FakeError, match="url cannot be set"):
        fakes.venue.policy(url="http://10.0.0.7:3002")


def test_unscripted(fakes: Fakes) -> None:
    assert ask(fakes.venue.url + "/x").status == 501
    assert len(fakes.problems()) == 1
    fakes.payment.allow_unexpected()
    assert ask(fakes.payment.url + "/x").status == 501
    assert len(fakes.problems()) == 1


def test_an_upload_that_waits_to_be_asked_for(fakes: Fakes) -> None:
    """`Expect: 100-continue`, as curl sends for a large body."""
    fakes.file.put("/a").then(201)
    assert ask(fakes.file.url + "/a", "PUT", b"x" * 200_000, {"Expect": "100-continue"}).status == 201
    assert eventually(lambda: fakes.file.calls)[0].body_size == 200_000


def test_repr_says_where_it_is(fakes: Fakes) -> None:
    fakes.venue.get("/x").then()
    ask(fakes.venue.url + "/x")
    assert repr(fakes.venue) == f"<fake venue at 127.0.0.1:{fakes.venue.port}, 1 calls>"


GET = "/shop.v1.Venue/Get"


def call(fakes: Fakes, message: bytes = b"", path: str = GET, **how: Any) -> bytes:
    """A call of gRPC through the sidecar, by an app that repeats nothing."""
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(fakes.address, options) as channel:
        found: bytes = channel.unary_unary(path)(message, timeout=10, **how)
        return found


def failed(fakes: Fakes, **how: Any) -> tuple[str, str]:
    """The status, and the sidecar's reason."""
    with pytest.raises(grpc.RpcError) as error:
        call(fakes, **how)
    return error.value.code().name, dict(error.value.trailing_metadata() or ()).get("x-sidecar-reason", "")


def test_a_fake_that_speaks_grpc(fakes: Fakes) -> None:
    fakes.shop.grpc(GET, b"reply", trailers={"kind": "a"}, times=2).fails("NOT_FOUND")
    assert fakes.shop.speaks_grpc
    assert [call(fakes, b"ask"), call(fakes, b"ask")] == [b"reply", b"reply"]
    assert failed(fakes) == ("NOT_FOUND", "")
    fakes.shop.grpc(GET).assert_called(times=2, message=b"ask")
    fakes.shop.assert_called(times=3)
    assert [one.answered for one in fakes.shop.grpc_calls] == ["OK", "OK", "NOT_FOUND"]
    assert fakes.shop.calls == []
    assert "gRPC /shop.v1.Venue/Get: NOT_FOUND" in fakes.told()


def test_the_short_form_is_that_of_the_long_one(fakes: Fakes) -> None:
    began = time.monotonic()
    fakes.shop.grpc(GET, status="UNAVAILABLE", details="later", delay=0.2).then(b"x")
    assert failed(fakes) == ("UNAVAILABLE", "")
    assert time.monotonic() - began >= 0.2
    assert call(fakes) == b"x"
    with pytest.raises(FakeError, match="needs a reply or a status"):
        fakes.shop.grpc(GET, trailers={"a": "b"})


def test_another_method_adds_what_the_service_claims(fakes: Fakes) -> None:
    fakes.shop.grpc(GET, b"get")
    fakes.shop.grpc("/stock.v1.Stock/Get", b"stock")
    assert [call(fakes), call(fakes, path="/stock.v1.Stock/Get")] == [b"get", b"stock"]


def test_a_reset_that_may_be_repeated_and_one_that_may_not(fakes: Fakes) -> None:
    fakes.shop.grpc(GET).resets().then(b"again")
    assert failed(fakes) == ("UNAVAILABLE", "reset")
    fakes.shop.grpc(GET).assert_called(times=1)
    fakes.shop.policy(retry={"on": ["UNAVAILABLE"]}, routes=[{"match": {"path": GET}, "idempotent": True}])
    fakes.shop.grpc(GET).clear().resets().then(b"again")
    assert call(fakes) == b"again"
    fakes.shop.grpc(GET).assert_called(times=3)


def test_a_grpc_service_that_is_down(fakes: Fakes) -> None:
    fakes.shop.grpc(GET, b"x")
    port = fakes.shop.port
    fakes.shop.down()
    assert failed(fakes) == ("UNAVAILABLE", "connect_failure")
    fakes.shop.up()
    assert call(fakes) == b"x"
    assert fakes.shop.port == port


def test_a_forced_breaker_of_a_grpc_service(fakes: Fakes) -> None:
    fakes.shop.grpc(GET, b"x")
    fakes.shop.breaker.open()
    assert failed(fakes) == ("UNAVAILABLE", "circuit_open")
    fakes.shop.assert_not_called()


def test_a_fake_speaks_http_or_grpc(fakes: Fakes) -> None:
    fakes.shop.get("/x").then()
    with pytest.raises(FakeError, match=r"fake\.shop speaks HTTP"):
        fakes.shop.grpc(GET)
    fakes.stock.grpc()
    with pytest.raises(FakeError, match=r"fake\.stock speaks gRPC, so it gets no GET /x"):
        fakes.stock.get("/x")


def test_a_grpc_call_without_a_script(fakes: Fakes) -> None:
    fakes.shop.grpc(GET)
    assert failed(fakes)[0] == "UNIMPLEMENTED"
    assert any('fake.shop.grpc("/shop.v1.Venue/Get")' in problem for problem in fakes.problems())


def test_a_grpc_script_that_is_never_used(fakes: Fakes) -> None:
    fakes.shop.grpc(GET, b"x")
    with pytest.raises(AssertionError, match=r"shop: gRPC /shop\.v1\.Venue/Get"):
        fakes.assert_all_called()
    call(fakes)
    fakes.assert_all_called()


def test_the_apps_own_file_says_who_speaks_grpc(tmp_path: Path) -> None:
    file = tmp_path / "sidecar.yaml"
    file.write_text(
        "services:\n"
        '  shop: {endpoints: ["grpc://10.0.0.7:50051"], grpc: [shop.v1.*], health: {grpc: {service: ""}}}\n'
        "  stock: {url: https://stock, protocol: h2, grpc: [stock.v1.Stock]}\n"
        "  venue: http://venue\n"
    )
    stage = Stage(file)
    try:
        with stage.fakes() as fakes:
            assert [fakes[name].speaks_grpc for name in ("shop", "stock", "venue")] == [True, True, False]
            fakes.shop.grpc(GET, b"shop")
            fakes.stock.grpc("*", b"stock")
            assert [call(fakes), call(fakes, path="/stock.v1.Stock/Get")] == [b"shop", b"stock"]
    finally:
        stage.close()
