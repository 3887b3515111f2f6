"""The ASGI middleware, driven by hand as a server would: scopes, receive, send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.client.asgi import ContextMiddleware, Message, Receive, Scope, Send
from sidecar.client.context import RequestContext, deadline_at, detached, remaining, request_context

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HEADERS = [
    (b"host", b"app"),
    (b"x-request-id", b"4f2c"),
    (b"traceparent", TRACEPARENT.encode()),
    (b"x-envoy-expected-rq-timeout-ms", b"1500"),
    (b"x-envoy-attempt-count", b"2"),
]


def scope_of(headers: list[tuple[bytes, bytes]], kind: str = "http") -> Scope:
    return {"type": kind, "asgi": {"version": "3.0"}, "http_version": "1.1", "path": "/", "headers": headers}


async def nothing_to_receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def sent_nowhere(message: Message) -> None:
    pass


async def serve(app: Callable[[], object], headers: list[tuple[bytes, bytes]], kind: str = "http") -> list[object]:
    """What `app` returned while one request was served."""
    seen: list[object] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(app())

    await ContextMiddleware(application)(scope_of(headers, kind), nothing_to_receive, sent_nowhere)
    return seen


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_request_is_taken_over_and_left_again(kind: str) -> None:
    left = await serve(remaining, HEADERS, kind)
    assert isinstance(left[0], float)
    assert 1 < left[0] <= 1.5
    assert await serve(request_context, HEADERS, kind) == [RequestContext("4f2c", TRACEPARENT, "", 2)]
    assert (request_context(), deadline_at()) == (RequestContext(), None)


async def test_other_scopes_pass_as_they_are() -> None:
    """A lifespan lasts as long as the server: what is done in it belongs to no request."""
    scopes: list[Scope] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        assert request_context() == RequestContext()

    lifespan: Scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
    await ContextMiddleware(application)(lifespan, nothing_to_receive, sent_nowhere)
    assert scopes == [lifespan]
    assert scopes[0] is lifespan


async def test_a_scope_without_headers_is_a_request_that_came_with_nothing() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        assert request_context() == RequestContext()

    await ContextMiddleware(application)({"type": "http"}, nothing_to_receive, sent_nowhere)


async def test_what_is_sent_after_the_start_of_the_response_is_inside() -> None:
    """A streamed response, and a background task, as frameworks run them: within the application's call."""
    seen: list[tuple[str, str]] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"one", b"two"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        seen.append(("background", request_context().request_id))
        with detached():
            seen.append(("detached", request_context().request_id))

    async def send(message: Message) -> None:
        seen.append((message["type"], request_context().request_id))

    await ContextMiddleware(application)(scope_of(HEADERS), nothing_to_receive, send)
    body = ("http.response.body", "4f2c")
    expected = [("http.response.start", "4f2c"), body, body, body, ("background", "4f2c"), ("detached", "")]
    assert seen == expected


async def test_one_task_serves_one_request_after_the_other() -> None:
    """As servers do on a connection that is kept alive."""
    assert await serve(request_context, HEADERS) == [RequestContext("4f2c", TRACEPARENT, "", 2)]
    assert await serve(request_context, [(b"x-request-id", b"second")]) == [RequestContext("second")]
    assert await serve(deadline_at, []) == [None]


async def test_it_is_left_when_the_application_fails() -> None:
    def fail() -> object:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await serve(fail, HEADERS)
    assert request_context() == RequestContext()


async def test_a_task_that_outlives_a_request_that_failed_has_no_deadline_of_the_callers() -> None:
    """Its 500 is sent by the framework or the server, past this middleware."""
    tasks: list[asyncio.Task[float | None]] = []

    async def work() -> float | None:
        await asyncio.sleep(0)
        return remaining()

    def fail() -> object:
        tasks.append(asyncio.get_running_loop().create_task(work()))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await serve(fail, HEADERS)
    assert await tasks[0] is None


async def test_concurrent_requests_do_not_see_each_other() -> None:
    meet = asyncio.Barrier(3)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await meet.wait()
        await send({"type": "done", "request_id": request_context().request_id})

    async def one(name: bytes) -> str:
        seen: list[str] = []

        async def send(message: Message) -> None:
            seen.append(message["request_id"])

        await ContextMiddleware(application)(scope_of([(b"x-request-id", name)]), nothing_to_receive, send)
        return seen[0]

    assert await asyncio.gather(one(b"a"), one(b"b"), one(b"c")) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("kind", "begins"),
    [
        ("http", "http.response.start"),
        ("websocket", "websocket.accept"),
        ("websocket", "websocket.http.response.start"),
    ],
)
async def test_the_callers_time_is_for_the_beginning_of_the_answer(kind: str, begins: str) -> None:
    """A stream, a socket and a background task may take longer, and keep the ids."""
    seen: list[object] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.debug"})
        seen.append(deadline_at() is not None)
        await send({"type": begins})
        seen.extend([deadline_at(), request_context().request_id])

    await ContextMiddleware(application)(scope_of(HEADERS, kind), nothing_to_receive, sent_nowhere)
    assert seen == [True, None, "4f2c"]


@given(
    st.lists(
        st.tuples(st.sampled_from([name for name, _ in HEADERS]) | st.binary(max_size=20), st.binary()), max_size=6
    )
)
def test_no_header_breaks_it(headers: list[tuple[bytes, bytes]]) -> None:
    got = asyncio.run(serve(request_context, headers))[0]
    assert isinstance(got, RequestContext)
    assert got.request_id.isascii()
    assert got.traceparent.isascii()
