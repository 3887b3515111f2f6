"""A head that is only asked about is checked as one that was sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.load import loads
from sidecar.proxy.exchange.head_asked import Routed, head_asked, routed
from sidecar.proxy.http1.head_syntax import MAX_HEAD
from sidecar.runtime.live import Live
from sidecar.runtime.routing import NotRouted


def test_it_is_what_the_parser_makes_of_it() -> None:
    head = head_asked("POST", "/venue/x?y", "venue:80", MAX_HEAD)
    assert (head.method, head.target, head.host) == ("POST", b"/venue/x?y", b"venue:80")
    assert head_asked("GET", "/", "", MAX_HEAD).host == b""


@pytest.mark.parametrize(
    ("method", "target", "host", "status", "detail"),
    [
        ("GET", "/a", "a@b", 400, "the Host is not host"),
        ("GET", "/a", "a:x", 400, "the Host is not host"),
        ("GET", "/a", "a/", 400, "the Host is not host"),
        ("CONNECT", "a:80", "a:80", 405, "a CONNECT opens a connection"),
        ("GET", "/\xe9", "", 400, "percent-encode"),
        ("GET", "/\udcff", "", 400, "percent-encode"),
        ("GET", "/a#b", "", 400, "fragment"),
        ("GET", "/a", "a\r\nX: y", 400, "CR or LF"),
        ("GET\n", "/a", "", 400, "CR or LF"),
        ("GET", "/" + "x" * 33000, "", 431, "over 32768 bytes, which is listen.max_head"),
    ],
)
def test_what_the_app_would_be_told(method: str, target: str, host: str, status: int, detail: str) -> None:
    with pytest.raises(NotRouted, match=detail) as refused:
        head_asked(method, target, host, MAX_HEAD)
    assert (refused.value.status, refused.value.reason) == (status, "bad_request")


@given(
    st.sampled_from(["GET", "POST", "OPTIONS", "GET /x HTTP/1.1", "\t"]) | st.text(max_size=20),
    st.text(min_size=1, max_size=40) | st.text("/ *\t#:[]a", min_size=1, max_size=9),
    st.text(max_size=40) | st.text("a:/@[]1 \t,", max_size=9),
)
def test_nothing_gets_in_that_is_not_in_its_place(method: str, target: str, host: str) -> None:
    try:
        head = head_asked(method, target, host, MAX_HEAD)
    except NotRouted:
        return
    assert (head.method, head.target, head.host) == (method, target.encode(), host.strip(" \t").encode())
    assert head.length == 0


def live(text: str) -> Live:
    return Live(loads(text, "a.yaml", {}), 0.0, float)


def test_a_method_that_is_neither_known_nor_allowed() -> None:
    made = live("services: {venue: {url: 'http://a:1', routes: [{match: {path: /x, methods: [BAN]}}]}}")
    found = routed(made, "BAN", "/venue/x", "")
    assert isinstance(found, Routed)
    assert (found.service, found.route.name, found.upstream_target) == (made.services["venue"], "BAN /x", b"/x")
    with pytest.raises(NotRouted, match="allow_methods") as refused:
        routed(made, "BAN", "/venue/y", "")
    assert (refused.value.status, refused.value.reason) == (501, "bad_request")
    found = routed(made, "GET", "http://a:1/x", "")
    assert isinstance(found, Routed)
    assert (found.route.name, found.by) == ("", "absolute")


def test_an_aggregate_is_named_or_refused() -> None:
    part = "parts: {v: {service: venue, path: '/x/{query.id}'}}"
    made = live(f"services: {{venue: {{url: 'http://a:1'}}}}\naggregates: {{page: {{{part}}}}}")
    assert routed(made, "HEAD", "/_aggregate/page?id=1", "") == "page"
    with pytest.raises(NotRouted, match="page: the query parameter id is missing") as refused:
        routed(made, "GET", "/_aggregate/page", "")
    assert refused.value.status == 400
    with pytest.raises(NotRouted, match="no aggregate of that name") as refused:
        routed(made, "GET", "/_aggregate/other", "")
    assert refused.value.status == 404
