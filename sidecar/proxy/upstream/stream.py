"""The service's side of one attempt, whatever protocol it speaks: what a request is sent on and an answer comes from.

Owns the words of that seam: the stream, and what it tells whoever made the attempt. An HTTP/1.1 connection is the one
stream that it carries; HTTP/2 has many on a connection.
"""

from __future__ import annotations

import asyncio

from sidecar.proxy.body_sink import BodySink
from sidecar.proxy.http1.head_syntax import Trailers
from sidecar.proxy.http1.request_body import RequestBody
from sidecar.proxy.http1.request_head import RequestHead
from sidecar.proxy.http1.response_head import ResponseHead
from sidecar.runtime.additions import Additions
from sidecar.runtime.endpoint import Endpoint


class Lost(Exception):
    """An attempt ended without a usable response.

    `ours`: a limit of the sidecar's own ended it. `unprocessed`: the service says that it has not looked at the
    request, which may be sent again whatever its method (HTTP/2: REFUSED_STREAM, or a stream above GOAWAY's last).
    `code` is that of the service's RST_STREAM (RFC 9113, section 7); -1 where there was none.
    """

    def __init__(
        self, reason: str, detail: str, *, ours: bool = False, unprocessed: bool = False, code: int = -1
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.ours = ours
        self.unprocessed = unprocessed
        self.code = code


class AttemptListener:
    """Who makes an attempt, and hears what becomes of it. Of `connected` and `connect_failed` it hears one."""

    __slots__ = ()

    def connected(self, stream: UpstreamStream) -> None:
        raise NotImplementedError

    def connect_failed(self, reason: str, detail: str) -> None:
        raise NotImplementedError

    def interim(self, response: ResponseHead) -> None:
        """A 1xx came."""
        raise NotImplementedError

    def response_began(self, response: ResponseHead) -> None:
        """The final response's head is here; its body is held until `relay`."""
        raise NotImplementedError

    def response_ended(self, trailers: Trailers = ()) -> None:
        """The body has been relayed to its end. Trailers of HTTP/1.1 stand in the body's framing."""
        raise NotImplementedError

    def attempt_lost(self, lost: Lost) -> None:
        raise NotImplementedError

    def pause_upload(self) -> None:
        """The service does not take the request's body as fast as it comes."""
        raise NotImplementedError

    def resume_upload(self) -> None:
        raise NotImplementedError


class UpstreamStream:
    """One request's way to an endpoint, and its answer's way back."""

    __slots__ = ("broken", "endpoint", "heard", "response", "served", "stale_within_s", "writable")

    endpoint: Endpoint
    broken: str | None
    """Why the response that is being held will not be whole."""
    heard: bool
    """Whether anything came back for the present request."""
    response: ResponseHead | None
    served: bool
    """The connection has carried a request before the present one."""
    stale_within_s: float
    """A connection that breaks so soon after a request was sent was closed before the request arrived."""
    writable: bool

    def send(
        self,
        listener: AttemptListener,
        head: RequestHead,
        target: bytes,
        host: bytes,
        additions: Additions,
        request_id: bytes | None,
        traceparent: bytes | None,
        body: RequestBody | None,
        plain: bool,
    ) -> bool:
        """Begin a request: its head, with what the sidecar adds, and what there is of its body (`body.kept`).

        `request_id` and `traceparent` are those that the head lacks. With `plain` the response's body comes without
        framing. False where the connection has ended meanwhile, and nothing was sent.
        """
        raise NotImplementedError

    def send_body(self, pieces: list[bytes], *, end: bool) -> None:
        """The next part of the request's body, as it came from the app; `end`: it is the last."""
        raise NotImplementedError

    def hold_head(self, seconds: float) -> None:
        """Before `send`: keep the answer's head back until it is known what follows it, at most for so long. HTTP/1.1
        has no use for it."""

    def trailers(self) -> Trailers:
        """Those of a response that is complete already when it is relayed, where they are not in the body's framing."""
        return ()

    def has_all(self, body: RequestBody) -> bool:
        """Whether the whole request has left for the endpoint."""
        raise NotImplementedError

    def relay(self, sink: BodySink) -> list[bytes]:
        """From now on the body goes to `sink`; returns what had been held of it."""
        raise NotImplementedError

    @property
    def complete(self) -> bool:
        """Whether the whole response is here."""
        raise NotImplementedError

    def drained_since_last_look(self) -> bool:
        """Whether the endpoint has taken something of what waits to be sent to it: then it is slow, not idle."""
        raise NotImplementedError

    def pause_reading(self) -> None:
        raise NotImplementedError

    def resume_reading(self) -> None:
        raise NotImplementedError

    def release(self, now: float) -> None:
        """The answer has been taken, or is not wanted: what carried it serves the next request, or closes."""
        raise NotImplementedError

    def close(self) -> None:
        """End the request at once, and tell the endpoint (HTTP/2: CANCEL). The listener hears nothing more."""
        raise NotImplementedError

    def detach(self) -> tuple[asyncio.Transport, bytes]:
        """After a 101: the transport, which is the tunnel's from here on, and what came behind the 101."""
        raise NotImplementedError

    def tunnel_ended(self) -> None:
        """The tunnel closes the transport itself; the connection no longer counts."""
        raise NotImplementedError
