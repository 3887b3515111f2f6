"""After a 101: bytes both ways, with backpressure, half-close and an idle limit.

Owns the two transports from the 101 on. It looks at nothing that passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any, Final, cast

from sidecar.net.under_way import bytes_under_way
from sidecar.proxy.deadlines import Deadlines
from sidecar.proxy.downstream.stream import DownstreamStream
from sidecar.proxy.http1.response_head import ResponseHead
from sidecar.proxy.upstream.stream import UpstreamStream

CLOSING_S: Final = 5.0
"""How long the last bytes may take to go out once one side has left."""


class _Side:
    """One end: what comes in here goes out at `other`."""

    __slots__ = ("done", "other", "received", "transport", "tunnel")

    other: _Side

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport) -> None:
        self.tunnel = tunnel
        self.transport = transport
        self.received = 0
        self.done = False
        """It has sent its last byte."""

    def data_received(self, data: bytes) -> None:
        self.tunnel.last_activity = monotonic()
        self.received += len(data)
        if not self.other.transport.is_closing():
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        self.done = True
        self.tunnel.ended_first(self)
        if self.other.done:
            self.tunnel.close()
            return False
        with suppress(RuntimeError, NotImplementedError):
            self.other.transport.write_eof()
        return True  # the other direction may still have something to say

    def connection_lost(self, exc: Exception | None) -> None:
        self.tunnel.lost(self)

    def pause_writing(self) -> None:
        with suppress(RuntimeError):
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.tunnel.last_activity = monotonic()
        with suppress(RuntimeError):
            self.other.transport.resume_reading()


class Tunnel:
    """Two connections joined. `ended` is called once, when both are closed or closing."""

    __slots__ = (
        "_app",
        "_deadlines",
        "_downstream",
        "_ended",
        "_idle_s",
        "_open",
        "_service",
        "_unsent",
        "_upstream",
        "deadline",
        "ended_by",
        "last_activity",
        "opened",
    )

    def __init__(
        self,
        downstream: DownstreamStream,
        upstream: UpstreamStream,
        idle_s: float,
        deadlines: Deadlines,
        ended: Callable[[], None],
    ) -> None:
        self._downstream = downstream
        self._upstream = upstream
        self._idle_s = idle_s
        self._deadlines = deadlines
        self._ended: Callable[[], None] | None = ended
        self._unsent = (0, 0)
        self.deadline = inf
        self.opened = self.last_activity = monotonic()
        self.ended_by = ""
        """Who ended it: `app`, `service`, `idle` (timeout.idle), or `sidecar` (its own end)."""

    def open(self, response: ResponseHead) -> None:
        """Send the 101 to the app, then what each side has said already, and let the bytes flow."""
        to_app, early = self._downstream.detach()
        to_service, late = self._upstream.detach()
        app = self._app = _Side(self, to_app)
        service = self._service = _Side(self, to_service)
        app.other, service.other = service, app
        self._open = {app, service}
        to_app.set_protocol(cast(Any, app))
        to_service.set_protocol(cast(Any, service))
        app.received, service.received = len(early), len(late)
        to_app.writelines([response.bytes_for(b"\r\nConnection: Upgrade\r\nUpgrade: websocket"), late])
        if early:
            to_service.write(early)
        self.deadline = self.last_activity + self._idle_s / 4
        self._deadlines.watch(self)

    def deadline_passed(self, now: float) -> None:
        unsent = bytes_under_way(self._app.transport), bytes_under_way(self._service.transport)
        if any(is_now < was for is_now, was in zip(unsent, self._unsent, strict=True)):
            self.last_activity = now  # a slow reader is no idle one
        self._unsent = unsent
        if self._ended is not None and self.last_activity + self._idle_s > now:
            wait_s = self._idle_s / 4 if any(unsent) else self._idle_s
            self._deadlines.arm(self, min(self.last_activity + self._idle_s, now + wait_s))
        else:
            self.abort("idle")

    def ended_first(self, side: _Side) -> None:
        """This side has sent its last byte; the first one to do so has ended the tunnel."""
        self.ended_by = self.ended_by or ("app" if side is self._app else "service")

    @property
    def seconds(self) -> float:
        """How long it has been open."""
        return monotonic() - self.opened

    @property
    def received(self) -> int:
        """Bytes that the app sent."""
        return self._app.received

    @property
    def sent(self) -> int:
        """Bytes that the service sent."""
        return self._service.received

    def lost(self, side: _Side) -> None:
        """One side is gone: what it said last still goes out at the other, then that closes too."""
        side.done = True
        self.ended_first(side)
        self._open.discard(side)
        if side is self._app:
            self._downstream.tunnel_closed()
        if self._open:
            self.close()
        else:
            self._deadlines.forget(self)
            self._end()

    def close(self) -> None:
        """Close both sides once what was written has gone out, which must not take long."""
        self._app.transport.close()
        self._service.transport.close()
        self._deadlines.arm(self, monotonic() + CLOSING_S)
        self._end()

    def abort(self, by: str) -> None:
        """Close both sides now; `by` as in `ended_by`."""
        self.ended_by = self.ended_by or by
        self._app.transport.abort()
        self._service.transport.abort()
        self._end()

    def _end(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()

    def __repr__(self) -> str:
        return f"<Tunnel {self._upstream.endpoint.label} last_activity={self.last_activity:.3f}>"
