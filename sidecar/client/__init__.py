"""A client for Python services: calls by name through the sidecar, with its refusals as exceptions.

    async with ServiceClient("venue") as venue:
        event = await venue.get_json("/events/1", type=Event)

`service_client` makes calls (`outgoing` their headers, `upload` their bodies) and `response` is what they bring;
`errors` is what they raise, and `failures` decides which. `registry` holds an app's services together. `context` is
what calls inherit from the request being served, set by the middlewares `aiohttp_server` and `asgi`, which are imported
by their own names. `pool` has the connections, `decoding` the types.

Imports aiohttp and msgspec, and nothing else of this project: it knows the daemon by HTTP alone.
"""

from sidecar.client.context import Handed, deadline, deadline_at, detached, handed, remaining, serving
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
    "Handed",
    "InvalidAnswer",
    "LoopDetected",
    "NoEndpoint",
    "NotFound",
    "Overloaded",
    "PartFailure",
    "RateLimited",
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
    "handed",
    "remaining",
    "service",
    "serving",
]
