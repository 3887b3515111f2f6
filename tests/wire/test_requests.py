"""What the upstream sees of a request and the app of its answer: routing, heads rewritten, framing, pipelining.

Every test is a dialogue on real sockets: the bytes that went in, the bytes that came out at the other end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support import steps
from tests.support.client import Response, request_bytes
from tests.support.eventually import eventually
from tests.support.message import chunked, head_bytes
from tests.support.problem import assert_problem
from tests.support.rig import Rig
from tests.support.steps import answer, answer_chunked, echo, held, interim, raw, response_head, then_close
from tests.support.upstream import Received, Turn, Upstream

CONFIG = """
defaults:
  timeout: {connect: 2s, attempt: 4s, request: 8s}
  retry: {backoff: {base: 1ms, max: 2ms}, budget: {min_per_second: 1000}}
  breaker: {volume_threshold: 10000}
services:
  venue: {endpoints: ["$venue"], hosts: [venue-service, venues.example.org]}
  slow: {endpoints: ["$slow"]}
  named: {url: "http://localhost:$port_named"}
  keeping: {endpoints: ["$keeping"], hosts: [keeping-service], preserve_host: true}
  loop: {endpoints: ["http://127.0.0.1:$proxy"]}
"""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(CONFIG, "venue", "slow", "named", "keeping") as rig:
        yield rig


@pytest.fixture
def venue(rig: Rig) -> Upstream:
    return rig["venue"].play(answer())


def received(rig: Rig, *headers: tuple[str, str], method: str = "GET", body: bytes | None = None) -> Received:
    """What the upstream got of a request to /venue/ with these headers."""
    response = rig.ask(method, "/venue/", headers, body)
    assert response.status == 200, response
    return rig["venue"].last


# Where a request goes, and with which target.


@pytest.mark.parametrize(
    ("target", "upstream_target"),
    [
        ("/venue/events/42", "/events/42"),
        ("/venue", "/"),
        ("/venue/", "/"),
        ("/venue?x", "/?x"),
        ("/venue?", "/?"),
        ("/venue/?x=/venue/y", "/?x=/venue/y"),
        ("/venue//", "//"),
        ("/venue//a///b", "//a///b"),
        ("/venue/a%2Fb%2f", "/a%2Fb%2f"),
        ("/venue/%7Ea%00%zz", "/%7Ea%00%zz"),
        ("/venue/../auth/x", "/../auth/x"),
        ("/venue/./x/..", "/./x/.."),
        ("/venue/a?b=c?d=%20&e=//", "/a?b=c?d=%20&e=//"),
        ("/venue/a;b=1,c:d@e!$&'()*+=", "/a;b=1,c:d@e!$&'()*+="),
        ("/venue/venue/x", "/venue/x"),
        ("/venue/http://other/x", "/http://other/x"),
        ("/venue/" + "long/" * 2000, "/" + "long/" * 2000),
    ],
)
def test_path_and_query_arrive_byte_for_byte(rig: Rig, venue: Upstream, target: str, upstream_target: str) -> None:
    assert rig.ask("GET", target).status == 200
    assert venue.last.target == upstream_target
    assert venue.last.get("x-forwarded-prefix") == "/venue"


@pytest.mark.parametrize(
    "target",
    ["/", "/Venue/x", "/venuex", "/%76enue/x", "//venue/x", "/venue%2Fx", "/venue;v=1/x", "/x/venue", "/?venue"],
)
def test_path_of_no_service(rig: Rig, venue: Upstream, target: str) -> None:
    assert_problem(rig.ask("GET", target), 404, "unknown_service")
    assert venue.hits == 0


@pytest.mark.parametrize(
    "host", ["venue-service", "venue-service:{port}", "VENUE-Service.", "venue", "venue:{port}", "venues.example.org"]
)
def test_service_by_host(rig: Rig, venue: Upstream, host: str) -> None:
    """The path is kept, even where it begins with a service's name."""
    for target in ("/events//42?x", "/slow/x", "/venue", "/?x"):
        assert rig.ask("GET", target, host=host.format(port=venue.port)).status == 200
        assert venue.last.target == target
        assert venue.last.get("host") == venue.authority
        assert venue.last.get("x-forwarded-prefix") is None


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:{proxy}", "127.0.0.1:{proxy}", "127.0.0.1", "[::1]:{proxy}", "LOCALHOST.", "app.local"],
)
def test_host_that_means_by_path(rig: Rig, venue: Upstream, host: str) -> None:
    assert rig.ask("GET", "/venue/x", host=host.format(proxy=rig.ports.proxy)).status == 200
    assert venue.last.target == "/x"


def test_host_with_the_wrong_port_is_an_unknown_one(rig: Rig, venue: Upstream) -> None:
    assert_problem(rig.ask("GET", "/events/42", host="venue-service:1"), 404, "unknown_service")
    assert rig.ask("GET", "/venue/events/42", host="venue-service:1").status == 200
    assert venue.last.target == "/events/42"


@pytest.mark.parametrize(
    ("target", "upstream_target"),
    [
        ("http://venue-service/events/42?x", "/events/42?x"),
        ("http://venue-service:{port}/a//b", "/a//b"),
        ("http://VENUE-SERVICE./x", "/x"),
        ("HTTP://venue-service/x", "/x"),
        ("http://venue/venue/x", "/venue/x"),
        ("http://venue-service", "/"),
        ("http://venue-service?x", "/?x"),
        ("http://venue-service/", "/"),
        ("http://localhost:{proxy}/venue/x", "/x"),
        ("http://127.0.0.1:{proxy}/venue?x", "/?x"),
    ],
)
def test_absolute_form(rig: Rig, venue: Upstream, target: str, upstream_target: str) -> None:
    """It overrides Host; the upstream gets origin-form and its own authority."""
    response = rig.ask("GET", target.format(port=venue.port, proxy=rig.ports.proxy), host="slow")
    assert response.status == 200, response.body
    assert venue.last.target == upstream_target
    assert venue.last.get("host") == venue.authority


@pytest.mark.parametrize(
    "target",
    ["http://example.org/venue/x", "http://venue-service:1/x", "http://venue-service:99999/x", "http://venuex/"],
)
def test_unknown_authority(rig: Rig, venue: Upstream, target: str) -> None:
    assert_problem(rig.ask("GET", target), 404, "unknown_service")
    assert_problem(rig.ask("GET", target, host="venue"), 404, "unknown_service")
    assert venue.hits == 0


@pytest.mark.parametrize("target", ["venue-service:443", "localhost:80", "example.org:443"])
def test_connect(rig: Rig, venue: Upstream, target: str) -> None:
    assert_problem(rig.ask("CONNECT", target), 405, "bad_request")
    assert venue.hits == 0


def test_options_of_a_whole_server(rig: Rig, venue: Upstream) -> None:
    assert rig.ask("OPTIONS", "*", host="localhost").status in (400, 404)
    assert venue.hits == 0


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND"])
def test_methods(rig: Rig, venue: Upstream, method: str) -> None:
    assert rig.ask(method, "/venue/x").status == 200
    assert venue.last.method == method


def test_url_with_a_name(rig: Rig) -> None:
    """Host is the name's, not the address's."""
    upstream = rig["named"].play(answer())
    assert rig.ask("GET", "/named/x").status == 200
    assert upstream.last.get("host") == f"localhost:{upstream.port}"


# The head.


@pytest.mark.parametrize(
    "header",
    [
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic abc"),
        ("Upgrade", "h2c"),
        ("TE", "gzip"),
        ("X-Mine", "1"),
        ("x-other", "2"),
    ],
)
def test_hop_by_hop_headers_stay_here(rig: Rig, venue: Upstream, header: tuple[str, str]) -> None:
    request = received(
        rig, ("Connection", "keep-alive, X-Mine"), ("connection", "X-OTHER,upgrade , te"), header, ("X-A", "b")
    )
    assert request.all(header[0]) == []
    assert request.get("x-a") == "b"
    assert set(request.all("connection")) <= {"keep-alive"}


def test_hop_by_hop_headers_of_an_answer_stay_here(rig: Rig, venue: Upstream) -> None:
    headers = [
        ("Connection", "X-Mine"),
        ("X-Mine", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "x"),
        ("X-A", "b"),
    ]
    venue.play(answer(headers=headers))
    response = rig.ask("GET", "/venue/")
    for name in ("connection", "x-mine", "keep-alive", "proxy-connection"):
        assert response.all(name) == []
    assert response.get("x-a") == "b"


def test_names_values_and_order_are_kept(rig: Rig, venue: Upstream) -> None:
    headers = [
        ("x-lower", "1"),
        ("X-UPPER-CASE", "two words,  two spaces"),
        ("Cookie", "a=b; c=d"),
        ("x-Twice", "first"),
        ("Accept", "*/*"),
        ("X-tWICE", "second"),
        ("X-Empty", ""),
        ("X-Latin", "caf\xe9 \xff"),
        ("X-Punctuation", 'quoted "string", <angle>; q=0.5'),
        ("!#$%&'*+-.^_`|~", "a token of every kind"),
        ("Authorization", "Bearer x"),
    ]
    names = {name for name, _ in headers}
    assert [pair for pair in received(rig, *headers).headers if pair[0] in names] == headers

    venue.play(answer(headers=[*headers, ("Set-Cookie", "a"), ("Set-Cookie", "b")]))
    response = rig.ask("GET", "/venue/")
    assert [pair for pair in response.headers if pair[0] in names] == headers
    assert response.all("set-cookie") == ["a", "b"]


def test_phrase_and_unusual_status_pass(rig: Rig, venue: Upstream) -> None:
    venue.play(raw(b"HTTP/1.1 299 Rather Good\r\nContent-Length: 0\r\n\r\n"))
    response = rig.ask("GET", "/venue/")
    assert (response.status, response.phrase) == (299, "Rather Good")
    venue.play(raw(b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"))
    assert rig.ask("GET", "/venue/").status == 200


def test_host_is_the_endpoint(rig: Rig, venue: Upstream) -> None:
    assert received(rig).get("host") == venue.authority


@pytest.mark.parametrize("host", ["localhost:1234", "Keeping-Service", "tenant.example.org"])
def test_preserve_host(rig: Rig, host: str) -> None:
    upstream = rig["keeping"].play(answer())
    assert rig.ask("GET", "/keeping/", host=host).status == 200
    assert upstream.last.get("host") == host


def test_via_is_added(rig: Rig, venue: Upstream) -> None:
    (ours,) = received(rig).all("via")
    assert re.fullmatch(r"1\.1 [\w.-]+", ours)
    joined = ", ".join(received(rig, ("Via", "1.0 fred, 1.1 p.example.net")).all("via"))
    assert joined == f"1.0 fred, 1.1 p.example.net, {ours}"


def test_via_of_our_own_is_a_loop(rig: Rig) -> None:
    """A service that is the proxy itself: the second time round it is refused, and nothing goes round for ever."""
    changes = rig.changes()
    response = rig.ask("GET", "/loop/loop/loop/loop/x")
    assert response.status == 508
    gain = changes.now()
    assert gain("sidecar_requests_total", reason="loop") == 1
    assert gain("sidecar_requests_total") <= 2


def test_via_of_our_own_from_an_app(rig: Rig, venue: Upstream) -> None:
    (ours,) = received(rig).all("via")
    hits = venue.hits
    for via in (ours, f"1.0 fred, {ours.replace('1.1', 'HTTP/1.1')} (comment), 1.1 last"):
        assert_problem(rig.ask("GET", "/venue/", [("Via", via)]), 508, "loop")
    assert venue.hits == hits


def test_request_id_is_made_or_passed(rig: Rig, venue: Upstream) -> None:
    made = {received(rig).get("x-request-id") for _ in range(3)}
    assert len(made) == 3
    assert all(re.fullmatch(r"[0-9A-Za-z-]{16,64}", one or "") for one in made)
    assert received(rig, ("x-request-ID", "mine/1")).get("x-request-id") == "mine/1"


def test_traceparent_is_made_or_passed(rig: Rig, venue: Upstream) -> None:
    made = {received(rig).get("traceparent") for _ in range(3)}
    assert len(made) == 3
    for one in made:
        match = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}", one or "")
        assert match is not None
        assert match[1].strip("0")
        assert match[2].strip("0")
    theirs = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    request = received(rig, ("traceparent", theirs), ("tracestate", "a=b"))
    assert request.get("traceparent") == theirs
    assert request.get("tracestate") == "a=b"


def test_attempt_count_is_ours(rig: Rig, venue: Upstream) -> None:
    assert received(rig).get("x-envoy-attempt-count") == "1"
    assert received(rig, ("X-Envoy-Attempt-Count", "7")).get("x-envoy-attempt-count") == "1"


def test_forwarded_prefix_is_ours(rig: Rig, venue: Upstream) -> None:
    assert received(rig, ("X-Forwarded-Prefix", "/evil")).all("x-forwarded-prefix")[-1] == "/venue"


@pytest.mark.parametrize(
    ("header", "sent", "lowest", "highest"),
    [
        (None, "", 3000, 8000),
        ("x-envoy-upstream-rq-timeout-ms", "1500", 500, 1500),
        ("X-Envoy-Expected-Rq-Timeout-Ms", "1500", 500, 1500),
        ("x-envoy-upstream-rq-timeout-ms", "60000", 3000, 8000),
        ("x-envoy-expected-rq-timeout-ms", "60000", 3000, 8000),
        ("x-envoy-upstream-rq-timeout-ms", "soon", 3000, 8000),
        ("x-envoy-upstream-rq-timeout-ms", "-5", 3000, 8000),
    ],
)
def test_upstream_is_told_the_remaining_time(
    rig: Rig, venue: Upstream, header: str | None, sent: str, lowest: int, highest: int
) -> None:
    """The app's own deadline only shortens."""
    request = received(rig, *([(header, sent)] if header else []))
    assert lowest < int(request.get("x-envoy-expected-rq-timeout-ms") or "") <= highest


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/events/43?x#y", "/venue/events/43?x#y"),
        ("/", "/venue/"),
        ("/venue/x", "/venue/venue/x"),
        ("//elsewhere/x", "//elsewhere/x"),
        ("events/43", "events/43"),
        ("?page=2", "?page=2"),
        ("https://example.org/x", "https://example.org/x"),
        ("http://venue-service.example.org/x", "http://venue-service.example.org/x"),
    ],
)
def test_location_by_path(rig: Rig, venue: Upstream, location: str, expected: str) -> None:
    venue.play(answer(302, headers=[("Location", location)]))
    assert rig.ask("GET", "/venue/").get("location") == expected


@pytest.mark.parametrize("authority", ["{authority}", "venue-service", "venue-service:{port}"])
def test_location_that_names_the_service(rig: Rig, venue: Upstream, authority: str) -> None:
    """The app can only follow it through the proxy."""
    venue.play(
        answer(
            201, headers=[("Location", f"http://{authority}/x?y".format(authority=venue.authority, port=venue.port))]
        )
    )
    location = rig.ask("GET", "/venue/", host=f"localhost:{rig.ports.proxy}").get("location")
    assert location in ("/venue/x?y", f"http://localhost:{rig.ports.proxy}/venue/x?y")


def test_location_by_host_is_kept(rig: Rig, venue: Upstream) -> None:
    for location in ("/events/43", f"http://{venue.authority}/x", "http://venue-service/x"):
        venue.play(answer(302, headers=[("Location", location)]))
        assert rig.ask("GET", "/x", host="venue-service").get("location") == location


# Bodies.


def assert_framed_once(message: Received | Response) -> None:
    assert len(message.all("content-length") + message.all("transfer-encoding")) == 1


@pytest.mark.parametrize("size", [0, 1, 100, 65_535, 65_536, 65_537, 300_000])
def test_bodies_by_length(rig: Rig, venue: Upstream, size: int) -> None:
    body = (bytes(range(256)) * (size // 256 + 1))[:size]
    venue.play(echo())
    with rig.client() as client:
        for _ in range(2):
            response = client.ask("POST", "/venue/x", body=body)
            assert (response.framing, response.end) == ("length", "whole")
            assert response.body == b"POST /x\n" + body
            assert venue.last.body == body
            assert venue.last.get("content-length") == str(size)
            assert_framed_once(venue.last)


@pytest.mark.parametrize("pieces", [(), (b"one",), (b"one", b"2", b"three" * 1000), (b"x" * 70_000, b"y" * 70_000)])
def test_chunked_bodies(rig: Rig, venue: Upstream, pieces: tuple[bytes, ...]) -> None:
    venue.play(answer_chunked(*pieces))
    with rig.client() as client:
        for _ in range(2):
            client.send(request_bytes("POST", "/venue/", [("Transfer-Encoding", "chunked")]) + chunked(*pieces))
            response = client.read_response()
            assert (response.framing, response.end) == ("chunked", "whole")
            assert response.body == b"".join(pieces)
            assert_framed_once(response)
            assert venue.last.body == b"".join(pieces)
            assert_framed_once(venue.last)


def test_chunked_body_byte_by_byte(rig: Rig, venue: Upstream) -> None:
    venue.play(echo())
    with rig.client() as client:
        whole = request_bytes("POST", "/venue/x", [("Transfer-Encoding", "chunked")]) + chunked(
            b"hello", b"world", trailers=[("X-Sum", "1")]
        )
        for at in range(len(whole)):
            client.send(whole[at : at + 1])
        assert client.read_response().body == b"POST /x\nhelloworld"
        client.assert_open("/venue/")


def test_chunk_extensions_are_dropped(rig: Rig, venue: Upstream) -> None:
    with rig.client() as client:
        client.send(request_bytes("POST", "/venue/", [("Transfer-Encoding", "chunked")]))
        client.send(b'5;name=value;other="quoted"\r\nhello\r\n0;last\r\n\r\n')
        assert client.read_response().status == 200
    assert venue.last.body == b"hello"


def test_request_without_a_body_gets_no_framing(rig: Rig, venue: Upstream) -> None:
    for method in ("GET", "DELETE", "OPTIONS"):
        request = received(rig, method=method)
        assert request.all("content-length") + request.all("transfer-encoding") == []


def test_get_with_a_body(rig: Rig, venue: Upstream) -> None:
    assert received(rig, body=b"query").body == b"query"


TRAILERS = [("X-Checksum", "abc"), ("x-more", "d e")]
NO_TRAILERS = [
    ("Content-Length", "5"),
    ("Transfer-Encoding", "chunked"),
    ("Host", "evil"),
    ("Authorization", "Bearer evil"),
    ("Cookie", "evil"),
    ("Connection", "close"),
    ("Trailer", "x"),
    ("X-Forwarded-Prefix", "/evil"),
    ("X-Envoy-Attempt-Count", "9"),
    ("Via", "1.1 evil"),
]


def test_trailers_of_a_request(rig: Rig, venue: Upstream) -> None:
    with rig.client() as client:
        client.send(
            request_bytes(
                "POST", "/venue/", [("Transfer-Encoding", "chunked"), ("Trailer", "X-Checksum"), ("TE", "trailers")]
            )
        )
        client.send(chunked(b"hello", trailers=[TRAILERS[0], *NO_TRAILERS, TRAILERS[1]]))
        assert client.read_response().status == 200
        client.assert_open("/venue/")
    assert venue.requests[0].body == b"hello"
    assert venue.requests[0].trailers == TRAILERS


def test_trailers_of_an_answer(rig: Rig, venue: Upstream) -> None:
    unwanted = [pair for pair in NO_TRAILERS if not pair[0].startswith("X-")]
    venue.play(answer_chunked(b"hello", trailers=[TRAILERS[0], *unwanted, ("Set-Cookie", "evil"), TRAILERS[1]]))
    with rig.client() as client:
        response = client.ask("GET", "/venue/", [("TE", "trailers"), ("Connection", "TE")])
        assert (response.body, response.end) == (b"hello", "whole")
        assert response.trailers == TRAILERS
        assert client.ask("GET", "/venue/").whole


def test_answer_until_close(rig: Rig, venue: Upstream) -> None:
    """It ends with the upstream's connection, and not with the app's."""
    for version in ("HTTP/1.1", "HTTP/1.0"):
        body = b"until the end" * 10_000
        venue.play(then_close(raw(response_head(200, [("X-A", "b")], version=version) + body)), answer())
        with rig.client() as client:
            response = client.ask("GET", "/venue/")
            assert (response.framing, response.end) == ("chunked", "whole")
            assert response.body == body
            client.assert_open("/venue/")


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body(rig: Rig, venue: Upstream, status: int) -> None:
    """A 304 may bear the length of what is not sent."""
    headers = [("ETag", '"x"')] + ([("Content-Length", "1000")] if status == 304 else [])
    venue.play(raw(response_head(status, headers)), answer(body=b"next"))
    with rig.client() as client:
        response = client.ask("GET", "/venue/")
        assert (response.status, response.get("etag"), response.body) == (status, '"x"', b"")
        assert response.all("transfer-encoding") == []
        assert client.ask("GET", "/venue/").body == b"next"
    assert [request.connection for request in venue.requests] == [0, 0]


@pytest.mark.parametrize("headers", [[("Content-Length", "1000")], [("Transfer-Encoding", "chunked")], []])
def test_head(rig: Rig, venue: Upstream, headers: list[tuple[str, str]]) -> None:
    venue.play(raw(response_head(200, headers)), answer(body=b"next"))
    with rig.client() as client:
        response = client.ask("HEAD", "/venue/")
        assert response.status == 200
        assert response.all("content-length") == [value for name, value in headers if name == "Content-Length"]
        assert client.ask("GET", "/venue/").body == b"next"


def test_own_answer_to_head_has_no_body(rig: Rig, venue: Upstream) -> None:
    with rig.client() as client:
        response = client.ask("HEAD", "/nowhere/")
        assert (response.status, response.reason) == (404, "unknown_service")
        client.assert_open("/venue/")


# More than one request on a connection.


def test_keep_alive_both_ways(rig: Rig, venue: Upstream) -> None:
    with rig.client() as client:
        for number in range(5):
            assert client.ask("POST", f"/venue/{number}", body=b"x").status == 200
    assert [(request.connection, request.target) for request in venue.requests] == [(0, f"/{n}") for n in range(5)]


def test_pipelined_requests_are_answered_in_order(rig: Rig, venue: Upstream) -> None:
    venue.play(echo())
    with rig.client() as client:
        client.send(b"".join(request_bytes("GET", f"/venue/{number}") for number in range(20)))
        for number in range(20):
            assert client.read_response().body == f"GET /{number}\n".encode()


def test_pipelined_behind_a_slow_one(rig: Rig, venue: Upstream) -> None:
    slow = rig["slow"].play(held(answer(body=b"slow")))
    venue.play(answer(body=b"fast"))
    with rig.client() as client:
        client.send(
            request_bytes("GET", "/slow/") + request_bytes("GET", "/venue/") + request_bytes("GET", "/nowhere/")
        )
        eventually(lambda: slow.hits == 1)
        slow.gate.set()
        assert client.read_response().body == b"slow"
        assert client.read_response().body == b"fast"
        assert_problem(client.read_response(), 404, "unknown_service")


def test_pipelined_with_bodies(rig: Rig, venue: Upstream) -> None:
    """By length and chunked, cut at every place where two messages could be taken for one."""
    venue.play(echo())

    def messages() -> bytes:
        return (
            request_bytes("POST", "/venue/1", body=b"GET /not HTTP/1.1\r\n\r\n")
            + request_bytes("POST", "/venue/2", [("Transfer-Encoding", "chunked")])
            + chunked(b"abc", b"defg", trailers=[("X-T", "1")])
            + request_bytes("GET", "/venue/3")
            + request_bytes("PUT", "/venue/4", body=b"")
            + request_bytes("GET", "/venue/5")
        )

    expected = [b"POST /1\nGET /not HTTP/1.1\r\n\r\n", b"POST /2\nabcdefg", b"GET /3\n", b"PUT /4\n", b"GET /5\n"]
    for cut in range(1, len(messages()), 7):
        whole = messages()
        with rig.client() as client:
            client.send(whole[:cut])
            client.send(whole[cut:])
            assert [client.read_response().body for _ in expected] == expected


def test_leading_empty_line_is_skipped(rig: Rig, venue: Upstream) -> None:
    """As some old clients send one after a body (RFC 9112, section 2.2)."""
    with rig.client() as client:
        client.send(b"\r\n" + request_bytes("GET", "/venue/1"))
        assert client.read_response().status == 200
        client.send(b"\r\n" + request_bytes("GET", "/venue/2"))
        assert client.read_response().status == 200
    assert [request.target for request in venue.requests] == ["/1", "/2"]


def test_head_in_pieces(rig: Rig, venue: Upstream) -> None:
    whole = request_bytes("GET", "/venue/x?y", [("X-A", "b")])
    with rig.client() as client:
        for at in range(len(whole)):
            client.send(whole[at : at + 1])
        assert client.read_response().status == 200
    assert (venue.last.target, venue.last.get("x-a")) == ("/x?y", "b")


# How connections end.


def test_app_asks_to_close(rig: Rig, venue: Upstream) -> None:
    """That is between it and us: the upstream's connection stays."""
    for connection in ("close", "Close", "x-a, close"):
        with rig.client() as client:
            response = client.ask("GET", "/venue/", [("Connection", connection)])
            assert (response.status, response.get("connection")) == (200, "close")
            client.assert_closed()
    assert {request.connection for request in venue.requests} == {0}
    assert all("close" not in request.all("connection") for request in venue.requests)


def test_upstream_asks_to_close(rig: Rig, venue: Upstream) -> None:
    """The app's connection stays; the upstream's is not used again, even if the upstream leaves it open."""
    venue.play(answer(headers=[("Connection", "close")]))
    with rig.client() as client:
        for number in range(3):
            response = client.ask("GET", "/venue/")
            assert (response.status, response.get("connection")) == (200, None)
            eventually(lambda number=number: venue.connections[number].ended is not None)
    assert [request.connection for request in venue.requests] == [0, 1, 2]


def test_nothing_after_a_request_that_closes(rig: Rig, venue: Upstream) -> None:
    """What follows `Connection: close` in the pipeline is not a request."""
    with rig.client() as client:
        client.send(request_bytes("GET", "/venue/1", [("Connection", "close")]) + request_bytes("GET", "/venue/2"))
        assert client.read_response().status == 200
        client.assert_closed()
    assert [request.target for request in venue.requests] == ["/1"]


# HTTP/1.0.


def test_http_1_0_closes(rig: Rig, venue: Upstream) -> None:
    venue.play(answer(body=b"hello"))
    with rig.client() as client:
        client.send(b"GET /venue/x HTTP/1.0\r\n\r\n")
        response = client.read_response()
        assert (response.body, response.end) == (b"hello", "whole")
        client.assert_closed()
    assert (venue.last.version, venue.last.get("host")) == ("HTTP/1.1", venue.authority)


def test_http_1_0_with_keep_alive(rig: Rig, venue: Upstream) -> None:
    with rig.client() as client:
        for _ in range(3):
            response = client.ask("POST", "/venue/", [("Connection", "Keep-Alive")], b"x", version="HTTP/1.0")
            assert (response.framing, response.end) == ("length", "whole")
            assert (response.get("connection") or "").lower() == "keep-alive"
    assert venue.hits == 3


def test_http_1_0_gets_no_chunks(rig: Rig, venue: Upstream) -> None:
    """Without a length its end is the connection's, keep-alive or not."""
    venue.play(answer_chunked(b"hello ", b"world", trailers=[("X-T", "1")]))
    for headers in ([], [("Connection", "keep-alive")]):
        with rig.client() as client:
            response = client.ask("GET", "/venue/", headers, version="HTTP/1.0")
            assert (response.framing, response.body, response.end) == ("close", b"hello world", "whole")
            assert response.all("transfer-encoding") == []
            assert response.all("trailer") == []
            client.assert_closed()


def test_http_1_0_gets_no_interim_answers(rig: Rig, venue: Upstream) -> None:
    venue.play(interim(response_head(103, [("Link", "x")]), final=answer(body=b"final")))
    response = rig.ask("GET", "/venue/", version="HTTP/1.0")
    assert (response.interim, response.status, response.body) == ([], 200, b"final")


# Interim answers.


def test_expect_continue(rig: Rig, venue: Upstream) -> None:
    """The app holds its body back until the upstream's own 100 has come."""
    venue.play(interim(CONTINUE, final=echo()))
    with rig.client() as client:
        client.send(request_bytes("POST", "/venue/x", [("Expect", "100-continue"), ("Content-Length", "5")]))
        head = client.read_head()
        assert head.status == 100
        assert venue.last.get("expect") == "100-continue"
        client.send(b"hello")
        response = client.read_response()
        assert (response.status, response.interim, response.body) == (200, [], b"POST /x\nhello")
        client.assert_open("/venue/")


def test_expect_continue_chunked(rig: Rig, venue: Upstream) -> None:
    venue.play(interim(CONTINUE, final=echo()))
    with rig.client() as client:
        client.send(request_bytes("POST", "/venue/x", [("Expect", "100-continue"), ("Transfer-Encoding", "chunked")]))
        assert client.read_head().status == 100
        client.send(chunked(b"hello"))
        assert client.read_response().body == b"POST /x\nhello"


def test_expect_refused(rig: Rig, venue: Upstream) -> None:
    """The upstream's final answer comes while the app still waits, and it never has to send its body."""
    venue.play(steps.answer_early(401, b"who are you?"))
    with rig.client() as client:
        client.send(request_bytes("POST", "/venue/x", [("Expect", "100-continue"), ("Content-Length", "5")]))
        response = client.read_response()
        assert (response.status, response.body, response.interim) == (401, b"who are you?", [])


def test_app_that_expects_and_sends_at_once(rig: Rig, venue: Upstream) -> None:
    venue.play(interim(CONTINUE, final=echo()))
    with rig.client() as client:
        response = client.ask("POST", "/venue/x", [("Expect", "100-continue")], b"hello")
        assert response.body == b"POST /x\nhello"
        client.assert_open("/venue/")


def test_interim_answers_are_relayed(rig: Rig, venue: Upstream) -> None:
    hints = response_head(103, [("Link", "</a.css>; rel=preload"), ("Link", "</b.js>")])
    venue.play(interim(hints, response_head(102), hints, final=answer(body=b"final")))
    with rig.client() as client:
        response = client.ask("GET", "/venue/")
        assert [head.status for head in response.interim] == [103, 102, 103]
        assert response.interim[0].all("link") == ["</a.css>; rel=preload", "</b.js>"]
        assert (response.status, response.body) == (200, b"final")
        assert client.ask("GET", "/venue/").body == b"final"


def test_interim_answer_is_relayed_before_the_final_one(rig: Rig, venue: Upstream) -> None:
    venue.play(interim(response_head(103, [("Link", "x")]), final=held(answer())))
    with rig.client() as client:
        client.send(request_bytes("GET", "/venue/"))
        assert client.read_head().status == 103
        venue.gate.set()
        assert client.read_response().status == 200


# Answers that come before the request is complete.


def test_early_answer_and_the_rest_of_a_small_body(rig: Rig, venue: Upstream) -> None:
    """Up to 64 KiB are taken after the answer, and the connection goes on."""
    venue.play(steps.answer_early(), answer(body=b"next"))
    with rig.client() as client:
        client.send(request_bytes("POST", "/venue/1", [("Content-Length", "20000")]) + bytes(1000))
        response = client.read_response()
        assert (response.body, response.get("connection")) == (b"early", None)
        client.send(bytes(19_000) + request_bytes("GET", "/venue/2"))
        assert client.read_response().body == b"next"
    assert [request.connection for request in venue.requests] == [0, 1]


def test_early_answer_to_a_large_body(rig: Rig, venue: Upstream) -> None:
    """The answer says that the connection closes, and the app can read it although it goes on sending."""
    venue.play(steps.answer_early(413))
    with rig.client() as client:
        client.send(request_bytes("POST", "/venue/", [("Content-Length", "100000000")]) + bytes(1000))
        eventually(lambda: venue.hits == 1)
        client.send(bytes(100_000))
        response = client.read_response()
        assert (response.status, response.body, response.end) == (413, b"early", "whole")
        assert response.get("connection") == "close"
        client.assert_closed()


def test_own_early_answer_to_a_large_body(rig: Rig, venue: Upstream) -> None:
    with rig.client() as client:
        client.send(request_bytes("POST", "/nowhere/", [("Content-Length", "100000000")]) + bytes(200_000))
        response = client.read_response()
        assert_problem(response, 404, "unknown_service")
        assert response.get("connection") == "close"
        client.assert_closed()


def test_own_early_answer_to_a_small_body(rig: Rig, venue: Upstream) -> None:
    with rig.client() as client:
        whole = request_bytes("POST", "/nowhere/", body=bytes(50_000))
        client.send(whole[:-100])
        assert_problem(client.read_response(), 404, "unknown_service")
        client.send(whole[-100:])
        client.assert_open("/venue/")


def test_answer_and_request_stream_at_the_same_time(rig: Rig, venue: Upstream) -> None:
    """An upstream that answers as it reads: each piece comes back before the next is sent."""

    def step(turn: Turn) -> None:
        turn.read_head()
        turn.send(response_head(200, [("Transfer-Encoding", "chunked")]))
        for _ in range(3):
            piece = bytearray()
            turn.connection.stream.exactly(100_000, piece)
            turn.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        turn.send(b"0\r\n\r\n")

    venue.play(step)
    with rig.client() as client:
        client.send(request_bytes("POST", "/venue/", [("Content-Length", "300000")]))
        head = client.read_head()
        assert head.status == 200
        for number in range(3):
            client.send(bytes([number]) * 100_000)
            body = bytearray()
            while len(body) < 100_000:
                size = int(client.stream.until(b"\r\n"), 16)
                client.stream.exactly(size, body)
                assert client.receive(2) == b"\r\n"
            assert body == bytes([number]) * 100_000
        assert client.receive(5) == b"0\r\n\r\n"


def test_head_bytes_of_the_rig_are_what_they_seem() -> None:
    """The tests above stand on it."""
    assert head_bytes("GET / HTTP/1.1", [("A", "b")]) == b"GET / HTTP/1.1\r\nA: b\r\n\r\n"
    assert chunked(b"ab", trailers=[("A", "b")]) == b"2\r\nab\r\n0\r\nA: b\r\n\r\n"
