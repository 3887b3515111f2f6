"""Deadlines that the app sets with a request, and how they combine with the configured one.

Owns the syntax and the rule that an app only ever shortens. The headers are Envoy's: `x-envoy-upstream-rq-timeout-ms`
and `x-envoy-expected-rq-timeout-ms`. Envoy takes 0 for "no timeout"; since that would lengthen, it is ignored here.
"""

from __future__ import annotations

_MOST_DIGITS = 10


def parse_timeout_ms(value: bytes) -> float | None:
    """Seconds from a header's milliseconds: ASCII digits, at most 10. None for 0 and for anything else."""
    value = value.strip(b" \t")
    if len(value) > _MOST_DIGITS or not value.isdigit():
        return None
    return int(value) / 1000 or None


def effective(request_timeout: float, *app: float | None) -> float:
    """The shortest of the configured timeout and the app's, where it set any; seconds."""
    for timeout in app:
        if timeout is not None and timeout < request_timeout:
            request_timeout = timeout
    return request_timeout
