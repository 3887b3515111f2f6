"""Adds headers to a call: its request id, its deadline, and what it inherits from the request being served.

Headers that the app sets itself take precedence. `upload` owns bodies and their headers, and `address` owns URLs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from time import monotonic
from typing import Final

from multidict import CIMultiDict, istr

from sidecar.client import address, context, failures
from sidecar.client.response import REQUEST_ID, Call

Headers = Mapping[str, str]

TRACEPARENT: Final = istr("traceparent")
TRACESTATE: Final = istr("tracestate")
ATTEMPT: Final = istr("x-envoy-attempt-count")
TIME_LEFT: Final = istr("x-envoy-upstream-rq-timeout-ms")


def begin(
    service: str,
    method: str,
    path: str,
    *,
    always: CIMultiDict[str],
    headers: Headers | None,
    deadline_s: float | None,
) -> tuple[Call, CIMultiDict[str], float | None]:
    """Returns the call's identity, its headers, and when its nearest deadline passes (a reading of `time.monotonic`).

    `always` are the client's headers; the call's own `headers` override them. `deadline_s` is the client's deadline in
    seconds. Raises ValueError for headers that an app may not set.
    """
    fields = CIMultiDict(always)
    if headers:
        fields.update(headers)
        address.check_fields(fields)
    at = request_id = None
    scope = context.current()
    if scope is not context.FREE:
        at = scope.deadline_at()
        request_id = _propagate(scope, fields)
    if deadline_s is not None:
        own_at = monotonic() + deadline_s
        at = own_at if at is None else min(at, own_at)
    request_id = fields.setdefault(REQUEST_ID, request_id or os.urandom(16).hex())
    return Call(service, method.upper(), path.partition("?")[0], request_id), fields, at


def left(call: Call, fields: CIMultiDict[str], at: float) -> float:
    """Seconds until the deadline; also writes them into `fields` for the sidecar. Raises DeadlineExceeded if it has
    passed.
    """
    left_s = at - monotonic()
    if left_s <= 0:
        raise failures.of_deadline(call, 0, left_s)
    fields.setdefault(TIME_LEFT, str(max(int(left_s * 1000), 1)))
    return left_s


def _propagate(scope: context.Scope, fields: CIMultiDict[str]) -> str:
    """Adds the inherited headers to `fields`, and returns the inherited request id."""
    request = scope.request
    if request.traceparent and TRACEPARENT not in fields:
        fields[TRACEPARENT] = request.traceparent
        if request.tracestate:
            fields.setdefault(TRACESTATE, request.tracestate)
    if request.attempt > 1 and (attempt := scope.attempt()):
        # Our caller already retries. This header tells the sidecar not to retry as well.
        fields.setdefault(ATTEMPT, str(attempt))
    return request.request_id
