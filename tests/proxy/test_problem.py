"""The sidecar's own answers, as RFC 9457 and docs/architecture.md want them."""

from __future__ import annotations

import json
from collections import Counter
from email.utils import parsedate_to_datetime
from random import Random

import pytest

from sidecar.policy.grpc import LONGEST_MESSAGE, REASON_STATUS
from sidecar.proxy.problem import STATUS, Attempt, PartFailure, Problem

MEMBERS = {"type", "title", "status", "detail", "service", "reason", "request_id", "retry_after", "attempts"}


def members(problem: Problem) -> dict[str, object]:
    found = json.loads(problem.body())
    assert isinstance(found, dict)
    return found


def fields(problem: Problem) -> dict[str, str]:
    lines = problem.head(7).decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def test_members() -> None:
    attempts = (Attempt("10.0.0.1:80", "reset", None, 1.5), Attempt("10.0.0.2:80", "status", 503, 2.0))
    problem = Problem(
        status=503,
        reason="circuit_open",
        detail="words",
        service="venue",
        request_id="id",
        retry_after=2.5,
        attempts=attempts,
    )
    assert members(problem) == {
        "type": "urn:sidecar:problem:circuit_open",
        "title": "The circuit breaker is open",
        "status": 503,
        "detail": "words",
        "service": "venue",
        "reason": "circuit_open",
        "request_id": "id",
        "retry_after": 2.5,
        "attempts": [
            {"endpoint": "10.0.0.1:80", "reason": "reset", "status": None, "duration_ms": 1.5},
            {"endpoint": "10.0.0.2:80", "reason": "status", "status": 503, "duration_ms": 2.0},
        ],
    }


def test_members_are_there_even_where_there_is_nothing_to_say() -> None:
    found = members(Problem(status=404, reason="unknown_service", detail="x"))
    assert set(found) == MEMBERS
    assert (found["retry_after"], found["attempts"], found["service"]) == (None, [], "")


def test_head() -> None:
    problem = Problem(status=503, reason="overloaded", detail="x", request_id="id")
    head = problem.head(7)
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert not head.endswith(b"\r\n")
    found = fields(problem)
    assert parsedate_to_datetime(found.pop("date")).tzinfo is not None
    assert found == {
        "content-type": "application/problem+json",
        "content-length": "7",
        "cache-control": "no-store",
        "x-sidecar-reason": "overloaded",
        "x-request-id": "id",
    }


@pytest.mark.parametrize(
    ("seconds", "jitter", "member", "header"),
    [
        (0.0, 0.0, 0.0, "1"),
        (0.2, 0.0, 0.2, "1"),
        (0.999, 0.0, 0.999, "1"),
        (1.0, 0.0, 1.0, "1"),
        (1.001, 0.0, 1.001, "2"),
        (1.0, 0.499, 1.499, "1"),
        (1.0, 0.5, 1.5, "2"),
        (1.0, 0.999, 1.999, "2"),
        (4.9, 0.999, 5.899, "6"),
        (29.5, 0.0, 29.5, "30"),
        (30.0, 0.0, 30.0, "30"),
        (30.0, 0.5, 33.0, "33"),
        (30.0, 0.999, 35.994, "36"),
        (300.1, 0.0, 300.1, "301"),
        (300.0, 0.999, 359.94, "360"),
    ],
)
def test_retry_after_is_the_wait_and_a_part_of_the_spread(
    seconds: float, jitter: float, member: float, header: str
) -> None:
    problem = Problem(status=503, reason="circuit_open", detail="x", retry_after=seconds, jitter=jitter)
    assert fields(problem)["retry-after"] == header
    assert members(problem)["retry_after"] == pytest.approx(member)


@pytest.mark.parametrize(("seconds", "headers"), [(1.0, {1, 2}), (30.0, set(range(30, 37)))])
def test_apps_that_are_refused_together_come_back_apart(seconds: float, headers: set[int]) -> None:
    draws = Random(1012)
    told = Counter[int]()
    for _ in range(700):
        problem = Problem(status=503, reason="x", detail="x", retry_after=seconds, jitter=draws.random())
        told[int(fields(problem)["retry-after"])] += 1
        assert seconds <= members(problem)["retry_after"] < seconds + max(seconds / 5, 1.0)
    assert set(told) == headers
    assert max(told.values()) < 1.4 * 700 / len(headers)  # no second gets many more than its share


def test_no_retry_after_where_it_does_not_help() -> None:
    assert "retry-after" not in fields(Problem(status=404, reason="unknown_service", detail="x"))


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("connect_failure", 503),
        ("connect_timeout", 504),
        ("reset", 502),
        ("attempt_timeout", 504),
        ("request_timeout", 504),
        ("bad_response", 502),
        ("circuit_open", 503),
        ("no_endpoint", 503),
        ("overloaded", 503),
        ("rate_limited", 429),
        ("unknown_service", 404),
        ("aggregate_failed", 502),
        ("loop", 508),
        ("internal", 500),
    ],
)
def test_each_reason_has_its_status_and_its_title(reason: str, status: int) -> None:
    assert STATUS[reason] == status
    title = members(Problem(status=status, reason=reason, detail="x"))["title"]
    assert isinstance(title, str)
    assert title != reason


def test_405_says_what_is_allowed() -> None:
    allowed = fields(Problem(status=405, reason="bad_request", detail="x"))["allow"].split(", ")
    assert "GET" in allowed
    assert "CONNECT" not in allowed
    fewer = Problem(status=405, reason="bad_request", detail="x", allow="GET, HEAD")
    assert fields(fewer)["allow"] == "GET, HEAD"


def test_the_problems_of_parts_are_a_member_of_an_aggregate_s_alone() -> None:
    failure = PartFailure("event", 503, "circuit_open", "The circuit breaker is open")
    problem = Problem(status=502, reason="aggregate_failed", detail="x", errors={"events": failure})
    assert members(problem)["errors"] == {
        "events": {
            "service": "event",
            "status": 503,
            "reason": "circuit_open",
            "detail": "The circuit breaker is open",
        }
    }
    assert "errors" not in members(Problem(status=502, reason="reset", detail="x"))


@pytest.mark.parametrize("status", [299, 499, 599])
def test_status_that_has_no_phrase(status: int) -> None:
    assert Problem(status=status, reason="reset", detail="x").head(0).startswith(b"HTTP/1.1 %d \r\n" % status)


def test_request_id_of_any_bytes_comes_back_as_it_was() -> None:
    raw = b'caf\xe9 \xff"'
    problem = Problem(status=503, reason="reset", detail="x", request_id=raw.decode("latin-1"))
    assert b"\r\nX-Request-Id: " + raw in problem.head(0)
    assert members(problem)["request_id"] == raw.decode("latin-1")


# Answers to gRPC calls.


def grpc_fields(**more: object) -> dict[str, str]:
    members = {"status": 503, "reason": "no_endpoint", "detail": "no address of shop is known"} | more
    found = Problem(**members).grpc_fields()  # type: ignore[arg-type]
    assert found[0] == (b":status", b"200")
    assert len({name for name, _ in found}) == len(found)
    return {name.decode(): value.decode("ascii") for name, value in found}


def test_a_grpc_call_is_answered_by_one_block_of_fields() -> None:
    assert grpc_fields(request_id="id-1") == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-status": "14",
        "grpc-message": "no address of shop is known",
        "x-sidecar-reason": "no_endpoint",
        "x-request-id": "id-1",
    }


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"reason": "overloaded"}, "8"),
        ({"reason": "request_timeout", "status": 504}, "4"),
        ({"reason": "unknown_service", "status": 404}, "12"),
        ({"reason": "bad_request", "status": 400}, "3"),
        ({"reason": "bad_request", "status": 501, "grpc_status": 12}, "12"),
        ({"reason": "reset", "status": 502, "grpc_status": 1}, "1"),
        ({"reason": "something_new"}, "2"),
    ],
)
def test_its_status_is_that_of_the_reason_or_said(more: dict[str, object], status: str) -> None:
    assert grpc_fields(**more)["grpc-status"] == status


def test_each_reason_of_an_answer_has_a_status_of_grpc() -> None:
    assert STATUS.keys() | {"bad_request"} <= REASON_STATUS.keys()


def test_its_message_is_encoded_and_bounded() -> None:
    assert grpc_fields(detail="50%\nM\u00fcnchen")["grpc-message"] == "50%25%0AM%C3%BCnchen"
    assert len(grpc_fields(detail="x" * 100_000)["grpc-message"]) == LONGEST_MESSAGE
    assert grpc_fields(detail="")["grpc-message"] == "The service has no endpoint"


@pytest.mark.parametrize(
    ("retry_after", "jitter", "pushback"),
    [
        (None, 0.5, None),
        (1.0, 0.0, "1000"),
        (1.0, 0.25, "1250"),
        (1.0, 1.0, "2000"),
        (1.001, 1.0, "-1"),
        (30.0, 0.0, "-1"),
    ],
)
def test_a_library_that_retries_waits_for_a_moment_or_gives_up(
    retry_after: float | None, jitter: float, pushback: str | None
) -> None:
    """A longer wait would keep the app waiting too, and hide from it why the call failed."""
    assert grpc_fields(retry_after=retry_after, jitter=jitter).get("grpc-retry-pushback-ms") == pushback


def test_the_number_of_attempts_is_told_where_there_were_several() -> None:
    attempts = tuple(Attempt(f"10.0.0.{at}:80", "reset", None, 1.5) for at in range(3))
    assert grpc_fields(attempts=attempts)["x-envoy-attempt-count"] == "3"
    assert "x-envoy-attempt-count" not in grpc_fields(attempts=attempts[:1])
