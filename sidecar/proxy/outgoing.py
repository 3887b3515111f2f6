"""What the sidecar adds to requests on their way to services, and how it knows one that has come back.

Owns the values; a protocol's own form of them is written by its connections.
"""

from __future__ import annotations

from random import getrandbits
from typing import Final

from sidecar.proxy.http1.request_head import RequestHead
from sidecar.runtime.additions import Additions
from sidecar.runtime.route import LiveRoute
from sidecar.runtime.service import LiveService

LOOP: Final = 3
"""How often our own name stands in the loop header of a request that is refused."""


class Outgoing:
    """Made once for a process."""

    def __init__(self) -> None:
        self.loop_name = b"sidecar-%012x" % getrandbits(48)
        """Random for each process, so that a request that comes back is known (RFC 9110, section 7.6.3)."""

    def first(self, route: LiveRoute, service: LiveService, by_path: bool) -> Additions:
        """What a first attempt adds to each request of a route where nothing shortens its time."""
        found = route.additions_by_path if by_path else route.additions
        if found is None:
            prefix = service.prefix if by_path else None
            timeout_ms = 0 if route.grpc else int(max(route.attempt_s * 1000, 1))
            found = Additions(self.loop_name, prefix, 1, timeout_ms, route.via)
            if by_path:
                route.additions_by_path = found
            else:
                route.additions = found
        return found

    def is_loop(self, head: RequestHead) -> bool:
        """Whether the request has come back for the third time. An app that copies the headers of the request that it
        serves may call back once and more."""
        if head.loop is not None and head.loop.count(self.loop_name) >= LOOP:
            return True
        return head.via is not None and head.via.count(self.loop_name) >= LOOP

    def new_request_id(self) -> bytes:
        """A random UUID (RFC 9562, version 4)."""
        bits = b"%032x" % (getrandbits(128) & ~(0xF << 76) & ~(0x3 << 62) | (0x4 << 76) | (0x2 << 62))
        return b"-".join((bits[:8], bits[8:12], bits[12:16], bits[16:20], bits[20:]))
