"""What errors say, what they know, and that they survive being copied and sent to another process."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any, cast

import pytest
from multidict import CIMultiDict

from sidecar.client import errors
from sidecar.client.errors import (
    MAX_SHOWN,
    AggregateFailed,
    Attempt,
    CallError,
    CircuitOpen,
    ClientError,
    ConnectionFailed,
    ConnectTimeout,
    DeadlineExceeded,
    InvalidAnswer,
    NotFound,
    PartFailure,
    RateLimited,
    ResponseError,
    ServiceError,
    SidecarError,
    SidecarUnavailable,
    UnknownService,
    UpstreamTimeout,
)

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CallError)]
KNOWN = {"service": "venue", "method": "GET", "path": "/events/1", "request_id": "r-1"}
POST = {**KNOWN, "method": "POST", "path": "/events"}


def test_made_with_what_goes_by_name() -> None:
    """It would be the detail, and fail where the error is printed."""
    with pytest.raises(TypeError, match=r"CircuitOpen\(5.0\): pass what is not text by name: retry_after="):
        CircuitOpen(cast(Any, 5.0))
    assert CircuitOpen(retry_after=5.0).retry_after == 5.0


@pytest.mark.parametrize(
    ("kind", "bases"),
    [
        (CircuitOpen, [SidecarError, CallError]),
        (UpstreamTimeout, [SidecarError, TimeoutError]),
        (DeadlineExceeded, [UpstreamTimeout, TimeoutError]),
        (ConnectTimeout, [ConnectionFailed, UpstreamTimeout, TimeoutError]),
        (NotFound, [ClientError, ResponseError, CallError]),
        (InvalidAnswer, [CallError]),
    ],
)
def test_what_catches_what(kind: type[CallError], bases: list[type[Exception]]) -> None:
    assert all(issubclass(kind, base) for base in bases)


def test_the_two_families_are_apart() -> None:
    both = [kind for kind in KINDS if issubclass(kind, SidecarError) and issubclass(kind, ResponseError)]
    assert both == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            CircuitOpen("too many calls failed", reason="circuit_open", retry_after=12.34, **KNOWN),
            (
                "venue: GET /events/1: the circuit breaker is open: too many calls failed; continue without the "
                "answer, or try again in 12.3 s (reason circuit_open, request r-1, 0 attempts)"
            ),
        ),
        (
            RateLimited(reason="rate_limited", **KNOWN),
            (
                "venue: GET /events/1: too many requests; send fewer requests (reason rate_limited, "
                "request r-1, 0 attempts)"
            ),
        ),
        (
            UnknownService("did you mean venue?", reason="unknown_service", **{**KNOWN, "service": "venu"}),
            (
                "venu: GET /events/1: the sidecar knows no service of that name: did you mean venue?; add it to the "
                "sidecar's file, or correct the name here (reason unknown_service, request r-1, 0 attempts)"
            ),
        ),
        (
            ConnectionFailed(reason="truncated", attempts=1, status=200, **KNOWN),
            (
                "venue: GET /events/1: the answer broke off before its end; continue without the answer: the sidecar "
                "decides about retries, by `retry` in its file (reason truncated, request r-1, 1 attempt)"
            ),
        ),
        (
            ServiceError(status=503, attempts=3, **KNOWN),
            (
                "venue: GET /events/1: the service answered 503; continue without the answer: the sidecar has "
                "already retried (request r-1, 3 attempts)"
            ),
        ),
        (
            UpstreamTimeout(reason="attempt_timeout", attempts=1, **POST),
            (
                "venue: POST /events: no answer in time; the service may have done it: check before you send it again "
                "(reason attempt_timeout, request r-1, 1 attempt)"
            ),
        ),
        (CircuitOpen(retry_after=5), "the circuit breaker is open; continue without the answer, or try again in 5.0 s"),
    ],
)
def test_words(error: CallError, words: str) -> None:
    assert str(error) == words
    assert repr(error) == f"{type(error).__name__}({words!r})"


def test_words_are_one_line_and_not_endless() -> None:
    error = SidecarError("a\nb\r\n  c " + "x" * 10_000, **KNOWN)
    assert str(error).startswith("venue: GET /events/1: the sidecar could not complete the call: a b c x")
    assert "\n" not in str(error)
    assert len(str(error)) < 800


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_words_repeat_no_long_name(kind: type[CallError]) -> None:
    long = {name: value + "x" * 40_000 for name, value in KNOWN.items()}
    error = kind("why", **long)
    assert len(str(error)) < 1500
    assert f"request r-1{'x' * 250}..., 0 attempts" in str(error)
    assert (error.path, error.request_id) == (long["path"], long["request_id"])


@pytest.mark.parametrize("size", [MAX_SHOWN - 1, MAX_SHOWN, MAX_SHOWN + 1])
def test_the_longest_request_id_is_whole(size: int) -> None:
    error = CallError(**{**KNOWN, "request_id": "r" * size})
    assert (f"request {'r' * size}, " in str(error)) == (size <= MAX_SHOWN)


MAY_BE_DONE = "the service may have done it"


@pytest.mark.parametrize(
    ("error", "may_be"),
    [
        (UpstreamTimeout(reason="attempt_timeout", attempts=1, **POST), True),
        (UpstreamTimeout(reason="attempt_timeout", attempts=1, **KNOWN), False),
        (UpstreamTimeout(reason="attempt_timeout", attempts=1, **{**POST, "method": "PUT"}), False),
        (UpstreamTimeout(reason="attempt_timeout", attempts=1, **{**POST, "method": "patch"}), True),
        (ConnectTimeout(reason="connect_timeout", attempts=2, **POST), False),
        (ConnectionFailed(reason="connect_failure", attempts=3, **POST), False),
        (ConnectionFailed(reason="reset", attempts=1, **POST), True),
        (
            ConnectionFailed(
                reason="connect_failure",
                attempts=2,
                tries=(Attempt(reason="reset"), Attempt(reason="connect_failure")),
                **POST,
            ),
            True,
        ),
        (DeadlineExceeded(reason="deadline", attempts=0, **POST), False),
        (DeadlineExceeded(reason="deadline", attempts=1, **POST), True),
        (ServiceError(status=500, attempts=1, **POST), True),
        (ClientError(status=409, attempts=1, **POST), False),
        (CircuitOpen(reason="circuit_open", **POST), False),
        (SidecarUnavailable(reason="sidecar_unavailable", attempts=0, **POST), False),
        (SidecarUnavailable(reason="sidecar_unavailable", attempts=1, **POST), True),
    ],
    ids=str,
)
def test_what_may_have_been_done_says_so(error: CallError, may_be: bool) -> None:
    assert (MAY_BE_DONE in str(error)) == may_be


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_copies_know_the_same(kind: type[CallError]) -> None:
    error = kind("why", attempts=2, status=503, **KNOWN)
    error.add_note("seen by a test")
    if isinstance(error, SidecarError):
        error.tries = (Attempt("10.0.0.1:80", "reset", None, 1.5),)
    if isinstance(error, AggregateFailed):
        error.errors = {"main": PartFailure("venue", 503, "reset")}
    if isinstance(error, ResponseError):
        error.headers, error.body = CIMultiDict({"X-A": "1"}), b"{}"
    for other in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(other) is kind
        assert vars(other) == vars(error)
        assert str(other) == str(error)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_says_what_to_do(kind: type[CallError]) -> None:
    assert kind is CallError or kind is ResponseError or kind()._advice()
    assert kind.__doc__


def test_body_of_the_services_answer() -> None:
    error = ServiceError(status=500, body=b'{"a": [1]}')
    assert (error.json(), error.text()) == ({"a": [1]}, '{"a": [1]}')
    error = ServiceError(status=500, body=b"\xff<html>")
    assert error.text() == "\ufffd<html>"
    with pytest.raises(ValueError, match="the body of the 500 is not JSON"):
        error.json()


@dataclass
class Refusal:
    seat: str


def test_decoded_body_of_the_services_answer() -> None:
    error = ClientError(status=409, headers={"Content-Type": "text/json"}, body=b'{"seat": "A7"}', **KNOWN)
    assert error.decode(Refusal) == Refusal("A7")
    assert error.decode() == {"seat": "A7"}
    with pytest.raises(InvalidAnswer) as caught:
        error.decode(list[Refusal])
    assert caught.value.detail == "409 with text/json: Expected `array`, got `object`"
    assert (caught.value.service, caught.value.request_id, caught.value.status) == ("venue", "r-1", 409)


def test_headers_are_found_in_any_case() -> None:
    error = ServiceError(status=503, headers={"Retry-After": "7"})
    assert (error.headers.get("retry-after"), error.headers["RETRY-AFTER"]) == ("7", "7")
    assert dict(ServiceError().headers) == {}


@pytest.mark.parametrize("attempts", [0, 1])
def test_unavailable_names_what_to_look_at(attempts: int) -> None:
    words = str(SidecarUnavailable(attempts=attempts))
    assert "SIDECAR_URL" in words
    assert ("start it (`sidecar run`)" in words) == (attempts == 0)
    assert ("log" in words) == (attempts == 1)
