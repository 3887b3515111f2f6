"""What answers a request: an exchange with the service that it is for, an aggregate, or the sidecar itself.

Owns the choice. What becomes of it is the handler's; the connection that asked knows no more of that than `Handler`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.proxy.exchange.aggregate import PREFIX, Aggregate, targets_of
from sidecar.proxy.exchange.exchange import Exchange
from sidecar.proxy.exchange.fallback import FallbackExchange
from sidecar.proxy.exchange.handler import Handler
from sidecar.proxy.exchange.stale import StaleExchange
from sidecar.proxy.http1.head_syntax import UNKNOWN_METHOD, BadRequest
from sidecar.proxy.http1.request_body import RequestBody
from sidecar.proxy.http1.request_head import RequestHead
from sidecar.proxy.problem import STATUS, Problem
from sidecar.runtime.routing import PATH, NotRouted

if TYPE_CHECKING:
    from sidecar.proxy.core import ProxyCore
    from sidecar.proxy.downstream.http1_connection import Downstream


def dispatch(core: ProxyCore, downstream: Downstream, request: RequestHead) -> Handler | Problem:
    """The handler of a request, not started yet, or the answer where no service takes it.

    Raises BadRequest where the target has no meaning, or the method is neither known nor allowed.
    """
    try:
        service, target, found_by = core.table.find(request.method, request.target, request.host)
    except NotRouted as stray:
        if request.unusual:
            raise BadRequest(501, UNKNOWN_METHOD) from None
        if stray.status == 400:
            raise BadRequest(400, stray.detail) from None
        return _unrouted(core, downstream, request, stray)
    by_path = found_by == PATH
    route = service.route_for(request.method, target)
    if request.unusual and request.method not in route.allowed_methods:
        raise BadRequest(501, UNKNOWN_METHOD)
    body = RequestBody(request.length, route.retry.max_body) if request.length else None
    if request.method in route.fallback_methods and not request.websocket:
        return FallbackExchange(core, downstream, request, service, route, target, body, by_path=by_path)
    if service.keeps_stale:
        return StaleExchange(core, downstream, request, service, route, target, body, by_path=by_path)
    return Exchange(core, downstream, request, service, route, target, body, by_path=by_path)


def _unrouted(core: ProxyCore, downstream: Downstream, request: RequestHead, stray: NotRouted) -> Aggregate | Problem:
    """What becomes of a request that no service takes: an aggregate, or the answer that says why not."""
    status, reason, detail = stray.status, stray.reason, stray.detail
    if stray.reserved.startswith(PREFIX):
        path, _, query = stray.reserved.partition(b"?")
        name = path[len(PREFIX) :].decode("latin-1")
        config = core.live.config.aggregates.get(name)
        if config is None:
            detail = "no aggregate of that name is configured"
        elif core.is_loop(request):
            status, reason = STATUS["loop"], "loop"
            detail = f"the request came back to this sidecar for the third time: a part of {name} leads to it"
        else:
            try:
                targets = targets_of(config, request.method, query)
                if request.length:
                    raise BadRequest(400, "an aggregate takes no body")
                return Aggregate(core, downstream, request, name, config, targets)
            except BadRequest as refusal:
                status, reason, detail = refusal.status, "bad_request", f"{name}: {refusal.detail}"
    return Problem(
        status=status,
        reason=reason,
        detail=detail,
        request_id=(request.request_id or core.new_request_id()).decode("latin-1"),
        allow="GET, HEAD",
    )
