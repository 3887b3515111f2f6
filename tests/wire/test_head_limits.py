"""`max_head` and `max_header_fields`: under `listen` for requests, under `limits` for a service's answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.problem import assert_problem
from tests.support.rig import Rig
from tests.support.steps import answer, raw
from tests.support.upstream import Upstream

MOST, FIELDS = 256 * 1024, 1000

LISTEN = f"max_head: {MOST // 1024}KiB, max_header_fields: {FIELDS}"
CONFIG = f"""
defaults: {{breaker: {{volume_threshold: 10000}}}}
services:
  venue: {{endpoints: ["$venue"], limits: {{{LISTEN}}}}}
  small: {{endpoints: ["$small"], limits: {{max_head: 1KiB, max_header_fields: 16}}}}
aggregates:
  page: {{parts: {{venue: {{service: venue, path: /}}}}}}
"""
JSON = b'{"a": 1}'


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(CONFIG, "venue", "small", listen=LISTEN) as rig:
        yield rig


@pytest.fixture
def venue(rig: Rig) -> Upstream:
    return rig["venue"].play(answer())


def padded(first: bytes, size: int, end: bytes = b"\r\n") -> bytes:
    """A head of this many bytes."""
    head = first + b"X-A: " + end + end
    return first + b"X-A: " + b"a" * (size - len(head)) + end + end


def many(first: bytes, fields: int) -> bytes:
    """A head with so many fields, of which `first` has one."""
    return first + b"".join(b"X-%d: y\r\n" % number for number in range(fields - 1)) + b"\r\n"


REQUEST = b"GET /venue/ HTTP/1.1\r\nHost: a\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(JSON)


@pytest.mark.parametrize(
    ("head", "refused_for"),
    [
        (padded(REQUEST, MOST), None),
        (padded(REQUEST, MOST + 1), "listen.max_head"),
        (many(REQUEST, FIELDS), None),
        (many(REQUEST, FIELDS + 1), "listen.max_header_fields"),
    ],
)
def test_heads_of_requests(rig: Rig, venue: Upstream, head: bytes, refused_for: str | None) -> None:
    with rig.client() as client:
        client.send(head)
        response = client.read_response()
        if refused_for is None:
            assert response.status == 200
        else:
            assert_problem(response, 431, "bad_request")
            assert refused_for in response.json()["detail"].split()
    assert venue.hits == (refused_for is None)


def test_a_large_head_behind_a_request_in_flight(rig: Rig, venue: Upstream) -> None:
    """More than is read of pipelined requests: the rest of it is read once its turn has come."""
    with rig.client() as client:
        client.send(REQUEST + b"\r\n" + padded(REQUEST, MOST))
        for _ in range(2):
            assert client.read_response().status == 200
    assert venue.hits == 2


@pytest.mark.parametrize("path", ["/venue/", "/_aggregate/page"])
@pytest.mark.parametrize(
    ("head", "refused_for"),
    [
        (padded(RESPONSE, MOST), None),
        (padded(RESPONSE.replace(b"\r\n", b"\n"), MOST, b"\n"), None),
        (padded(RESPONSE, MOST + 1), "limits.max_head"),
        (padded(RESPONSE.replace(b"\r\n", b"\n"), MOST + 1, b"\n"), "limits.max_head"),
        (many(RESPONSE, FIELDS), None),
        (many(RESPONSE, FIELDS + 1), "limits.max_header_fields"),
    ],
)
def test_heads_of_answers(rig: Rig, venue: Upstream, path: str, head: bytes, refused_for: str | None) -> None:
    venue.play(raw(head + JSON))
    response = rig.ask("GET", path)
    if refused_for is None:
        assert response.status == 200
        assert JSON[1:-1] in response.body.replace(b'"a":1', b'"a": 1')
    elif path == "/venue/":
        assert_problem(response, 502, "bad_response", "venue")
        assert refused_for in response.json()["detail"].split()
    else:
        assert response.json()["errors"]["venue"]["reason"] == "bad_response"


def test_each_service_has_its_own_limits(rig: Rig) -> None:
    small = rig["small"]
    for head, status in (
        (padded(RESPONSE, 1024), 200),
        (padded(RESPONSE, 1025), 502),
        (many(RESPONSE, 16), 200),
        (many(RESPONSE, 17), 502),
    ):
        small.play(raw(head + JSON))
        assert rig.ask("GET", "/small/").status == status


def test_a_head_without_end_is_given_up_at_the_limit(rig: Rig) -> None:
    rig["small"].play(raw(RESPONSE + b"X: " + b"a" * 1100))
    response = rig.ask("GET", "/small/")
    assert_problem(response, 502, "bad_response", "small")
    assert "limits.max_head" in response.json()["detail"]
