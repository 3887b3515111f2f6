"""docs/reference/reasons.md has every reason, with what the code does about it."""

from __future__ import annotations

from sidecar.proxy.problem import STATUS, TITLES
from tools.docs.reasons import page

ROWS = {
    cells[0].strip("`"): cells[1:]
    for cells in (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in page().splitlines() if line.startswith("| `")
    )
}


def test_every_reason_is_there() -> None:
    assert {*STATUS, *TITLES} - set(ROWS) == {"rate_limited"}
    assert set(ROWS) - {*STATUS, *TITLES} == {"ok", "status", "client_disconnect", "stale_connection"}


def test_what_a_row_says() -> None:
    ok = ["the service's", "the service's", "The service answered, and that is no failure", "", "", "", ""]
    assert ROWS["ok"] == ok
    assert ROWS["connect_failure"] == ["503", "UNAVAILABLE", "No connection to the service", "✓", "✓", "✓", "✓"]
    assert ROWS["bad_response"][3] == "(✓)"
    assert ROWS["circuit_open"][3:] == ["", "", "✓", "✓"]
    assert ROWS["client_disconnect"][3:] == ["", "(✓)", "", ""]
    assert (ROWS["client_disconnect"][1], ROWS["stale_connection"][1]) == ("CANCELLED", "")
