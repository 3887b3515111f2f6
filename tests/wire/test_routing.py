"""Where a request goes and with which target: the three ways in, byte for byte."""

from __future__ import annotations

import pytest

from tests.support.problem import assert_problem
from tests.support.rig import Rig
from tests.support.steps import answer
from tests.support.upstream import Upstream


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


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
def test_connect_to_a_service(rig: Rig, venue: Upstream, version: str) -> None:
    """What follows are requests to it, whatever their Host; gRPC's C core sends HTTP/1.0."""
    with rig.client() as client:
        client.send(f"CONNECT venue-service:{venue.port} {version}\r\nHost: slow\r\n\r\n".encode())
        head = client.read_head()
        assert (head.status, head.headers) == (200, [])
        for host in (f"venue-service:{venue.port}", "slow"):
            assert client.ask("GET", "/slow/x", host=host).status == 200
            assert venue.last.target == "/slow/x"


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
