"""What goes with a call of itself, by a scripted sidecar: ids, the caller's attempt, deadlines."""

from __future__ import annotations

import asyncio

import pytest
from multidict import CIMultiDict

from sidecar.client import (
    DeadlineExceeded,
    Response,
    ServiceClient,
    ServiceError,
    deadline,
    detached,
    outgoing,
    serving,
)
from sidecar.client.response import Call
from tests.support.steps import answer
from tests.support.upstream import Upstream

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALL = Call("venue", "GET", "/", "r-1")


async def test_every_call_bears_an_id_of_its_own(scripted: Upstream, venue: ServiceClient) -> None:
    for _ in range(3):
        await venue.get("/")
    ids = {request.get("x-request-id") or "" for request in scripted.requests}
    assert len(ids) == 3
    assert {len(each) for each in ids} == {32}
    absent = ("traceparent", "x-envoy-attempt-count", "x-envoy-upstream-rq-timeout-ms", "idempotency-key", "cookie")
    assert [scripted.last.get(name) for name in absent] == [None] * 5


async def test_what_the_request_being_served_came_with_is_handed_on(scripted: Upstream, venue: ServiceClient) -> None:
    incoming = {
        "X-Request-Id": "r-1",
        "traceparent": TRACEPARENT,
        "tracestate": "a=1",
        "x-envoy-attempt-count": "2",
        "x-envoy-expected-rq-timeout-ms": "5000",
    }
    with serving(incoming):
        await venue.get("/")
        with detached():
            await venue.get("/")
    served, free = scripted.requests
    names = ("x-request-id", "traceparent", "tracestate", "x-envoy-attempt-count")
    assert [served.get(name) for name in names] == ["r-1", TRACEPARENT, "a=1", "2"]
    assert 4000 < int(served.get("x-envoy-upstream-rq-timeout-ms") or "") <= 5000
    assert [free.get(name) for name in names[1:]] == [None] * 3


async def test_attempt_is_handed_on_until_the_answer_has_begun(scripted: Upstream, venue: ServiceClient) -> None:
    """From then on nobody repeats the request, so the sidecar may repeat calls. They still bear its ids."""
    begun = False
    going_on: list[asyncio.Task[Response]] = []
    over = asyncio.Event()

    async def go_on() -> Response:
        await over.wait()
        return await venue.get("/after")

    with serving({"X-Request-Id": "r-1", "x-envoy-attempt-count": "2"}, lambda: begun):
        await venue.get("/before")
        begun = True
        await venue.get("/streaming")
        begun = False
        going_on.append(asyncio.get_running_loop().create_task(go_on()))
    over.set()
    await going_on[0]
    assert [request.get("x-envoy-attempt-count") for request in scripted.requests] == ["2", None, None]
    assert {request.get("x-request-id") for request in scripted.requests} == {"r-1"}


async def test_first_attempt_is_not_handed_on(scripted: Upstream, venue: ServiceClient) -> None:
    with serving({"x-envoy-attempt-count": "1"}):
        await venue.get("/")
    assert scripted.last.get("x-envoy-attempt-count") is None


async def test_nearest_deadline_is_sent(scripted: Upstream) -> None:
    async with ServiceClient("venue", base_url=scripted.url, deadline=30.0) as venue:
        for seconds in (10.0, 50.0):
            async with deadline(seconds):
                await venue.get("/")
    given = [int(request.get("x-envoy-upstream-rq-timeout-ms") or "") for request in scripted.requests]
    assert 9000 < given[0] <= 10_000 < 29_000 < given[1] <= 30_000


@pytest.mark.parametrize(
    ("left_s", "told"),
    [(0.0001, "1"), (0.0009, "1"), (0.001, "1"), (0.0019, "1"), (0.0021, "2"), (1.5, "1500"), (30.0, "30000")],
)
def test_time_left_is_told_in_whole_milliseconds_and_never_as_none(
    monkeypatch: pytest.MonkeyPatch, left_s: float, told: str
) -> None:
    monkeypatch.setattr(outgoing, "monotonic", lambda: 64.0)
    fields = CIMultiDict[str]()
    assert outgoing.left(CALL, fields, 64.0 + left_s) == pytest.approx(left_s)
    assert fields == {"x-envoy-upstream-rq-timeout-ms": told}


@pytest.mark.parametrize("over_s", [0.0, 0.5])
def test_a_deadline_that_is_over_is_told_to_nobody(monkeypatch: pytest.MonkeyPatch, over_s: float) -> None:
    monkeypatch.setattr(outgoing, "monotonic", lambda: 64.0)
    fields = CIMultiDict[str]()
    with pytest.raises(DeadlineExceeded):
        outgoing.left(CALL, fields, 64.0 - over_s)
    assert not fields


def test_a_time_left_that_the_app_set_itself_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "monotonic", lambda: 64.0)
    fields = CIMultiDict({"X-Envoy-Upstream-Rq-Timeout-Ms": "7"})
    assert outgoing.left(CALL, fields, 69.0) == 5.0
    assert dict(fields) == {"X-Envoy-Upstream-Rq-Timeout-Ms": "7"}


async def test_callers_headers_win_in_any_case(scripted: Upstream) -> None:
    async with ServiceClient("venue", base_url=scripted.url, headers={"X-App": "a", "x-team": "t"}) as venue:
        own = {"x-request-id": "mine", "TRACEPARENT": TRACEPARENT, "x-app": "b", "X-Envoy-Upstream-Rq-Timeout-Ms": "7"}
        scripted.play(answer(500))
        with serving({"x-request-id": "theirs", "traceparent": TRACEPARENT.replace("b7", "c7"), "tracestate": "a=1"}):
            async with deadline(5):
                with pytest.raises(ServiceError) as caught:
                    await venue.get("/", headers=own)
    assert caught.value.request_id == "mine"
    names = ("x-request-id", "traceparent", "tracestate", "x-app", "x-team", "x-envoy-upstream-rq-timeout-ms")
    assert [scripted.last.get(name) for name in names] == ["mine", TRACEPARENT, None, "b", "t", "7"]
