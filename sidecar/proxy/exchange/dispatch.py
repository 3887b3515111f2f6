"""What answers a request: an exchange with the service that it is for, an aggregate, or the sidecar itself.

Owns the choice. What becomes of it is the handler's; the stream that asked knows no more of that than `Handler`.
"""

from __future__ import annotations

from typing import Final

from sidecar.proxy.core import ProxyCore
from sidecar.proxy.downstream.handler import Dispatcher, Handler
from sidecar.proxy.downstream.stream import DownstreamStream
from sidecar.proxy.exchange.aggregate import UNKNOWN, Aggregate, name_asked, targets_of
from sidecar.proxy.exchange.exchange import Exchange
from sidecar.proxy.http1.head_syntax import UNKNOWN_METHOD, BadRequest
from sidecar.proxy.http1.request_body import RequestBody
from sidecar.proxy.http1.request_head import RequestHead
from sidecar.proxy.problem import STATUS, Problem
from sidecar.runtime.routing import PATH, NotRouted

CONNECT_HELP: Final = (
    "CONNECT is for known services alone. gRPC libraries send it where HTTP_PROXY is set: list other targets in"
    " no_grpc_proxy. Set HTTP_PROXY and not HTTPS_PROXY, and call services by http://"
)
_SLASH: Final = 0x2F

NO_WEBSOCKET: Final = (
    "the service {} is called over HTTP/2, where a WebSocket cannot be opened: it needs an http:// URL"
)


class Dispatch(Dispatcher):
    """For the requests of one process."""

    def __init__(self, core: ProxyCore) -> None:
        self._core = core

    def dispatch(self, stream: DownstreamStream, request: RequestHead) -> Handler | Problem:
        """The handler of a request, not started yet, or the answer where no service takes it.

        Raises BadRequest where the target has no meaning, or the method is neither known nor allowed.
        """
        core = self._core
        try:
            if request.h2:
                service, target, found_by = core.table.find_h2(
                    request.method, request.target, request.host, request.service_asked, request.grpc
                )
            else:
                service, target, found_by = core.table.find(request.method, request.target, request.host)
        except NotRouted as stray:
            if request.unusual:
                raise BadRequest(501, UNKNOWN_METHOD) from None
            if stray.status == 400:
                raise BadRequest(400, stray.detail) from None
            return self._unrouted(stream, request, stray)
        by_path = found_by == PATH
        route = service.route_for(request.method, target)
        if request.unusual and request.method not in route.allowed_methods:
            raise BadRequest(501, UNKNOWN_METHOD)
        if request.grpc:
            route = route.for_grpc()
        if request.websocket and service.h2:
            raise BadRequest(501, NO_WEBSOCKET.format(service.name))
        body = RequestBody(request.length, route.retry.max_body, plain=request.h2) if request.length else None
        return Exchange(core, stream, request, service, route, target, body, by_path=by_path)

    def for_authority(self, authority: bytes) -> Dispatcher:
        obstacle = self._core.table.not_connected(authority)
        if obstacle:
            raise BadRequest(405, f"{obstacle}; {CONNECT_HELP}")
        return DispatchConnected(self, authority)

    def _unrouted(self, stream: DownstreamStream, request: RequestHead, stray: NotRouted) -> Handler | Problem:
        """What becomes of a request that no service takes: an aggregate, or the answer that says why not."""
        status, reason, detail = stray.status, stray.reason, stray.detail
        asked = name_asked(stray.reserved)
        if asked is not None:
            name, query = asked
            config = self._core.live.config.aggregates.get(name)
            if config is None:
                detail = UNKNOWN
            elif self._core.outgoing.is_loop(request):
                status, reason = STATUS["loop"], "loop"
                detail = f"the request came back to this sidecar for the third time: a part of {name} leads to it"
            else:
                try:
                    targets = targets_of(config, request.method, query)
                    if request.length:
                        raise BadRequest(400, "an aggregate takes no body")
                    return Aggregate(self._core, self, stream, request, name, config, targets)
                except BadRequest as refusal:
                    status, reason, detail = refusal.status, "bad_request", f"{name}: {refusal.detail}"
        return Problem(
            status=status,
            reason=reason,
            detail=detail,
            request_id=(request.request_id or self._core.outgoing.new_request_id()).decode("latin-1"),
            grpc_status=stray.grpc_status,
            allow="GET, HEAD",
        )


class DispatchConnected(Dispatcher):
    """For the requests on a connection to one authority: they are its service's, whatever they name themselves."""

    def __init__(self, dispatch: Dispatch, authority: bytes) -> None:
        self._dispatch = dispatch
        self._authority = authority

    def dispatch(self, stream: DownstreamStream, request: RequestHead) -> Handler | Problem:
        request.host = self._authority
        if request.target[0] != _SLASH and request.target != b"*":
            raise BadRequest(400, "behind a CONNECT, the target is a path: the authority is that of the CONNECT")
        return self._dispatch.dispatch(stream, request)

    def for_authority(self, authority: bytes) -> Dispatcher:
        raise BadRequest(405, f"the connection is one to {self._authority.decode()} already: no CONNECT inside another")
