"""The required form of every answer that the sidecar makes itself (RFC 9457, and the project's own members)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tests.support.client import Response

MEMBERS = {"type", "title", "status", "detail", "service", "reason", "request_id", "retry_after", "attempts"}
ATTEMPT_MEMBERS = {"endpoint", "reason", "status", "duration_ms"}


def assert_problem(
    response: Response, status: int | Collection[int], reason: str | Collection[str], service: str | None = None
) -> dict[str, Any]:
    """Checks status, reason, media type and members. Returns the problem. `service` is not checked if it is None."""
    statuses = {status} if isinstance(status, int) else set(status)
    reasons = {reason} if isinstance(reason, str) else set(reason)
    assert response.status in statuses, response
    assert response.whole, response
    assert response.reason in reasons, response
    assert (response.get("content-type") or "").split(";")[0] == "application/problem+json"
    problem = response.json()
    assert isinstance(problem, dict)
    assert set(problem) == MEMBERS
    assert problem["status"] == response.status
    assert problem["reason"] == response.reason
    assert all(isinstance(problem[member], str) for member in ("type", "title", "detail", "request_id")), problem
    assert problem["title"]
    if service is not None:
        assert problem["service"] == service
    retry_after = response.get("retry-after")
    if retry_after is None:
        assert problem["retry_after"] is None
    else:
        assert int(retry_after) >= 1
        assert -1 < int(retry_after) - problem["retry_after"] < 2  # each is spread over a second or more
    for attempt in problem["attempts"]:
        assert set(attempt) == ATTEMPT_MEMBERS
        assert isinstance(attempt["endpoint"], str)
        assert attempt["duration_ms"] >= 0
        assert attempt["status"] is None or 100 <= attempt["status"] <= 599
    return problem
