"""The last good responses of a service: what is kept of an answer as it goes to the app, and what is answered of it.

Owns when the cache is told. What may be kept, and for whom, is `sidecar.policy.stale_cache`'s.
"""

from __future__ import annotations

from time import monotonic

from sidecar.policy.settings import FALLBACK_METHODS, FallbackStale
from sidecar.policy.stale_cache import invalidates, storable
from sidecar.proxy.core import ProxyCore
from sidecar.proxy.exchange.body_copy import BodyCopy
from sidecar.proxy.exchange.fallback import LocalAnswer
from sidecar.proxy.exchange.request import Request
from sidecar.proxy.exchange.service_call import ServiceCall
from sidecar.proxy.http1.head_syntax import CHUNKED
from sidecar.proxy.http1.response_head import ResponseHead
from sidecar.runtime.route import LiveRoute


class StaleKey:
    """Where an answer to this request is kept, and which of its fields tell answers apart."""

    def __init__(self, request: Request, call: ServiceCall) -> None:
        self._request = request
        self._route: LiveRoute = call.route
        self._prefix = call.service.prefix
        self.service = call.service.name
        # With `preserve_host` the app's own Host tells the resources of a service apart, too.
        self.key = (request.head.host_sent() if call.route.preserve_host else b"") + call.target

    def field(self, name: bytes) -> tuple[bytes, ...]:
        """A field as the service sees it, but for what differs from attempt to attempt."""
        head = self._request.head
        if name == b"host":
            return (head.host_sent(),) if self._route.preserve_host else ()
        if name == b"x-forwarded-prefix" and self._request.by_path:
            return (self._prefix,)
        return tuple(head.values(name))


class StaleCopy(BodyCopy):
    """A copy of a response that is kept once all of it has gone to the app."""

    def __init__(
        self, core: ProxyCore, request: Request, key: StaleKey, response: ResponseHead, step: FallbackStale
    ) -> None:
        chunked = response.length == CHUNKED and not request.stream.plain
        super().__init__(request.stream, core.copy_budget, core.stale.max_entry, chunked=chunked)
        self._core = core
        self._key = key
        self._step = step
        self._status = response.status
        self._status_line = response.status_line
        self._fields = response.lines()

    def keep(self, now: float) -> None:
        """All of it came."""
        body = self.whole()
        if body is not None:
            key = self._key
            self._core.stale.store(
                key.service,
                key.key,
                key.field,
                self._status,
                self._status_line,
                self._fields,
                body,
                now,
                self._step.keys,
            )


def copy_of(core: ProxyCore, request: Request, call: ServiceCall, response: ResponseHead) -> StaleCopy | None:
    """A copy of this answer, where it may be kept. If not, the cache forgets what the answer makes wrong."""
    if call.reason != "ok":
        return None
    method, status, key = request.head.method, response.status, StaleKey(request, call)
    step = next((one for one in call.route.policy.fallback if isinstance(one, FallbackStale)), None)
    if step is not None and method == "GET" and response.length <= core.stale.max_entry:
        fields = response.lines()
        if storable("GET", key.field, status, fields, step.keys):
            return StaleCopy(core, request, key, response, step)
    # The service has just said otherwise: at the head already, whatever becomes of the rest.
    if invalidates(method, status):
        core.stale.invalidate(key.service, key.key)
    elif method in FALLBACK_METHODS and status in (200, 203, 401, 403):
        core.stale.forget(key.service, key.key, key.field)
    return None


def stale_answer(core: ProxyCore, request: Request, call: ServiceCall, step: FallbackStale) -> LocalAnswer | None:
    """The last good response to such a request, if there is one that is not too old."""
    if request.head.method not in FALLBACK_METHODS:
        return None
    now, key = monotonic(), StaleKey(request, call)
    stored = core.stale.find(key.service, key.key, key.field, now, step.stale, step.keys)
    if stored is None:
        return None
    age = b"\r\nAge: %d" % stored.age(now)
    return LocalAnswer("stale", stored.status_line, [stored.fields, age], stored.body)
