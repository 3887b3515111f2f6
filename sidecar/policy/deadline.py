"""Request deadlines: parses the timeout headers that an app sends, and combines them with the configured timeout.

Owns the syntax, and the rule that an app can only shorten the timeout. The headers are Envoy's:
`x-envoy-upstream-rq-timeout-ms` and `x-envoy-expected-rq-timeout-ms`. In Envoy 0 means "no timeout"; that would
lengthen the timeout, so 0 is ignored here.
"""

from __future__ import annotations

_MOST_DIGITS = 10


def parse_timeout_ms(value: bytes) -> float | None:
    """Seconds from a header in milliseconds (at most 10 ASCII digits). None for 0 and for any other text."""
    value = value.strip(b" \t")
    if len(value) > _MOST_DIGITS or not value.isdigit():
        return None
    return int(value) / 1000 or None


def effective(request_timeout: float, *app: float | None) -> float:
    """The shortest of the configured timeout and the app's timeouts, in seconds. None means that the app set none."""
    for timeout in app:
        if timeout is not None and timeout < request_timeout:
            request_timeout = timeout
    return request_timeout
