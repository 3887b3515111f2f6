"""What answers a request: the part that every way of answering shares.

Owns how a request's life is driven: one coroutine, `_live`, by hand. It waits in `event` only, and is resumed straight
from the callback that has what it waits for (`resume`), or with the exception that ends the waiting (`interrupt`). An
asyncio task and a future for each wait would cost several times as much (docs/decisions/0001-hand-driven-exchange.md).

Callbacks come while it waits, never while it runs: a transport calls back from the event loop only, but for
pause_writing, which sets flags and pauses the other side.
"""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator, Sequence
from typing import Any

from sidecar.proxy.downstream.stream import DownstreamStream
from sidecar.proxy.http1.head_syntax import BadRequest
from sidecar.proxy.http1.request_body import RequestBody
from sidecar.proxy.http1.request_head import RequestHead
from sidecar.proxy.problem import Attempt, Problem


class Disconnected(Exception):
    """The app went away."""


@types.coroutine
def event() -> Generator[None, Any, Any]:
    """Wait until the handler is resumed with an event, or interrupted by an exception. The one place that waits."""
    return (yield)


class Handler:
    """Made for one request of a stream, and told by that what the app does."""

    head: RequestHead
    """Of the request."""
    body: RequestBody | None = None
    """Of the request; the stream takes it off what the app sends."""
    stream: DownstreamStream
    _coroutine: Coroutine[None, Any, None] | None = None

    _over: bool = False
    """`_live` has ended."""

    def start(self) -> None:
        self._coroutine = self._run()
        self.resume(None)

    async def _run(self) -> None:
        await self._live()
        self._over = True
        await event()  # nobody resumes it: to end by a StopIteration costs a sixteenth of a request (decision 0001)

    async def _live(self) -> None:
        """From the request's head to the answer's last byte. Nothing it holds may outlast it."""
        raise NotImplementedError

    # What the stream asks.

    @property
    def service_name(self) -> str:
        """The service that the request is for; empty where it is for no single one."""
        raise NotImplementedError

    def attempts_so_far(self) -> tuple[Sequence[Attempt], int]:
        """What was sent to endpoints and has ended (it grows), and how much was sent, or began to be."""
        return (), 0

    @property
    def client_idle_s(self) -> float:
        """How long the connection may rest after this request, and how long an app may take nothing at its end."""
        raise NotImplementedError

    @property
    def half_close(self) -> bool:
        """Whether the app may close its sending side and still wait for the answer."""
        raise NotImplementedError

    # What the stream says.

    def disconnected(self, why: str) -> None:
        self.interrupt(Disconnected(why))

    def refused(self, refusal: BadRequest) -> None:
        self.interrupt(refusal)

    def body_received(self, pieces: list[bytes]) -> None:
        raise NotImplementedError

    def pause_download(self) -> None:
        raise NotImplementedError

    def resume_download(self) -> None:
        raise NotImplementedError

    def deadline_passed(self, now: float) -> None:
        raise NotImplementedError

    # Waiting.

    def resume(self, event: object) -> None:
        coroutine = self._coroutine
        if coroutine is not None:
            try:
                coroutine.send(event)
            except Exception as error:
                self._crashed(error)
                return
            if self._over:
                self._ended()

    def interrupt(self, error: Exception) -> None:
        coroutine = self._coroutine
        if coroutine is not None:
            try:
                coroutine.throw(error)
            except Exception as failure:
                self._crashed(failure)
                return
            finally:
                # Since CPython 3.12 a frame that has ended knows its caller, if a traceback holds it. So this one would
                # hold this frame, which holds `error`: a cycle with the whole request in it.
                error.__traceback__ = None
            if self._over:
                self._ended()

    def _ended(self) -> None:
        self._coroutine = None
        self.stream.handler_ended()

    def _crashed(self, error: Exception) -> None:
        """A defect of ours."""
        raise NotImplementedError


class Dispatcher:
    """Chooses what answers a request."""

    def dispatch(self, stream: DownstreamStream, request: RequestHead) -> Handler | Problem:
        """The handler of a request, not started yet, or the answer where no service takes it. Raises BadRequest."""
        raise NotImplementedError

    def for_authority(self, authority: bytes) -> Dispatcher:
        """The same for a connection that an app has opened to one authority by CONNECT, whatever its requests say.

        Raises BadRequest where there is no such connection.
        """
        raise NotImplementedError
