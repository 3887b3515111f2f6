"""Client for Python services: it calls other services by name through the sidecar, and raises an exception for each
refusal.

    async with ServiceClient("venue") as venue:
        event = await venue.get_json("/events/1", type=Event)

`service_client` makes the calls; `outgoing` adds their headers and `upload` sends their bodies. `response` is the
result. `errors` holds the exceptions, and `failures` decides which one a call raises. `registry` keeps an app's
services together. `context` holds what a call inherits from the request being served. The middlewares in
`aiohttp_server` and `asgi` set it; import those two modules by name. `pool` holds the connections, and `decoding`
converts JSON to types.

This package imports aiohttp and msgspec, and nothing else of this project: it reaches the daemon over HTTP only.
"""

from sidecar.client.context import RequestContext, deadline, deadline_at, detached, remaining, request_context, serving
from sidecar.client.errors import (
    AggregateFailed,
    Attempt,
    BadRequest,
    CallError,
    CircuitOpen,
    ClientError,
    ConnectionFailed,
    ConnectTimeout,
    DeadlineExceeded,
    InvalidAnswer,
    LoopDetected,
    NoEndpoint,
    NotFound,
    Overloaded,
    PartFailure,
    RateLimited,
    ResponseError,
    ServiceError,
    SidecarError,
    SidecarUnavailable,
    UnknownService,
    UpstreamTimeout,
)
from sidecar.client.registry import Services, service
from sidecar.client.response import Response
from sidecar.client.service_client import ServiceClient

__all__ = [
    "AggregateFailed",
    "Attempt",
    "BadRequest",
    "CallError",
    "CircuitOpen",
    "ClientError",
    "ConnectTimeout",
    "ConnectionFailed",
    "DeadlineExceeded",
    "InvalidAnswer",
    "LoopDetected",
    "NoEndpoint",
    "NotFound",
    "Overloaded",
    "PartFailure",
    "RateLimited",
    "RequestContext",
    "Response",
    "ResponseError",
    "ServiceClient",
    "ServiceError",
    "Services",
    "SidecarError",
    "SidecarUnavailable",
    "UnknownService",
    "UpstreamTimeout",
    "deadline",
    "deadline_at",
    "detached",
    "remaining",
    "request_context",
    "service",
    "serving",
]
