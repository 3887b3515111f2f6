"""A request that somebody only asks about: checked and routed as if it had been sent.

Owns the way from a question's method, target and Host to what would take the request.
"""

from __future__ import annotations

from typing import NamedTuple

from sidecar.proxy.exchange.aggregate import UNKNOWN, name_asked, targets_of
from sidecar.proxy.http1.head_syntax import UNKNOWN_METHOD, BadRequest
from sidecar.proxy.http1.request_head import RequestHead, parse_request
from sidecar.runtime.live import Live
from sidecar.runtime.route import LiveRoute
from sidecar.runtime.routing import NotRouted, RoutedBy
from sidecar.runtime.service import LiveService


class Routed(NamedTuple):
    """What takes a request: the service, its route, the target that it is sent, and what named the service."""

    service: LiveService
    route: LiveRoute
    upstream_target: bytes
    by: RoutedBy


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
