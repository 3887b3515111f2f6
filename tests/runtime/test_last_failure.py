"""The last failure: it is short and contains nothing secret."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.runtime.last_failure import LONGEST_DETAIL, LastFailure, last_failure


def test_a_failure_is_kept_unchanged() -> None:
    found = last_failure(3.5, "connect_failure", "10.0.0.7:3002: connection refused", b"the-id")
    assert found == LastFailure(3.5, "connect_failure", "10.0.0.7:3002: connection refused", "the-id")


@given(st.text(max_size=2000))
def test_it_is_bounded_and_has_no_query(text: str) -> None:
    detail = last_failure(0.0, "reset", text, b"\xff").detail
    assert len(detail) <= LONGEST_DETAIL
    assert "?" not in detail


def test_a_query_is_left_out() -> None:
    assert last_failure(0.0, "reset", "GET /a?token=1 broke", b"").detail == "GET /a broke"
