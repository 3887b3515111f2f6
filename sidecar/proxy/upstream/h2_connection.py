"""One HTTP/2 connection to an endpoint: how many calls are on it, and whether more may be.

Owns what the pool asks of it. Frames and windows are the engine's (`proxy.h2`), a call is `h2_stream`'s.
"""

from __future__ import annotations

import select
import ssl
from time import monotonic
from typing import Final

from sidecar.proxy.h2.connection import H2Connection
from sidecar.proxy.upstream.opening import tls_words
from sidecar.proxy.upstream.service_pool import ServicePool
from sidecar.proxy.upstream.slots import Slot
from sidecar.runtime.endpoint import Endpoint

AGE_JITTER: Final = 0.2

STALE_WITHIN_S: Final = 0.05
"""At least; twice the time that connecting took, where that is longer."""


LEAST_LIST: Final = 64 * 1024
"""Bytes of a head, or of trailers, that are taken at least: gRPC has its details of errors in trailers."""


class H2ConnectionOwner(ServicePool):
    """Whose connection it is: a pool of HTTP/2."""

    def room_changed(self, connection: H2UpstreamConnection) -> None:
        """More calls may be on it than before, perhaps."""
        raise NotImplementedError

    def ready(self, connection: H2UpstreamConnection) -> None:
        """The endpoint has said how many calls may be on it."""
        raise NotImplementedError

    def going_away(self, connection: H2UpstreamConnection, code: int) -> None:
        """The endpoint takes no more calls on it."""
        raise NotImplementedError

    def left(self, connection: H2UpstreamConnection, now: float) -> None:
        """One of its calls is over."""
        raise NotImplementedError

    def ended(self, connection: H2UpstreamConnection) -> None:
        """It has ended, for whatever reason."""
        raise NotImplementedError

    def most_fields(self) -> int:
        """How many fields the head of an answer may have."""
        raise NotImplementedError


class H2UpstreamConnection(H2Connection):
    """An asyncio protocol, made by the pool to be opened."""

    slot: Slot
    """How the pool counts it; set by the pool."""

    def __init__(self, endpoint: Endpoint, owner: H2ConnectionOwner, max_head: int) -> None:
        super().__init__(True, max(max_head, LEAST_LIST), monotonic)
        self.endpoint = endpoint
        self.scheme = b"https" if endpoint.tls else b"http"
        self._owner = owner
        self._poll: select.poll | None = None
        self.calls = 0
        """Those that have their place on it, until it is given back."""
        self.requests = 0
        """All that it has carried."""
        self.aged = False
        """It takes no more calls because of its age."""
        self.leaving = False
        """It takes no more calls, and closes behind the last one."""
        self.pinged_at = 0.0
        """When the PING was sent whose answer is awaited; 0 where none is."""
        self.idle_since = 0.0
        self.made_at = 0.0
        self.expires_share = 1.0
        """The part of `limits.max_connection_age` that this connection lives: they must not all end at once."""
        self.stale_within_s = STALE_WITHIN_S

    def connected(self, now: float, took_s: float, random: float) -> None:
        """It is up, after so many seconds; `random` is in [0, 1)."""
        self.made_at = now
        self.expires_share = 1.0 - AGE_JITTER * random
        self.stale_within_s = max(STALE_WITHIN_S, took_s if self.endpoint.tls else 2 * took_s)

    # What the pool asks.

    @property
    def most(self) -> int:
        """How many calls may be on it at a time."""
        return self.room + len(self.streams)

    def is_stale(self) -> bool:
        """Ask the kernel whether the endpoint has closed its side: the event loop would find out in its next round."""
        if self._poll is None:
            socket = self.transport.get_extra_info("socket")
            if socket is None:
                return True
            self._poll = select.poll()
            self._poll.register(socket.fileno(), select.POLLRDHUP)
        return bool(self._poll.poll(0))

    def shut(self) -> None:
        """Close it with GOAWAY, if it has come up at all."""
        if getattr(self, "transport", None) is not None:
            self.close()

    # What its calls ask.

    def left(self, now: float) -> None:
        """A call is over."""
        self.calls -= 1
        self._owner.left(self, now)

    def most_fields(self) -> int:
        return self._owner.most_fields()

    # What the engine says.

    def room_changed(self) -> None:
        self._owner.room_changed(self)

    def became_ready(self) -> None:
        self._owner.ready(self)

    def going_away(self, last_id: int, code: int) -> None:
        self._owner.going_away(self, code)

    def connection_lost(self, error: Exception | None) -> None:
        # With TLS 1.3 a service refuses our certificate after the handshake, so its alert comes here.
        super().connection_lost(OSError(tls_words(error)) if isinstance(error, ssl.SSLError) else error)

    def ended(self, why: str) -> None:
        self._owner.ended(self)

    def __repr__(self) -> str:
        return f"<H2UpstreamConnection {self.endpoint.label} calls={self.calls}{' leaving' if self.leaving else ''}>"
