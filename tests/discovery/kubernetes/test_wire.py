"""Kubernetes API objects: valid content is read, other content is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.discovery.kubernetes.wire import (
    LONGEST_LINE,
    Lines,
    SliceObject,
    Status,
    WrongContent,
    read_event,
    read_list,
    read_status,
)
from tests.support.kubernetes_api import endpoint_slice, line, status_body


def listed(**more: object) -> bytes:
    page = {"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "metadata": {"resourceVersion": "7"}}
    return json.dumps(page | {"items": [endpoint_slice("a", "venue", ["10.0.0.1"])]} | more).encode()


def test_a_list_is_read() -> None:
    page = read_list(listed())
    assert (page.metadata.resource_version, page.metadata.continue_) == ("7", "")
    assert page.items is not None
    assert [one.metadata.name for one in page.items] == ["a"]
    assert page.items[0].endpoints is not None
    assert page.items[0].endpoints[0].addresses == ("10.0.0.1",)


def test_a_page_says_where_the_next_begins() -> None:
    assert read_list(listed(metadata={"resourceVersion": "7", "continue": "abc"})).metadata.continue_ == "abc"


def test_a_list_of_nothing_may_be_null() -> None:
    assert read_list(listed(items=None)).items is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"<html>log in</html>",
        b"\xff\xfe",
        listed()[:-3],
        listed(kind="PodList"),
        listed(metadata={}),
        b'{"kind": "EndpointSliceList", "metadata": {"resourceVersion": "7"}}',
        b'{"kind": "EndpointSliceList", "metadata": {"resourceVersion": "7"}, "items": ' + b"[" * 100_000,
    ],
)
def test_other_content_is_not_an_empty_list(body: bytes) -> None:
    with pytest.raises(WrongContent):
        read_list(body)


def stored(version: str = "9") -> dict[str, object]:
    made = endpoint_slice("a", "venue", None, ports=None)
    made["metadata"]["resourceVersion"] = version
    return made


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED", "DELETED"])
def test_an_event_contains_a_slice(kind: str) -> None:
    read, found = read_event(line(kind, stored()))
    assert isinstance(found, SliceObject)
    assert (read, found.metadata.name, found.metadata.resource_version, found.endpoints) == (kind, "a", "9", None)


def test_a_bookmark_has_a_version_and_no_name() -> None:
    _, found = read_event(line("BOOKMARK", {"metadata": {"resourceVersion": "12", "creationTimestamp": None}}))
    assert isinstance(found, SliceObject)
    assert found.metadata.resource_version == "12"


def test_an_error_event_contains_a_status() -> None:
    _, found = read_event(line("ERROR", status_body(410, "Expired", "too old resource version: 1 (2)")))
    assert isinstance(found, Status)
    assert found.is_gone


def test_a_status_may_ask_to_wait() -> None:
    said = read_status(json.dumps(status_body(429, "TooManyRequests", "slow", {"retryAfterSeconds": 4})).encode())
    assert said.details is not None
    assert (said.details.retry_after_seconds, said.is_gone) == (4, False)


def test_an_error_page_gives_an_empty_status() -> None:
    assert read_status(b"<html>") == Status()


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"null",
        b'{"type": "ADDED"}',
        b'{"type": "ADDED", "object": []}',
        b'{"type": "ADDED", "object": {"metadata": {"name": "a"}}}',
        b'{"type": "ADDED", "object": {"metadata": {"resourceVersion": "1"}}}',
        b'{"type": "MOVED", "object": {"metadata": {"name": "a", "resourceVersion": "1"}}}',
        b'{"type": "BOOKMARK", "object": {"metadata": {}}}',
        b'{"type": "ADDED", "obj',
    ],
)
def test_other_content_is_not_an_event(text: bytes) -> None:
    with pytest.raises(WrongContent):
        read_event(text)


@given(st.lists(st.binary(max_size=20).map(lambda text: text.replace(b"\n", b"")), max_size=8), st.data())
def test_lines_are_complete_for_any_splitting_of_the_stream(texts: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(text + b"\n" for text in texts) + b"begun"
    lines, got, at = Lines(), [], 0
    while at < len(whole):
        size = data.draw(st.integers(1, len(whole) - at))
        got += lines.feed(whole[at : at + size])
        at += size
    assert got == [text for text in texts if text.strip()]


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_line_is_bounded(pieces: int) -> None:
    text = b"x" * LONGEST_LINE
    lines = Lines()
    size = -(-len(text) // pieces)
    for at in range(0, len(text), size):
        assert lines.feed(text[at : at + size]) == []
    assert lines.feed(b"\n") == [text]
    for at in range(0, len(text), size):
        lines.feed(text[at : at + size])
    with pytest.raises(WrongContent, match="longer than"):
        lines.feed(b"x")
    with pytest.raises(WrongContent, match="longer than"):
        Lines().feed(text + b"x\n")
