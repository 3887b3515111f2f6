"""A request of a service that keeps its last good responses: what is kept of it, and what it makes wrong.

Owns when the cache is told. What may be kept, and for whom, is `sidecar.policy.stale_cache`'s; answering from it is
`fallback`'s.
"""

from __future__ import annotations

from time import monotonic

from sidecar.policy.settings import FALLBACK_METHODS, FallbackStale
from sidecar.policy.stale_cache import invalidates, storable
from sidecar.proxy.exchange.body_copy import BodyCopy
from sidecar.proxy.exchange.exchange import Exchange
from sidecar.proxy.http1.head_syntax import CHUNKED
from sidecar.proxy.http1.request_head import field_values
from sidecar.proxy.http1.response_head import ResponseHead


class StaleExchange(Exchange):
    """An exchange that keeps a copy of a good response to GET, where its route asks for that."""

    async def _stream(self, response: ResponseHead, reason: str) -> None:
        step = self._stale_step()
        if reason == "ok" and step is not None and self._may_keep(response, step):
            await self._stream_and_keep(response, step)
            return
        if reason == "ok":
            self._forget(response.status)
        await Exchange._stream(self, response, reason)

    def _forget(self, status: int) -> None:
        """The service has just said otherwise: at the head already, whatever becomes of the rest."""
        stale, method = self._core.stale, self.request.method
        if invalidates(method, status):
            stale.invalidate(self.service.name, self._stale_key())
        elif method in FALLBACK_METHODS and status in (200, 203, 401, 403):
            stale.forget(self.service.name, self._stale_key(), self._field)

    def _stale_step(self) -> FallbackStale | None:
        for step in self.route.policy.fallback:
            if isinstance(step, FallbackStale):
                return step
        return None

    def _stale_key(self) -> bytes:
        """What tells the resources of a service apart: with `preserve_host` the app's own Host does too."""
        host = self.request.host_sent() if self.route.preserve_host else b""
        return host + self._target

    def _field(self, name: bytes) -> tuple[bytes, ...]:
        """A field as the service sees it, but for what differs from attempt to attempt."""
        if name == b"host":
            return (self.request.host_sent(),) if self.route.preserve_host else ()
        if name == b"x-forwarded-prefix" and self._by_path:
            return (self.service.prefix,)
        return tuple(field_values(self.request, name))

    def _may_keep(self, response: ResponseHead, step: FallbackStale) -> bool:
        if self.request.method != "GET" or response.length > self._core.stale.max_entry:
            return False
        return storable("GET", self._field, response.status, b"".join(response.pieces), step.keys)

    async def _stream_and_keep(self, response: ResponseHead, step: FallbackStale) -> None:
        """Pass the response on, and keep a copy if all of it came."""
        core = self._core
        status_line, fields = response.status_line, b"".join(response.pieces)
        chunked = response.length == CHUNKED and self.request.minor > 0  # for HTTP/1.0 it is decoded already
        copy = self._copy = BodyCopy(self._downstream, core.copy_budget, core.stale.max_entry, chunked=chunked)
        try:
            await Exchange._stream(self, response, "ok")
            body = copy.whole()
            if self.reason == "ok" and body is not None:
                core.stale.store(
                    self.service.name,
                    self._stale_key(),
                    self._field,
                    response.status,
                    status_line,
                    fields,
                    body,
                    monotonic(),
                    step.keys,
                )
        finally:
            self._copy = None
            copy.release()
