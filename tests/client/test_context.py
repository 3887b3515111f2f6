"""What is taken over from a request, held against arbitrary values; deadlines, and what a task started inside has."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable

import pytest
import uvloop
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from sidecar.client.context import (
    GRACE_S,
    RequestContext,
    deadline,
    deadline_at,
    detached,
    remaining,
    request_context,
    serving,
)

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HEADERS = {
    "X-Request-Id": "4f2c",
    "Traceparent": TRACEPARENT,
    "Tracestate": "vendor=1, other=2",
    "X-Envoy-Attempt-Count": "2",
    "X-Envoy-Expected-Rq-Timeout-Ms": "1500",
}


async def hang() -> None:
    await asyncio.get_running_loop().create_future()


# What is taken over.


def test_outside_of_everything_there_is_nothing() -> None:
    assert (request_context(), deadline_at(), remaining()) == (RequestContext(), None, None)


def test_a_request_is_taken_over_and_left_again() -> None:
    with serving(HEADERS):
        assert request_context() == RequestContext("4f2c", TRACEPARENT, "vendor=1, other=2", 2)
        left = remaining()
        assert left is not None
        assert 1.4 < left <= 1.5
    assert (request_context(), deadline_at()) == (RequestContext(), None)


def test_it_is_left_when_the_handler_fails() -> None:
    with pytest.raises(ZeroDivisionError), serving(HEADERS):
        _ = 1 / 0
    assert request_context() == RequestContext()


def test_requests_do_not_add_up() -> None:
    """A server may have been started while another request was served: its tasks inherit that one's context."""
    with serving(HEADERS), serving({"x-request-id": "inner"}):
        assert (request_context(), deadline_at()) == (RequestContext("inner"), None)


def request_id(value: str) -> str:
    with serving({"x-request-id": value}):
        return request_context().request_id


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("x" * 256, True),
        ("x" * 257, False),
        ("", False),
        ("two words", False),
        ("a\r\nx-admin: 1", False),
        ("a\n", False),
        ("ä", False),
        ("\udcff", False),
        ("~!", True),
    ],
)
def test_request_ids(value: str, taken: bool) -> None:
    assert request_id(value) == (value if taken else "")


def test_spaces_around_a_value_are_not_its_own() -> None:
    assert request_id(" 4f2c\t") == "4f2c"


def trace(headers: dict[str, str] | list[tuple[str, str]]) -> tuple[str, str]:
    with serving(headers):
        return request_context().traceparent, request_context().tracestate


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (TRACEPARENT, True),
        (TRACEPARENT + "-more", False),
        ("cc" + TRACEPARENT[2:] + "-more", True),
        ("cc" + TRACEPARENT[2:] + "-more,less", False),
        ("ff" + TRACEPARENT[2:], False),
        (TRACEPARENT.upper(), False),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", False),
        (f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", False),
        (TRACEPARENT[:-1], False),
        (TRACEPARENT + "\n", False),
        ("cc" + TRACEPARENT[2:] + "-" + "x" * 201, False),
    ],
)
def test_traceparents(value: str, taken: bool) -> None:
    expected = (value, "a=1") if taken else ("", "")
    assert trace({"traceparent": value, "tracestate": "a=1"}) == expected


@pytest.mark.parametrize(
    ("state", "taken"), [("x" * 512, True), ("x" * 513, False), ("a=ä", False), ("a=1\r\n", False)]
)
def test_tracestates(state: str, taken: bool) -> None:
    assert trace({"traceparent": TRACEPARENT, "tracestate": state}) == (TRACEPARENT, state if taken else "")


def test_of_two_traceparents_none_counts() -> None:
    """W3C Trace Context, section 3.2: two are malformed; of tracestate there may be several."""
    assert trace([("traceparent", TRACEPARENT), ("Traceparent", TRACEPARENT)]) == ("", "")
    one = [("traceparent", TRACEPARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]
    assert trace(one) == (TRACEPARENT, "a=1, b=2")


def test_fields_of_a_multidict_are_all_seen() -> None:
    headers = CIMultiDictProxy(CIMultiDict([("X-Request-Id", "one"), ("x-request-id", "two")]))
    with serving(headers):
        assert request_context().request_id == ""


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [
        ("1", 1),
        ("0001500", 1500),
        ("9999999999", 9_999_999_999),
        ("10000000000", None),
        ("0", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("1_0", None),
        ("٣", None),
        ("1e3", None),
        ("5, 5", None),
        ("", None),
    ],
)
def test_deadlines_of_a_request(value: str, milliseconds: int | None) -> None:
    before = time.monotonic()
    with serving({"x-envoy-expected-rq-timeout-ms": value}):
        at = deadline_at()
    if milliseconds is None:
        assert at is None
    else:
        assert at == pytest.approx(before + milliseconds / 1000, abs=0.5)


@pytest.mark.parametrize(("value", "attempt"), [("1", 1), ("12", 12), ("0", 0), ("x", 0), ("-2", 0), ("1" * 11, 0)])
def test_attempt_counts(value: str, attempt: int) -> None:
    with serving({"x-envoy-attempt-count": value}):
        assert request_context().attempt == attempt


ANY_VALUE = st.text(max_size=600) | st.text("0123456789abcdef-,=\r\n\x00 ", max_size=80)
NAMES = st.sampled_from([*HEADERS, *(name.lower() for name in HEADERS), "cookie", "x-request-id "])


@given(st.lists(st.tuples(NAMES, ANY_VALUE | st.sampled_from(list(HEADERS.values()))), max_size=8))
@example([("x-request-id", "\x7f"), ("tracestate", "a=1")])
def test_nothing_malformed_is_taken_over(headers: list[tuple[str, str]]) -> None:
    with serving(headers):
        got, at = request_context(), deadline_at()
    for value in (got.request_id, got.traceparent, got.tracestate):
        assert value.isascii()
        assert value == "" or value.isprintable()
    assert re.fullmatch("[!-~]{0,256}", got.request_id)
    assert not got.tracestate or got.traceparent
    assert 0 <= got.attempt < 10**10
    assert at is None or at <= time.monotonic() + 10**7


# Tasks.


async def test_a_task_started_while_serving_inherits_the_request() -> None:
    async def look() -> tuple[str, float | None]:
        await asyncio.sleep(0)
        return request_context().request_id, deadline_at()

    with serving(HEADERS):
        async with asyncio.TaskGroup() as group:
            inside = group.create_task(look())
            with detached():
                free = group.create_task(look())
            assert request_context().request_id == "4f2c"
        assert inside.result() == ("4f2c", deadline_at())
        assert deadline_at() is not None
    assert free.result() == ("", None)


async def test_a_task_that_outlives_the_request_has_no_deadline_of_the_callers() -> None:
    """Whatever the answer was: that of a handler that failed is made outside of the block, and not seen to begin."""
    over = asyncio.Event()
    tasks: list[asyncio.Task[tuple[str, float | None, float | None]]] = []

    async def work() -> tuple[str, float | None, float | None]:
        before = remaining()
        await over.wait()
        return request_context().request_id, before, remaining()

    async def handler() -> None:
        with serving(HEADERS):
            tasks.append(asyncio.get_running_loop().create_task(work()))
            await asyncio.sleep(0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await handler()
    over.set()
    request_id, before, after = await tasks[0]
    assert (request_id, after) == ("4f2c", None)
    assert before is not None


async def test_concurrent_requests_do_not_see_each_other() -> None:
    meet = asyncio.Barrier(2)

    async def serve(name: str, milliseconds: int) -> tuple[str, bool]:
        with serving({"x-request-id": name, "x-envoy-expected-rq-timeout-ms": str(milliseconds)}):
            await meet.wait()
            left = remaining()
            assert left is not None
            return request_context().request_id, left > 5

    assert await asyncio.gather(serve("one", 1000), serve("two", 10_000)) == [("one", False), ("two", True)]


# Deadlines.


async def test_a_deadline_cuts_what_is_awaited() -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"the deadline of 0\.02 s has passed"):
        async with deadline(0.02):
            await hang()
    assert 0.02 <= time.monotonic() - started < 2
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    assert deadline_at() is None


async def test_nothing_happens_in_time() -> None:
    async with deadline(5) as scope:
        assert 4 < scope.remaining() <= 5
        assert remaining() == pytest.approx(scope.remaining(), abs=0.5)
    assert remaining() is None


@pytest.mark.parametrize(("outer", "inner"), [(2.0, 60.0), (60.0, 2.0)])
async def test_the_nearest_of_nested_deadlines_wins(outer: float, inner: float) -> None:
    async with deadline(outer) as around:
        async with deadline(inner) as scope:
            assert 1 < scope.remaining() <= 2
            assert deadline_at() is not None
        assert remaining() == pytest.approx(around.remaining(), abs=0.5)


async def test_the_deadline_of_the_request_counts_in_a_block_and_cuts_nothing() -> None:
    with serving({"x-envoy-expected-rq-timeout-ms": "20"}):
        async with deadline(60) as scope:
            assert scope.remaining() <= 0.02
            await asyncio.sleep(0.03 + GRACE_S)
            assert scope.remaining() < 0


async def test_the_callers_time_is_for_the_beginning_of_the_answer() -> None:
    """As the sidecar counts it: its timeouts end at the response's head."""
    begun = False
    with serving({"x-envoy-expected-rq-timeout-ms": "1500"}, lambda: begun):
        async with deadline(60) as scope:
            assert scope.remaining() <= 1.5
            begun = True
            assert 50 < scope.remaining() <= 60
        assert remaining() is None
        async with deadline(1):
            assert remaining() is not None
        assert request_context() == RequestContext()


async def test_an_outer_deadline_comes_out_of_the_outer_block() -> None:
    went_on = False

    async def work() -> None:
        nonlocal went_on
        async with deadline(0.02):
            async with deadline(60):
                await hang()
            went_on = True

    with pytest.raises(TimeoutError, match=r"the deadline of 0\.02 s has passed"):
        await work()
    assert not went_on


async def test_a_deadline_that_has_passed_lets_nothing_be_awaited() -> None:
    with pytest.raises(TimeoutError):
        async with deadline(-1):
            await hang()
    async with deadline(-1) as scope:
        assert scope.remaining() < 0


async def test_what_the_block_raises_comes_out_as_it_is() -> None:
    with pytest.raises(TimeoutError, match="of something else"):
        async with deadline(5):
            raise TimeoutError("of something else")
    with pytest.raises(KeyError):
        async with deadline(5):
            raise KeyError("x")


class Cut(TimeoutError):
    """Stands for what a call raises where its own timer ran out."""


async def a_call() -> None:
    """As a client call is built: its own timer at the instant of the nearest deadline."""
    left = remaining()
    assert left is not None
    try:
        async with asyncio.timeout(left):
            await hang()
    except TimeoutError:
        raise Cut("the call") from None


async def test_a_call_under_way_says_that_it_was_cut() -> None:
    with pytest.raises(Cut):
        async with deadline(0.02):
            await a_call()


async def test_a_call_says_so_where_the_loop_was_blocked_over_both_timers_too() -> None:
    asyncio.get_running_loop().call_later(0.01, time.sleep, 0.03 + 2 * GRACE_S)
    with pytest.raises(Cut):
        async with deadline(0.02):
            await a_call()
    await asyncio.sleep(0)  # no cancellation is left over
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


@pytest.mark.parametrize("work", [a_call, hang])
def test_deadlines_on_uvloop(work: Callable[[], Awaitable[None]]) -> None:
    """Its timers count whole milliseconds, by a clock that stands still between two of its turns."""

    async def within() -> None:
        started = time.monotonic()
        with pytest.raises(Cut if work is a_call else TimeoutError):
            async with deadline(0.02):
                await work()
        assert 0.018 <= time.monotonic() - started < 2

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(within())


async def test_going_on_after_a_call_was_cut_ends_with_the_block() -> None:
    caught = False

    async def work() -> None:
        nonlocal caught
        async with deadline(0.02):
            try:
                await a_call()
            except Cut:
                caught = True
            await hang()

    with pytest.raises(TimeoutError, match=r"the deadline of 0\.02 s"):
        await work()
    assert caught


async def test_a_cancellation_stays_one() -> None:
    async def work() -> None:
        async with deadline(0.02):
            await hang()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()


async def test_a_cancellation_at_the_moment_of_the_deadline_stays_one() -> None:
    async def work() -> None:
        async with deadline(0.0):
            await hang()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(work())
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        loop.call_soon(time.sleep, 2 * GRACE_S)  # the timer is due in the iteration in which the task is cancelled
        loop.call_soon(task.cancel)
    assert task.cancelled()


async def test_a_task_started_in_a_block_keeps_the_deadline_and_is_not_cut() -> None:
    ended = asyncio.Event()

    async def look() -> float | None:
        await ended.wait()
        return deadline_at()

    started: list[tuple[asyncio.Task[float | None], float | None]] = []

    async def work(group: asyncio.TaskGroup) -> None:
        async with deadline(0.01):
            started.append((group.create_task(look()), deadline_at()))
            await hang()

    async with asyncio.TaskGroup() as group:
        with pytest.raises(TimeoutError):
            await work(group)
        ended.set()
    ((task, at),) = started
    assert task.result() == at is not None


async def test_detached_work_has_no_deadline() -> None:
    async with deadline(5):
        with detached():
            assert remaining() is None
        assert remaining() is not None


@pytest.mark.parametrize("seconds", [float("nan"), float("inf")])
def test_a_deadline_is_a_finite_number(seconds: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        deadline(seconds)


async def test_a_deadline_is_for_one_block() -> None:
    scope = deadline(5)
    with pytest.raises(RuntimeError, match="inside its block"):
        scope.remaining()
    async with scope:
        with pytest.raises(RuntimeError, match="entered only once"):
            await scope.__aenter__()
        assert remaining() == pytest.approx(scope.remaining(), abs=0.5)
