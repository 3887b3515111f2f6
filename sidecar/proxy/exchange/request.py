"""One request of an app: what it is, and what all the calls that are made for it share.

Owns no decision. A request is asked of its service, and perhaps of others in its place; each of those is a
`service_call.ServiceCall`, and this is what they have in common.
"""

from __future__ import annotations

from sidecar.proxy.downstream.handler import Handler
from sidecar.proxy.downstream.stream import DownstreamStream
from sidecar.proxy.http1.request_body import RequestBody
from sidecar.proxy.http1.request_head import RequestHead
from sidecar.proxy.problem import Attempt
from sidecar.telemetry.trace import Trace


class Request:
    """Times are seconds of the monotonic clock."""

    # Defaults stand on the class: storing each would cost every request.
    attempt_number: int = 0
    """Attempts that were made, or begun."""
    connecting_s: float = 0.0
    """How long it waited for new connections, or for one to be given back."""
    backoff_s: float = 0.0
    """How long it waited between attempts."""
    body_ended: float = 0.0
    """When the request's body was complete; 0 where it was before the exchange began, or there is none."""
    last_upload: float = 0.0
    """When a part of it last came."""
    interim_sent: bool = False
    sent: bool = False
    """Its head has gone to an endpoint."""
    notes_all: bool = False
    """The log will say how each attempt went, also where the last went well."""
    trace: Trace | None = None
    """Set where this request is traced."""

    def __init__(
        self,
        head: RequestHead,
        body: RequestBody | None,
        stream: DownstreamStream,
        handler: Handler,
        request_id: bytes,
        started: float,
        by_path: bool,
    ) -> None:
        self.head = head
        self.body = body
        self.stream = stream
        self.handler = handler
        """Whose waiting a call's events end."""
        self.id = request_id
        self.started = started
        self.by_path = by_path
        """It was routed by its path, of which the service's prefix was cut off."""
        self.attempts: list[Attempt] = []
        """Those that have ended and were noted."""

    @property
    def is_complete(self) -> bool:
        """Whether the app has sent all of it."""
        body = self.body
        return body is None or body.complete
