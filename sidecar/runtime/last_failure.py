"""The last failure of a service: reason, detail and request ID of its last failed request.

Owns the record: one small object for each service, created only when a request fails.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

LONGEST_DETAIL: Final = 200
"""The longest detail that is kept, in characters."""

_QUERY: Final = re.compile(r"\?\S*")


class LastFailure(Struct, frozen=True):
    """`at` is in monotonic seconds. `reason` is from the closed list of reasons; `detail` says more, or is empty."""

    at: float
    reason: str
    detail: str
    request_id: str


def last_failure(at: float, reason: str, detail: str, request_id: bytes) -> LastFailure:
    """Make a record from a log detail. Queries are removed, because they may hold secrets."""
    bounded = detail[: 4 * LONGEST_DETAIL]
    if "?" in bounded:
        bounded = _QUERY.sub("", bounded)
    return LastFailure(at, reason, bounded[:LONGEST_DETAIL], request_id.decode("latin-1"))
