"""docs/logs.md lists every reason that the sidecar gives, with its status."""

from __future__ import annotations

import re

from sidecar.proxy.problem import STATUS
from tests.support.daemon import ROOT

TEXT = (ROOT / "docs" / "logs.md").read_text()
ROWS = dict(
    re.findall(r"^\| `(\w+)` \| ([^|]+) \|", TEXT.split("## Reasons")[1].split("## What is never")[0], re.MULTILINE)
)
NOT_BUILT = {"rate_limited"}
"""Words that are kept for what is not there yet."""


def test_every_reason_is_listed_with_its_status() -> None:
    for reason, status in STATUS.items():
        if reason in NOT_BUILT:
            assert reason not in ROWS
        elif reason != "truncated":  # as the service sent it; the status is only that of a log line without one
            assert str(status) in ROWS[reason], reason


def test_no_reason_is_invented() -> None:
    assert set(ROWS) <= {*STATUS, "ok", "status", "bad_request", "client_disconnect", "stale_connection"}
