"""The access log line of a request, as a struct.

It has its own file because `access_log` is compiled, and mypyc does not pass the options of a class on to msgspec.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct


class RequestLine(Struct, omit_defaults=True, gc=False):
    """The line of a request to a service, with members in output order. Members with a default may be absent."""

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
    grpc_status: str = ""
