"""What services do wrong and every peer lets pass: put right before it goes on, and never a breaker's failure.

Decision 0003 has the table of it. What stays refused is in test_hostile_answers.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

import pytest

from tests.support.client import Response
from tests.support.eventually import eventually
from tests.support.rig import Rig
from tests.support.steps import answer, interim, raw
from tests.support.upstream import Upstream

OK = b"HTTP/1.1 200 OK\r\n"
BODY = b"a\r\n\r\nb\n\nc"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)


def lf(head: bytes) -> bytes:
    return head.replace(b"\r\n", b"\n")


HEADS = {
    "bare line feeds": lf(OK + b"X-A: b\r\n" + LENGTH + b"\r\n"),
    "bare line feeds and HTTP/1.0 kept open": lf(
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nX-A: b\r\n" + LENGTH + b"\r\n"
    ),
    "equal lengths": OK + LENGTH + b"X-A: b\r\n" + LENGTH + b"\r\n",
    "equal lengths in a list": OK + b"X-A: b\r\nContent-Length: 9, 9\r\n\r\n",
    "equal lengths with a zero before": OK + b"X-A: b\r\nContent-Length: 9,09\r\n\r\n",
    "folded line": OK + b"X-A:\r\n b\r\n" + LENGTH + b"\r\n",
    "folded with bare line feeds": lf(OK + b"X-A:\r\n\tb\r\n" + LENGTH + b"\r\n"),
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nX-A: b\r\n" + LENGTH + b"\r\n",
    "HTTP/1.9": b"HTTP/1.9 200 OK\r\nX-A: b\r\n" + LENGTH + b"\r\n",
    "several spaces before the status": b"HTTP/1.1   200 OK\r\nX-A: b\r\n" + LENGTH + b"\r\n",
    "no phrase and no space": b"HTTP/1.1 200\r\nX-A: b\r\n" + LENGTH + b"\r\n",
}
"""The lines of each end alike, so that its connection is kept."""

MIXED = {
    "the status line": b"HTTP/1.1 200 OK\nX-A: b\r\n" + LENGTH + b"\r\n",
    "X-A": OK + b"X-A: b\n" + LENGTH + b"\r\n",
    "Content-Length": OK + b"X-A: b\r\n" + lf(LENGTH) + b"\r\n",
    "the empty line at the end": OK + b"X-A: b\r\n" + LENGTH + b"\n",
}


def assert_put_right(response: Response) -> None:
    """The client that read it takes strict heads alone."""
    assert (response.status, response.body, response.end) == (200, BODY, "whole")
    assert response.get("x-a") == "b"
    assert response.get("content-length") == str(len(BODY))
    assert response.head.startswith(b"HTTP/1.1 200 ")
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", response.head)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "byte by byte"])
def test_put_right(rig: Rig, venue: Upstream, name: str, bytewise: bool) -> None:
    """And no failure: neither in the metrics nor to the breaker; the connection is used again."""
    head = HEADS[name] + BODY
    venue.play(raw(*([head[at : at + 1] for at in range(len(head))] if bytewise else [head])))
    changes = rig.changes()
    with rig.client() as client:
        for _ in range(2):
            assert_put_right(client.ask("GET", "/venue/"))
    gain = changes.when_done("venue", 2)
    assert gain("sidecar_requests_total", service="venue", code="200", reason="ok") == 2
    assert gain("sidecar_breaker_events_total", service="venue", event="failure") == 0
    assert gain("sidecar_breaker_events_total", service="venue", event="success") == 2
    assert [request.connection for request in venue.requests] == [0, 0]


@pytest.mark.parametrize("where", MIXED)
def test_mixed_line_ends(rig: Rig, venue: Upstream, where: str) -> None:
    """Put right too, but what follows is not trusted: the connection is not used again."""
    venue.play(raw(MIXED[where] + BODY))
    for _ in range(2):
        assert_put_right(rig.ask("GET", "/venue/"))
    assert [request.connection for request in venue.requests] == [0, 1]


def test_mixed_line_ends_of_an_interim_answer(rig: Rig, venue: Upstream) -> None:
    venue.play(interim(b"HTTP/1.1 103 Early Hints\r\nLink: x\n\r\n", final=answer()))
    with rig.client() as client:
        for _ in range(2):
            response = client.ask("GET", "/venue/")
            assert (response.status, response.body) == (200, b"ok")
    assert [request.connection for request in venue.requests] == [0, 1]


def test_a_warning_names_service_and_field_once() -> None:
    config = 'services: {venue: {endpoints: ["$venue"]}, other: {endpoints: ["$other"]}}'
    with Rig(config, "venue", "other") as rig:
        rig["venue"].play(raw(MIXED["X-A"] + BODY), raw(MIXED["the status line"] + BODY))
        rig["other"].play(raw(MIXED["the status line"] + BODY))
        for name in ("venue", "venue", "venue", "other"):
            assert rig.ask("GET", f"/{name}/").status == 200

        def check() -> None:
            lines = [line for line in rig.daemon.log_lines() if "line ends" in line["event"]]
            assert {line["level"] for line in lines} == {"warning"}
            assert [(line["service"], line["field"]) for line in lines] == [
                ("venue", "X-A"),
                ("other", "the status line"),
            ]

        eventually(check)


def test_interim_answers_with_bare_line_feeds(rig: Rig, venue: Upstream) -> None:
    venue.play(raw(b"HTTP/1.1 103 Early Hints\nLink: x\n\n" + HEADS["bare line feeds"] + BODY))
    with rig.client() as client:
        for _ in range(2):
            response = client.ask("GET", "/venue/")
            assert_put_right(response)
            assert [(head.status, head.headers) for head in response.interim] == [(103, [("Link", "x")])]
    assert [request.connection for request in venue.requests] == [0, 0]


def test_chunked_behind_bare_line_feeds(rig: Rig, venue: Upstream) -> None:
    """The head alone may have them: what frames the body is read strictly."""
    head = b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n"
    venue.play(raw(head + b"2\r\nok\r\n0\r\n\r\n"))
    for _ in range(2):
        assert rig.ask("GET", "/venue/").body == b"ok"
    assert [request.connection for request in venue.requests] == [0, 0]


def test_set_cookies_keep_their_lines(rig: Rig, venue: Upstream) -> None:
    venue.play(raw(lf(OK + b"Set-Cookie: a=b\r\nset-cookie: c=d; x\r\nContent-Length: 0\r\n\r\n")))
    assert rig.ask("GET", "/venue/").all("set-cookie") == ["a=b", "c=d; x"]


# Date.


@pytest.mark.parametrize(
    "head",
    [
        OK + LENGTH + b"\r\n",
        OK + b"X-Date: x\r\n" + LENGTH + b"\r\n",
        lf(OK + LENGTH + b"\r\n"),
        b"HTTP/1.1 404 Not Found\r\n" + LENGTH + b"\r\n",
    ],
)
def test_a_date_is_added_where_there_is_none(rig: Rig, venue: Upstream, head: bytes) -> None:
    venue.play(raw(head + BODY))
    response = rig.ask("GET", "/venue/")
    assert response.body == BODY
    date = response.get("date")
    assert date is not None
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", date)
    assert parsedate_to_datetime(date).year >= 2024


@pytest.mark.parametrize("name", ["Date", "date", "DATE"])
def test_a_date_is_kept(rig: Rig, venue: Upstream, name: str) -> None:
    venue.play(answer(headers=[(name, "Tue, 01 Jul 2025 10:00:00 GMT")]))
    assert rig.ask("GET", "/venue/").all("date") == ["Tue, 01 Jul 2025 10:00:00 GMT"]


def test_no_date_is_added_to_interim_answers(rig: Rig, venue: Upstream) -> None:
    venue.play(interim(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", final=answer()))
    response = rig.ask("GET", "/venue/")
    assert len(response.all("date")) == 1
    assert [head.headers for head in response.interim] == [[("Link", "x")]]
