"""The fuzzer of the head scanner sees a scanner that reads a head otherwise than the parser, or more than one head."""

from __future__ import annotations

from random import Random
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest

from sidecar.proxy.http1 import request_head, response_head
from sidecar.proxy.http1.head_syntax import BadRequest, BadResponse
from tools import fuzz_scan


def scan_request(head: bytes, max_fields: int) -> tuple[object, ...] | None:
    """A right one, in Python: it takes what has a Host and none of the rest."""
    if head.find(b"\r\n\r\n") != len(head) - 4:
        return None
    try:
        read = request_head.parse_thoroughly(head, max_fields)
    except BadRequest:
        return None
    if len(read.pieces) != 3 or read.host is None or read.host_at != 1 or read.minor == 0:
        return None
    if read.unusual or read.expects_continue or read.via or read.websocket:
        return None
    return (
        *(read.method, read.target, read.host, read.length, read.keep_alive, read.idempotency_key, read.for_repeated),
        *(read.request_id, read.traceparent, read.loop, read.deadline_ms, read.pieces),
    )


def scan_response(head: bytes, answers_head: bool, max_fields: int) -> tuple[object, ...] | None:
    if head.find(b"\r\n\r\n") != len(head) - 4:
        return None
    try:
        read = response_head.parse_thoroughly(head, "HEAD" if answers_head else "GET", max_fields)
    except BadResponse:
        return None
    if len(read.pieces) != 1 or read.websocket or read.loop or read.immediate_fail:
        return None
    return (
        *(read.status, read.status_line, read.length, read.keep_alive, read.dated, False, read.retry_after),
        read.pieces,
    )


def run(**wrong: object) -> tuple[int, int, int, list[str]]:
    functions = {"scan_request": scan_request, "scan_response": scan_response, **wrong}
    return fuzz_scan.fuzz(cast(ModuleType, SimpleNamespace(**functions)), Random(1), lambda heads: heads < 3000)


def test_a_scanner_that_reads_as_the_parser_does_passes() -> None:
    heads, requests, responses, differences = run()
    assert (heads, differences) == (3000, [])
    assert requests > 20
    assert responses > 20


@pytest.mark.parametrize("at", range(12))
def test_each_part_of_a_request_is_compared(at: int) -> None:
    def wrong(head: bytes, max_fields: int) -> tuple[object, ...] | None:
        found = scan_request(head, max_fields)
        if found is None:
            return None
        parts = list(found)
        other = {0: "PUT", 3: 77, 11: [b"\r\nHost: ", b"other", b""], 10: (b"77",)}.get(at, b"other")
        parts[at] = (not parts[at]) if isinstance(parts[at], bool) else other
        return tuple(parts)

    assert run(scan_request=wrong)[3]


@pytest.mark.parametrize("at", range(8))
def test_each_part_of_a_response_is_compared(at: int) -> None:
    def wrong(head: bytes, answers_head: bool, max_fields: int) -> tuple[object, ...] | None:
        found = scan_response(head, answers_head, max_fields)
        if found is None:
            return None
        parts = list(found)
        if at == 5:
            parts[5], parts[7] = True, [b"", b"/a", b""]
        else:
            other = {0: 277, 2: 77, 7: [b"\r\nA: b"]}.get(at, b"other")
            parts[at] = (not parts[at]) if isinstance(parts[at], bool) else other
        return tuple(parts)

    assert run(scan_response=wrong)[3]


def test_a_head_that_the_parser_refuses_is_a_difference() -> None:
    found = scan_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 9)
    assert "the parser refuses it" in run(scan_request=lambda head, max_fields: found)[3][0]
    answer = scan_response(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", False, 9)
    assert any("refuses" in one for one in run(scan_response=lambda *arguments: answer)[3])


def test_one_that_reads_past_the_end_of_a_head_is_seen() -> None:
    whole = fuzz_scan._ended

    def wrong(head: bytes, max_fields: int) -> tuple[object, ...] | None:
        return scan_request(whole(head), max_fields)

    assert any("is not one whole head" in one for one in run(scan_request=wrong)[3])


def test_the_wire_tests_heads_are_among_the_seeds() -> None:
    assert b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" in fuzz_scan.seeds()
    assert all(head.find(b"\r\n\r\n") == len(head) - 4 for head in fuzz_scan.seeds())
