"""What becomes of one request: the part that every way of answering shares.

Owns how a request's life is driven: one coroutine, `_live`, by hand. It waits in `_wait` only, and is resumed straight
from the callback that has what it waits for (`_resume`), or with the exception that ends the waiting (`_interrupt`). An
asyncio task and a future for each wait would cost several times as much (docs/decisions/0001-hand-driven-exchange.md).

Callbacks come while it waits, never while it runs: a transport calls back from the event loop only, but for
pause_writing, which sets flags and pauses the other side.
"""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator, Sequence
from typing import TYPE_CHECKING, Any

from sidecar.proxy.http1.head_syntax import BadRequest
from sidecar.proxy.http1.request_body import RequestBody
from sidecar.proxy.http1.request_head import RequestHead
from sidecar.proxy.problem import Attempt

if TYPE_CHECKING:
    from sidecar.proxy.downstream.http1_connection import Downstream


class Disconnected(Exception):
    """The app went away."""


class Handler:
    """Made by the connection that a request came on, and told by it what the app does."""

    request: RequestHead
    body: RequestBody | None = None
    """Of the request; the connection takes it off what the app sends."""
    _downstream: Downstream
    _coroutine: Coroutine[None, Any, None] | None = None

    def start(self) -> None:
        self._coroutine = self._live()
        self._resume(None)

    async def _live(self) -> None:
        """From the request's head to the answer's last byte. Nothing it holds may outlast it."""
        raise NotImplementedError

    # What the connection asks.

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

    # What the connection says.

    @property
    def half_close(self) -> bool:
        """Whether the app may close its sending side and still wait for the answer."""
        raise NotImplementedError

    def disconnected(self, why: str) -> None:
        self._interrupt(Disconnected(why))

    def refused(self, refusal: BadRequest) -> None:
        self._interrupt(refusal)

    def body_received(self, pieces: list[bytes]) -> None:
        raise NotImplementedError

    def pause_download(self) -> None:
        raise NotImplementedError

    def resume_download(self) -> None:
        raise NotImplementedError

    def deadline_passed(self, now: float) -> None:
        """Told by the connection that is watched."""
        raise NotImplementedError

    # Waiting.

    @types.coroutine
    def _wait(self) -> Generator[None, Any, Any]:
        """Until `_resume` is called with an event, or `_interrupt` with an exception. The one place that waits."""
        return (yield)

    def _resume(self, event: object) -> None:
        coroutine = self._coroutine
        if coroutine is not None:
            try:
                coroutine.send(event)
            except StopIteration:
                self._ended()
            except Exception as error:
                self._crashed(error)

    def _interrupt(self, error: Exception) -> None:
        coroutine = self._coroutine
        if coroutine is not None:
            try:
                coroutine.throw(error)
            except StopIteration:
                self._ended()
            except Exception as failure:
                self._crashed(failure)
            finally:
                # Since CPython 3.12 a frame that has ended knows its caller, if a traceback holds it. So this one would
                # hold this frame, which holds `error`: a cycle with the whole request in it.
                error.__traceback__ = None

    def _ended(self) -> None:
        self._coroutine = None
        self._downstream.exchange_ended()

    def _crashed(self, error: Exception) -> None:
        """A defect of ours."""
        raise NotImplementedError
