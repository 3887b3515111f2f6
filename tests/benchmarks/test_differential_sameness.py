"""What counts as the same: times, ids and chance do not, everything else does."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from benchmarks.differential.episodes import make_episode
from benchmarks.differential.sameness import (
    Names,
    alike,
    events_differ,
    lines_differ,
    log_lines,
    runs_differ,
    series_by_service,
    series_differ,
    twice,
    unchunked,
)
from benchmarks.differential.scripts import Answer, Script
from benchmarks.differential.upstreams import Copy, Run, chunked_end

EPISODE = make_episode(1, 0, 0, 9000)
NAMES = (Names(EPISODE), Names(EPISODE))

HEAD = b"HTTP/1.1 200 OK\r\n"
PROBLEM = HEAD + b"Content-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (HEAD + b"Date: Mon, 30 Nov 2026 21:47:40 GMT\r\n\r\n", HEAD + b"Date: Tue, 01 Dec 2026 00:00:01 GMT\r\n\r\n"),
        (b"GET / HTTP/1.1\r\nx-r: o000000001\r\n\r\n", b"GET / HTTP/1.1\r\nx-r: n000000001\r\n\r\n"),
        (b"x-sidecar-loop: sidecar-0123456789ab\r\n", b"x-sidecar-loop: sidecar-ba9876543210\r\n"),
        (b"x-envoy-expected-rq-timeout-ms: 700\r\n", b"x-envoy-expected-rq-timeout-ms: 690\r\n"),
        (PROBLEM % 20 + b'{"duration_ms":9.5}', PROBLEM % 21 + b'{"duration_ms":10.5}'),
        (b"\r\nRetry-After: 1000\r\n", b"\r\nRetry-After: 1200\r\n"),
        (
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n",
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        ),
    ],
)
def test_what_may_differ(old: bytes, new: bytes) -> None:
    assert alike(old, new, NAMES)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (HEAD + b"\r\n", HEAD + b"x: y\r\n\r\n"),
        (HEAD + b"\r\nbody", HEAD + b"\r\nbodz"),
        (b"Date: Sun, 06 Nov 1994 08:49:37 GMT", b"Date: Mon, 30 Nov 2026 21:47:40 GMT"),
        (b"x-r: o000000001\r\n", b"x-r: n000000002\r\n"),
        (b"x-envoy-expected-rq-timeout-ms: 700\r\n", b"x-envoy-expected-rq-timeout-ms: 60000\r\n"),
        (b"x-envoy-expected-rq-timeout-ms: 700\r\n", b""),
        (PROBLEM % 20 + b'{"reason":"reset"}', PROBLEM % 20 + b'{"reason":"reset2"}'),
        (
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;a=b\r\nab\r\n0\r\n\r\n",
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        ),
    ],
)
def test_what_must_not_differ(old: bytes, new: bytes) -> None:
    assert not alike(old, new, NAMES)


def test_sentences_may_be_left_out() -> None:
    old = PROBLEM % 20 + b'{"detail":"one \\"word\\"","reason":"reset"}'
    new = PROBLEM % 20 + b'{"detail":"another","reason":"reset"}'
    assert not alike(old, new, NAMES)
    assert alike(old, new, (Names(EPISODE, words=False), Names(EPISODE, words=False)))


def test_what_an_app_saw() -> None:
    seen = ("answer", 0, HEAD + b"\r\n")
    assert not events_differ([seen], [seen], NAMES)
    assert events_differ([seen], [("part", 0, HEAD + b"\r\n")], NAMES)
    assert events_differ([seen], [seen, ("end", 0, "eof")], NAMES)
    assert events_differ([("end", 0, "eof")], [("end", 0, "reset")], NAMES)


def ran(*heads: bytes, once: bool = False, nth: int = 0, body: bytes = b"") -> Run:
    run = Run(Script(1, (Answer(()),), once))
    for head in heads:
        run.copies.append(Copy(head, nth, "127.10.0.1"))
        run.copies[-1].body = body
    return run


def test_what_upstreams_got() -> None:
    assert not runs_differ([ran(b"a")], [ran(b"a")], NAMES, loose=False)
    for other in (ran(b"b"), ran(b"a", b"a"), ran(), ran(b"a", nth=1), ran(b"a", body=b"x")):
        assert runs_differ([ran(b"a")], [other], NAMES, loose=False)
    assert not runs_differ([ran(b"a")], [ran(b"a", nth=1)], NAMES, loose=True)


def test_what_has_an_effect_comes_once() -> None:
    assert twice([ran(b"a", b"a", once=True)])
    assert not twice([ran(b"a", b"a"), ran(b"a", once=True)])


def test_figures_by_service() -> None:
    scrape = (
        'sidecar_requests_total{service="s0",code="200",reason="ok"} 3.0\n'
        'sidecar_request_duration_seconds_sum{service="s0"} 0.7\n'
        "process_cpu_seconds_total 1.0\n"
    )
    found = series_by_service(scrape, lambda service: NAMES[0])
    assert found == {"s0": Counter({'sidecar_requests_total{service="s0",code="200",reason="ok"}': 3.0})}
    assert not series_differ(found["s0"], found["s0"])
    assert "old: 3.0 new: None" in series_differ(found["s0"], Counter())


def test_log_lines_without_times() -> None:
    def line(duration: float, status: int) -> str:
        entry = {"time": str(duration), "event": "request", "service": "s0", "status": status, "duration_ms": duration}
        return json.dumps({**entry, "reason": "ok", "attempts": [{"duration_ms": duration, "status": status}]})

    one, other, third = (
        log_lines([line(*each)], lambda _: None)["s0"] for each in ((1.5, 200), (2.5, 200), (1.5, 201))
    )
    assert not lines_differ(one, other)
    assert "201" in lines_differ(one, third)


@pytest.mark.parametrize(
    ("body", "end"),
    [
        (b"0\r\n\r\n", 5),
        (b"0\r\n\r\nrest", 5),
        (b"2;a=b\r\nab\r\n0\r\nX: y\r\n\r\n", 22),
        (b"2\r\nab\r\n", -1),
        (b"2\r\na", -1),
        (b"0\r\n", -1),
        (b"", -1),
    ],
)
def test_the_end_of_a_chunked_body(body: bytes, end: int) -> None:
    assert chunked_end(body) == end


def test_chunks_of_an_upstream_stay_as_they_are() -> None:
    answer = HEAD + b"Transfer-Encoding: chunked\r\n\r\n02\r\nab\r\n0\r\n\r\n"
    assert unchunked(answer) == answer
