"""The app's side of one request, whatever protocol it speaks: what an answer is written to.

Owns the words of that seam. An HTTP/1.1 connection is the one stream that it carries; HTTP/2 has many on a connection.
What belongs to a connection (idle time, draining, counts) is not here.
"""

from __future__ import annotations

import asyncio

from sidecar.proxy.body_sink import BodySink
from sidecar.proxy.http1.head_syntax import Trailers
from sidecar.proxy.http1.request_head import RequestHead
from sidecar.proxy.http1.response_head import ResponseHead
from sidecar.proxy.problem import Problem


class DownstreamStream(BodySink):
    """One request's way back to the app. Where a method is told pieces of a body, it keeps none of them for long:
    `writable` says when the app cannot take more."""

    __slots__ = ("deadline", "last_activity", "plain", "responding", "sent", "writable")

    deadline: float
    """When the handler is told that its time is over (seconds of the loop's clock; infinity for never)."""
    last_activity: float
    """When a part of a body last went to the app."""
    plain: bool
    """Bodies come to it without the framing of HTTP/1.1 chunks."""
    responding: bool
    """Whether the final response's head has gone to the app."""
    sent: int
    """Bytes of the response's body that were written, framing by the service included."""
    writable: bool

    def arm(self, when: float) -> None:
        """Set the deadline."""
        raise NotImplementedError

    def begin_response(self, request: RequestHead, response: ResponseHead, held: list[bytes]) -> None:
        """Send the final response's head, and what there is of its body."""
        raise NotImplementedError

    def end_response(self, trailers: Trailers = ()) -> None:
        """The response is whole. Trailers of HTTP/1.1 stand in its body's framing, unless `plain`."""
        raise NotImplementedError

    def write_interim(self, response: ResponseHead) -> None:
        """Send a 1xx."""
        raise NotImplementedError

    def answer(self, problem: Problem, request: RequestHead | None, *, head_only: bool = False) -> None:
        """Send an answer of our own. Without a request, nobody knows where the next one would begin."""
        raise NotImplementedError

    def cut(self, grpc_status: int = 13, detail: str = "") -> None:
        """Break off in the middle of a response, so that the app cannot take it for a whole one. A gRPC call ends with
        this status and these words."""
        raise NotImplementedError

    def handler_ended(self) -> None:
        """Nothing more will be written for this request, and all that was held for it is given back."""
        raise NotImplementedError

    def pause_upload(self) -> None:
        """The service does not take the request's body as fast as it comes."""
        raise NotImplementedError

    def resume_upload(self) -> None:
        raise NotImplementedError

    def unsent(self) -> int:
        """Bytes that were written and that the app has not taken, those in the kernel's buffer included."""
        raise NotImplementedError

    def peer(self) -> str | None:
        """The app's address, where it has one."""
        raise NotImplementedError

    def detach(self) -> tuple[asyncio.Transport, bytes]:
        """After a 101: the transport, which is the tunnel's from here on, and what the app has sent already."""
        raise NotImplementedError

    def tunnel_closed(self) -> None:
        """The tunnel has seen the app's transport end."""
        raise NotImplementedError
