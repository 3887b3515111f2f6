"""A request that somebody only asks about: checked and routed as if it had been sent.

Owns the way from a question's method, target and Host to what would take the request.
"""

from __future__ import annotations

from typing import NamedTuple

from sidecar.proxy.exchange.aggregate import UNKNOWN, name_asked, targets_of
from sidecar.proxy.h2.request import read_request
from sidecar.proxy.http1.head_syntax import UNKNOWN_METHOD, BadRequest
from sidecar.proxy.http1.request_head import RequestHead, parse_request
from sidecar.runtime.live import Live
from sidecar.runtime.route import LiveRoute
from sidecar.runtime.routing import NotRouted, RoutedBy
from sidecar.runtime.service import LiveService


class Routed(NamedTuple):
    """What takes a request: the service, its route, the target that it is sent, and what named the service. `grpc`: it
    is a call of gRPC."""

    service: LiveService
    route: LiveRoute
    upstream_target: bytes
    by: RoutedBy
    grpc: bool = False


def grpc_head_asked(target: str, host: str, asked: str, max_head: int) -> RequestHead:
    """The head of a call of gRPC; `asked` is the metadata x-sidecar-service. Without a host the app dials the sidecar.
    Raises NotRouted with what the app would be told."""
    authority = (host or "localhost").encode("utf-8", "surrogatepass")
    fields = [
        *((b":method", b"POST"), (b":scheme", b"http")),
        *((b":path", target.encode("utf-8", "surrogatepass")), (b":authority", authority)),
        *((b"content-type", b"application/grpc"), (b"te", b"trailers")),
    ]
    if asked:
        fields.append((b"x-sidecar-service", asked.encode("utf-8", "surrogatepass")))
    if sum(len(name) + len(value) + 32 for name, value in fields) > max_head:  # RFC 9113, section 6.5.2
        raise NotRouted(431, "bad_request", f"the head is over {max_head} bytes, which is listen.max_head")
    try:
        return read_request(fields, ended=False)
    except BadRequest as refusal:
        raise NotRouted(refusal.status, "bad_request", refusal.detail) from None


def head_asked(method: str, target: str, host: str, max_head: int) -> RequestHead:
    """`METHOD TARGET HTTP/1.1` with one field, Host. Raises NotRouted with what the app would be told."""
    asked = (method, target, host)
    if any(sign in text for text in asked for sign in "\r\n"):
        raise NotRouted(400, "bad_request", "a line of the head has a CR or LF within")
    # Half a surrogate pair, as in arguments that are not UTF-8, is no ASCII either way.
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("utf-8", "surrogatepass")
    if len(head) > max_head:
        raise NotRouted(431, "bad_request", f"the head is over {max_head} bytes, which is listen.max_head")
    try:
        return parse_request(head)
    except BadRequest as refusal:
        raise NotRouted(refusal.status, "bad_request", refusal.detail) from None


def routed(live: Live, method: str, target: str, host: str) -> Routed | str:
    """What takes the request: a service, or the aggregate of that name. Raises NotRouted."""
    head = head_asked(method, target, host, live.config.listen.max_head)
    try:
        service, upstream_target, by = live.table.find(head.method, head.target, head.host)
    except NotRouted as stray:
        return _aggregate_asked(live, head.method, stray)
    route = service.route_for(head.method, upstream_target)
    if head.unusual and head.method not in route.allowed_methods:
        raise NotRouted(501, "bad_request", UNKNOWN_METHOD)
    return Routed(service, route, upstream_target, by)


def grpc_routed(live: Live, target: str, host: str, asked: str) -> Routed:
    """What takes a call of gRPC. Raises NotRouted."""
    head = grpc_head_asked(target, host, asked, live.config.listen.max_head)
    service, upstream_target, by = live.table.find_h2(head.method, head.target, head.host, head.service_asked, True)
    return Routed(service, service.route_for(head.method, upstream_target), upstream_target, by, True)


def _aggregate_asked(live: Live, method: str, stray: NotRouted) -> str:
    """The aggregate that a request is for which no service takes. Raises NotRouted for any other."""
    asked = name_asked(stray.reserved)
    if asked is None:
        raise stray
    name, query = asked
    aggregate = live.config.aggregates.get(name)
    if aggregate is None:
        raise NotRouted(stray.status, stray.reason, UNKNOWN, stray.reserved)
    try:
        targets_of(aggregate, method, query)
    except BadRequest as refusal:
        raise NotRouted(refusal.status, "bad_request", f"{name}: {refusal.detail}") from None
    return name
