"""The line of a request in the access log, as a shape.

It has a file of its own because that of the log is compiled: mypyc does not hand a class's options on to msgspec.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct


class RequestLine(Struct, omit_defaults=True, gc=False):
    """The line of a request that went to a service, in the order of its members; those with a default may be absent."""

    time: str
    level: str
    event: str
    request_id: str
    service: str
    method: str
    target: str
    status: int
    reason: str
    duration_ms: float
    upstream_ms: float
    waiting_ms: float
    bytes_received: int
    bytes_sent: int
    attempts: Sequence[Any]
    endpoint: str = ""
    route: str = ""
    trace_id: str = ""
    fallback: str = ""
    detail: str = ""
