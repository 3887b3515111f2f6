"""The compiled head scanner (scan.c), or where it is not built, one that leaves each head to the Python parser.

It finds where a head ends, and reads the heads of ordinary traffic, ten to twenty times as fast as `request_head` and
`response_head` would (docs/decisions/0014-head-scanner.md). What it reads and how is said in scan.c, what it returns in
_scan.pyi.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.proxy.http1._scan import ScannedRequest, ScannedResponse

try:
    from sidecar.proxy.http1._scan import head_end, scan_request, scan_response
except ModuleNotFoundError:

    def head_end(data: bytes, since: int, /) -> int:
        """Behind the first empty line from `since` on (not negative); 0 where there is none."""
        end = data.find(b"\r\n\r\n", since)
        return end + 4 if end >= 0 else 0

    def scan_request(head: bytes, max_fields: int, /) -> ScannedRequest | None:
        """None: nothing is scanned here."""
        return None

    def scan_response(head: bytes, answers_head: bool, max_fields: int, /) -> ScannedResponse | None:
        """None: nothing is scanned here."""
        return None


__all__ = ["head_end", "scan_request", "scan_response"]
