"""The head of a request that somebody only asks about: checked as if it had been sent.

Owns the way from a question's method, target and Host to what the parser says of them, and an aggregate.
"""

from __future__ import annotations

from sidecar.config.schema import Aggregate
from sidecar.proxy.exchange.aggregate import targets_of
from sidecar.proxy.http1.head_syntax import UNKNOWN_METHOD, BadRequest
from sidecar.proxy.http1.request_head import RequestHead, parse_request
from sidecar.runtime.route import LiveRoute
from sidecar.runtime.routing import NotRouted
from sidecar.runtime.service import LiveService


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


def route_asked(head: RequestHead, service: LiveService, upstream_target: bytes) -> LiveRoute:
    """The route that takes the request. Raises NotRouted if its method is neither known nor allowed there."""
    route = service.route_for(head.method, upstream_target)
    if head.unusual and head.method not in route.allowed_methods:
        raise NotRouted(501, "bad_request", UNKNOWN_METHOD)
    return route


def aggregate_refusal(name: str, aggregate: Aggregate, method: str, target: bytes) -> NotRouted | None:
    """What the app would be told instead of the aggregate's answer; `target` is the path with its query."""
    try:
        targets_of(aggregate, method, target.partition(b"?")[2])
    except BadRequest as refusal:
        return NotRouted(refusal.status, "bad_request", f"{name}: {refusal.detail}")
    return None
