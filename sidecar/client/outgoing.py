"""What goes with a call besides what the app gives it: its id, what the request being served came with, its deadline.

Owns these fields, and that those of the app's own win. Bodies and their fields are `upload`'s, URLs are `address`'s.
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
    """What the call is known by, the fields that go with it, and when the nearest deadline passes (`time.monotonic`).

    `always` are the headers of the client, over which the call's own `headers` go; `deadline_s` is the client's.
    Raises ValueError for headers that are not the app's to send.
    """
    fields = CIMultiDict(always)
    if headers:
        fields.update(headers)
        address.check_fields(fields)
    at = request_id = None
    scope = context.current()
    if scope is not context.FREE:
        at = scope.deadline_at()
        request_id = _hand_on(scope, fields)
    if deadline_s is not None:
        own_at = monotonic() + deadline_s
        at = own_at if at is None else min(at, own_at)
    request_id = fields.setdefault(REQUEST_ID, request_id or os.urandom(16).hex())
    return Call(service, method.upper(), path.partition("?")[0], request_id), fields, at


def left(call: Call, fields: CIMultiDict[str], at: float) -> float:
    """Seconds to the deadline, which `fields` then tell the sidecar. Raises DeadlineExceeded where it has passed."""
    left_s = at - monotonic()
    if left_s <= 0:
        raise failures.of_deadline(call, 0, left_s)
    fields.setdefault(TIME_LEFT, str(max(int(left_s * 1000), 1)))
    return left_s


def _hand_on(scope: context.Scope, fields: CIMultiDict[str]) -> str:
    """Adds what the request being served came with; its id."""
    handed = scope.handed
    if handed.traceparent and TRACEPARENT not in fields:
        fields[TRACEPARENT] = handed.traceparent
        if handed.tracestate:
            fields.setdefault(TRACESTATE, handed.tracestate)
    if handed.attempt > 1 and (attempt := scope.attempt()):
        # Whoever called us retries already: the sidecar then does not.
        fields.setdefault(ATTEMPT, str(attempt))
    return handed.request_id
