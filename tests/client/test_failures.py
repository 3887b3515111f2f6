"""Which error an answer, or the lack of one, is: by a scripted sidecar, also one that answers oddly.

tests/system/test_client.py has them from the real one.
"""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import http_parser

from sidecar.client import errors
from sidecar.client.errors import CallError, ConnectionFailed, InvalidAnswer, SidecarError, SidecarUnavailable
from sidecar.client.failures import BY_REASON
from sidecar.client.service_client import ServiceClient
from sidecar.proxy.problem import TITLES
from tests.support import steps
from tests.support.steps import answer, raw, response_head, silence, then, then_close
from tests.support.upstream import Step, Turn, Upstream


async def error_of(script: Step, method: str = "GET") -> CallError:
    with Upstream(script) as scripted:
        async with ServiceClient("venue", base_url=scripted.url) as venue:
            with pytest.raises(CallError) as caught:
                await venue.request(method, "/x")
    return caught.value


def refusal(reason: str, body: bytes = b"", *fields: tuple[str, str], status: int = 503) -> Step:
    return answer(status, body, [("x-sidecar-reason", reason), *fields])


def problem(**members: Any) -> bytes:
    return json.dumps({"type": "urn:x", "title": "T", "service": "venue", **members}).encode()


@pytest.mark.parametrize("reason", BY_REASON)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_each_reason_has_its_error(reason: str, method: str) -> None:
    error = await error_of(refusal(reason, problem(detail="why", attempts=[])), method)
    assert type(error) is BY_REASON[reason]
    assert isinstance(error, SidecarError)
    assert (error.reason, error.detail) == (reason, "why" if method == "GET" else "")


def test_every_error_of_the_sidecar_has_a_reason() -> None:
    local = {errors.SidecarError, errors.SidecarUnavailable, errors.DeadlineExceeded}
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SidecarError)}
    assert kinds - local == set(BY_REASON.values())


def test_every_refusal_of_the_daemon_has_an_error() -> None:
    """`internal` is the base class. `truncated` is no refusal: the client sees the body break off itself."""
    assert set(BY_REASON) == (set(TITLES) - {"internal"}) | {"truncated"}


@pytest.mark.parametrize("reason", ["internal", "of_a_later_sidecar"])
async def test_other_reasons_are_the_base_class(reason: str) -> None:
    error = await error_of(refusal(reason, problem(detail="why"), status=500))
    assert type(error) is SidecarError
    assert (error.reason, error.status) == (reason, 500)


async def test_all_that_a_problem_says() -> None:
    attempts = [{"endpoint": "10.0.0.1:80", "reason": "reset", "status": None, "duration_ms": 1.5, "later": 1}] * 2
    body = problem(detail="it broke", retry_after=0.25, attempts=attempts, later={"a": 1})
    error = await error_of(refusal("reset", body, ("Retry-After", "1"), status=502))
    assert isinstance(error, ConnectionFailed)
    assert (error.retry_after, error.attempts, error.status) == (0.25, 2, 502)
    assert error.tries == (errors.Attempt("10.0.0.1:80", "reset", None, 1.5),) * 2


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"attempts": 7}', b'{"detail": "\xff"}', b'{"det'])
async def test_problem_that_is_none_leaves_what_the_head_says(body: bytes) -> None:
    error = await error_of(refusal("circuit_open", body, ("Retry-After", "7")))
    assert isinstance(error, errors.CircuitOpen)
    assert (error.retry_after, error.attempts, error.detail, error.tries) == (7.0, 0, "", ())


@pytest.mark.parametrize(
    ("reason", "fields", "attempts"),
    [("reset", [], 1), ("reset", [("x-envoy-attempt-count", "3")], 3), ("circuit_open", [], 0)],
)
async def test_attempts_with_head(reason: str, fields: list[tuple[str, str]], attempts: int) -> None:
    assert (await error_of(refusal(reason, b"", *fields), "HEAD")).attempts == attempts


@pytest.mark.parametrize("value", ["", "soon", "-1", "1.5", "9" * 30, "²", "Wed, 99 Oct 2026 07:28:00 GMT"])
async def test_retry_after_that_says_nothing(value: str) -> None:
    error = await error_of(refusal("overloaded", b"", ("Retry-After", value.encode().decode("latin-1"))))
    assert isinstance(error, SidecarError)
    assert error.retry_after is None


@pytest.mark.parametrize("told", ["", "x", "-1", "9" * 30])
async def test_attempt_count_that_is_none(told: str) -> None:
    assert (await error_of(answer(500, b"", [("x-envoy-attempt-count", told)]))).attempts == 1


async def test_headers_and_body_of_the_services_answer() -> None:
    error = await error_of(answer(409, b"taken", [("X-Why", "a"), ("X-Why", "b"), ("x-envoy-attempt-count", "2")]))
    assert isinstance(error, errors.ClientError)
    assert (error.headers["x-why"], error.body, error.attempts) == ("a", b"taken", 2)


async def test_body_that_is_not_of_its_coding() -> None:
    error = await error_of(answer(200, b"no gzip", [("Content-Encoding", "gzip")]))
    assert isinstance(error, InvalidAnswer)
    assert "Content-Encoding" in str(error)


@pytest.mark.parametrize("coding", ["br", "zstd"])
async def test_body_in_a_coding_that_the_app_has_no_decoder_for(coding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service answered so without being asked for it, or the app did ask. It is not for want of a sidecar."""
    for installed in ("HAS_BROTLI", "HAS_ZSTD"):
        monkeypatch.setattr(http_parser, installed, False)
    script = answer(200, b"?", [("Content-Encoding", coding)])
    error = await error_of(script)
    assert type(error) is InvalidAnswer
    assert f"({coding}). Please install" in str(error)
    with Upstream(script) as scripted:
        async with ServiceClient("venue", base_url=scripted.url) as venue:
            with pytest.raises(InvalidAnswer, match="Please install"):
                async with venue.stream("GET", "/x"):
                    pytest.fail("there is nothing to read")
            assert await venue.health_check() is False


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (steps.close, "closed the connection without a response; the service may have received the request"),
        (then_close(raw(b"HTTP/1.1 200 OK\r\nContent-")), "closed the connection without a response"),
        (raw(b"\x00\x01\r\n\r\n"), "not HTTP"),
    ],
)
async def test_no_answer(script: Step, words: str) -> None:
    error = await error_of(script)
    assert isinstance(error, SidecarUnavailable)
    assert (error.reason, error.attempts, error.status) == ("sidecar_unavailable", 1, None)
    assert words in str(error)


async def test_upload_that_breaks_off_is_not_for_want_of_a_sidecar() -> None:
    """It may have answered: what it said is lost where the reset that follows is seen first."""

    def reads_some(turn: Turn) -> None:
        turn.read_head()
        turn.reset()

    async def flood() -> AsyncIterator[bytes]:
        while True:
            yield bytes(64 * 1024)

    with Upstream(reads_some) as scripted:
        async with ServiceClient("venue", base_url=scripted.url) as venue:
            with pytest.raises(ConnectionFailed, match="may have refused the rest") as caught:
                await venue.post("/x", data=flood())
            with pytest.raises(ConnectionFailed, match="may have refused the rest"):
                await venue.post("/x", data=bytes(32 * 1024 * 1024))
    assert (caught.value.reason, caught.value.attempts, caught.value.status) == ("upload_broken", 1, None)


async def test_body_that_was_sent_whole_and_not_answered() -> None:
    with Upstream(then(steps.read_request, steps.close)) as scripted:
        async with ServiceClient("venue", base_url=scripted.url) as venue:
            with pytest.raises(SidecarUnavailable):
                await venue.post("/x", data=b"body")


@pytest.mark.parametrize("script", [steps.close, silence, raw(b"\x00\r\n\r\n")], ids=["closes", "hangs", "babbles"])
async def test_query_is_nowhere_in_an_errors_traceback(script: Step) -> None:
    """aiohttp's errors, which ours come of, print the URL."""
    with Upstream(script) as scripted:
        async with ServiceClient("venue", base_url=scripted.url, deadline=0.2) as venue:
            with pytest.raises(SidecarError) as caught:
                await venue.post("/x?token=SECRET", data=b"body", params={"key": "SECRET"})
            whole = traceback.format_exception(caught.value)
            with pytest.raises(SidecarError) as caught:
                async with venue.stream("GET", "/x?token=SECRET"):
                    pytest.fail("nobody answers")
            whole += traceback.format_exception(caught.value)
    shown = [line for line in whole if "File " not in line]  # Those quote the code, of this test too.
    assert "SECRET" not in "".join(shown)
    assert caught.value.__context__ is None or isinstance(caught.value.__context__, asyncio.CancelledError)


async def test_error_body_that_breaks_off_is_truncated() -> None:
    error = await error_of(then_close(raw(response_head(503, [("Content-Length", "10")]) + b"half-")))
    assert isinstance(error, ConnectionFailed)
    assert (error.reason, error.status) == ("truncated", 503)


async def test_cause_is_kept_for_those_who_look_deeper() -> None:
    error = await error_of(then_close(raw(response_head(200, [("Content-Length", "10")]) + b"half-")))
    assert type(error.__cause__).__name__ == "ClientPayloadError"
