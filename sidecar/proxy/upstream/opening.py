"""Opens one connection to an endpoint: TCP and TLS, within a time, with failures in words.

Owns how it is driven. Whether a connection may be opened, and who gets it, is the pool's
business.

`loop.create_connection` is a coroutine. It is driven by hand here, as an exchange is (`exchange.handler`): a task and
`asyncio.timeout` for each connection would cost more than they give.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import ssl
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, Protocol, cast

from sidecar.net.pem import BadPem
from sidecar.net.tls_contexts import HTTP1, TlsContexts
from sidecar.policy.settings import TlsSettings
from sidecar.runtime.endpoint import Endpoint

OWN_LIMITS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""What this process or machine lacks is no fault of the endpoint's."""

CERTIFICATE_ALERTS: Final = frozenset(
    {
        *("CERTIFICATE_REQUIRED", "NO_CERTIFICATE", "BAD_CERTIFICATE", "UNSUPPORTED_CERTIFICATE", "UNKNOWN_CA"),
        *("CERTIFICATE_REVOKED", "CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN", "ACCESS_DENIED", "HANDSHAKE_FAILURE"),
    }
)
"""Alerts with which a service says that the client certificate is not what it wants (RFC 8446, section 6.2)."""

CANCELLED: Final = "cancelled"

log = logging.getLogger("sidecar.pool")


class Opener(Protocol):
    """Who hears what became of an opening, once."""

    def opening_ended(self, opening: Opening, reason: str, detail: str) -> None:
        """`reason` is empty where the connection is there; else it is CANCELLED or one that `words` gives."""


class Openings:
    """All openings that are under way, so that they can end with the proxy."""

    def __init__(self, loop: asyncio.AbstractEventLoop, contexts: TlsContexts | None = None) -> None:
        self.loop = loop
        self.contexts = contexts or TlsContexts()
        self._under_way: set[Opening] = set()

    def begun(self, opening: Opening) -> None:
        self._under_way.add(opening)

    def ended(self, opening: Opening) -> None:
        self._under_way.discard(opening)

    def close(self) -> None:
        """Cancel them."""
        for opening in list(self._under_way):
            opening.cancel()

    def __len__(self) -> int:
        return len(self._under_way)


class Opening:
    """One attempt to connect `protocol`, which is an asyncio protocol, to an endpoint."""

    __slots__ = ("_coroutine", "_deadline", "_in_begin", "_opener", "_openings", "_timeout_s", "_waits_for", "protocol")

    def __init__(self, openings: Openings, opener: Opener, protocol: object, timeout_s: float) -> None:
        self._openings = openings
        self._opener: Opener | None = opener
        self.protocol = protocol
        self._timeout_s = timeout_s
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._waits_for: asyncio.Future[Any] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._in_begin = False

    def begin(self, endpoint: Endpoint, tls: TlsSettings, alpn: tuple[str, ...] = HTTP1) -> None:
        """Start, with TLS where the endpoint is https. The opener hears of the end later, never during this call."""
        loop, protocol = self._openings.loop, self.protocol
        self._openings.begun(self)
        context = server_name = None
        if endpoint.tls:
            try:
                context = self._openings.contexts.of(tls, alpn)
            except BadPem as error:
                loop.call_soon(self._tell, *words(error))
                return
            server_name = tls.server_name or endpoint.server_name
        self._coroutine = loop.create_connection(
            lambda: cast(Any, protocol),
            endpoint.address,
            endpoint.port,
            ssl=context,
            server_hostname=server_name,
        )
        self._deadline = loop.call_later(self._timeout_s, self._timed_out)
        self._in_begin = True
        self._step(None)
        self._in_begin = False

    def cancel(self) -> None:
        self._stop()
        self._tell(CANCELLED, "")

    def _timed_out(self) -> None:
        self._deadline = None
        self._stop()
        reason = "connect_timeout"
        self._tell(reason, f"no connection within {self._timeout_s:g} s")

    def _step(self, waited: object) -> None:
        """What the coroutine waited for has come."""
        coroutine = self._coroutine
        if coroutine is None:
            return
        self._waits_for = None
        reason = detail = ""
        try:
            waits_for = coroutine.send(None)
        except StopIteration:
            pass
        except Exception as error:
            reason, detail = words(error)
        else:
            waits_for._asyncio_future_blocking = False  # as a task does it
            self._waits_for = waits_for
            waits_for.add_done_callback(self._step)
            return
        self._coroutine = None
        if self._in_begin:
            self._openings.loop.call_soon(self._tell, reason, detail)
        else:
            self._tell(reason, detail)

    def _stop(self) -> None:
        """End the coroutine as the cancelling of a task does. It closes what it has."""
        waits_for, self._waits_for = self._waits_for, None
        if waits_for is not None:
            waits_for.remove_done_callback(self._step)
            waits_for.cancel()
        coroutine, self._coroutine = self._coroutine, None
        if coroutine is not None:
            with suppress(asyncio.CancelledError, StopIteration, Exception):
                coroutine.throw(asyncio.CancelledError())

    def _tell(self, reason: str, detail: str) -> None:
        opener, self._opener = self._opener, None
        if opener is None:
            return
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._openings.ended(self)
        opener.opening_ended(self, reason, detail)

    def __repr__(self) -> str:
        return f"<Opening {self.protocol}{'' if self._opener is not None else ' ended'}>"


def tls_words(error: ssl.SSLError) -> str:
    """What to tell of a TLS connection that failed, or was ended by the other side with an alert."""
    _, alert, said = (error.reason or "").partition("_ALERT_")
    if not alert:
        return f"TLS failed: {error.reason or 'no shared protocol'}"
    hint = " (which client certificate it gets is tls.cert_file)" if said in CERTIFICATE_ALERTS else ""
    return f"the service refused TLS: {said.lower().replace('_', ' ')}{hint}"


def words(error: Exception) -> tuple[str, str]:
    """The reason for a failure to connect, and what to tell people of it."""
    if isinstance(error, BadPem):
        return "connect_failure", str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return "connect_failure", f"the certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "connect_failure", tls_words(error)
    if isinstance(error, OSError):
        found = os.strerror(error.errno) if error.errno else "connection failed"
        reason = "overloaded" if error.errno in OWN_LIMITS else "connect_failure"
        return reason, found[:1].lower() + found[1:]
    log.error("a connection could not be opened, because of an unexpected error", exc_info=error)
    return "connect_failure", f"the connection could not be opened: {error}"
