"""Why the last request to a service failed.

Owns what is kept of it: one small object for each service, made on the way of failures alone.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

LONGEST_DETAIL: Final = 200
"""Characters."""

_QUERY: Final = re.compile(r"\?\S*")


class LastFailure(Struct, frozen=True):
    """`at` is in monotonic seconds; `reason` is one of the closed set of words, `detail` says more, or is ""."""

    at: float
    reason: str
    detail: str
    request_id: str


def last_failure(at: float, reason: str, detail: str, request_id: bytes) -> LastFailure:
    """Of a detail as a log has it; without queries, which is where secrets stand."""
    bounded = detail[: 4 * LONGEST_DETAIL]
    if "?" in bounded:
        bounded = _QUERY.sub("", bounded)
    return LastFailure(at, reason, bounded[:LONGEST_DETAIL], request_id.decode("latin-1"))
