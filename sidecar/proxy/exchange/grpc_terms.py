"""What a gRPC call has come to: its status, from wherever that stands.

Owns how an attempt's end is read as a grpc-status: in the head, in the trailers, in a reset, or in an answer that is
not gRPC at all. What follows from a status is the policy's to say.
"""

from __future__ import annotations

from sidecar.policy.grpc import REASON_STATUS, status_of_http, status_of_reset
from sidecar.proxy.h2.response import status_of_trailers
from sidecar.proxy.http1.head_syntax import Trailers
from sidecar.proxy.http1.response_head import ResponseHead
from sidecar.proxy.upstream.stream import Lost

INTERNAL = 13


class GrpcTerms:
    """Of one call. `status` is -1 while nobody knows it."""

    __slots__ = ("status", "words")

    def __init__(self) -> None:
        self.status = -1
        self.words = b""
        """The service's own, percent-encoded as they came."""

    def answered(self, response: ResponseHead) -> int:
        """An attempt's head is here. Returns the status, -1 where the head does not say it."""
        self.status = response.grpc_status if response.grpc else status_of_http(response.status)
        self.words = response.grpc_message
        return self.status

    def lost(self, lost: Lost) -> int:
        """An attempt brought no answer, or not a whole one. Returns the status."""
        by_reason = REASON_STATUS.get(lost.reason, INTERNAL)
        self.status = status_of_reset(lost.code) if lost.code >= 0 else by_reason
        self.words = b""
        return self.status

    def ended(self, trailers: Trailers) -> int:
        """The call has ended with these. Returns the status."""
        if self.status < 0:
            self.status, self.words, _ = status_of_trailers(trailers)
        return self.status

    def __repr__(self) -> str:
        return f"<GrpcTerms {self.status} {self.words!r}>"
