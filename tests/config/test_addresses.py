"""URLs, listener addresses, host names, path prefixes, service names."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.addresses import (
    parse_address,
    parse_dns_label,
    parse_dns_name,
    parse_host_name,
    parse_path_prefix,
    parse_server_url,
    parse_service_name,
    parse_service_port,
    parse_url,
    service_name_problem,
)
from sidecar.config.errors import BadValueError
from sidecar.config.schema import Address, Url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://venue-service:3002", Url("http", "venue-service", 3002)),
        ("http://venue-service:3002/", Url("http", "venue-service", 3002)),
        ("HTTP://Venue.Example.COM.", Url("http", "venue.example.com", 80)),
        ("https://venue", Url("https", "venue", 443)),
        ("http://10.0.0.7:1", Url("http", "10.0.0.7", 1)),
        ("http://[::1]:65535", Url("http", "::1", 65535)),
        ("http://[2001:DB8:0:0::7]", Url("http", "2001:db8::7", 80)),
        ("http://under_score:80", Url("http", "under_score", 80)),
        ("h2c://venue", Url("h2c", "venue", 80)),
        ("h2c://venue:50051", Url("h2c", "venue", 50051)),
        ("GRPC://[::1]", Url("grpc", "::1", 80)),
    ],
)
def test_url(text: str, url: Url) -> None:
    assert parse_url(text) == url


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("venue-service:3002", "beginning with http://, https://, h2c:// or grpc://"),
        ("", "beginning with http://, https://, h2c:// or grpc://"),
        ("ftp://venue", "must be http, https, h2c"),
        ("h2://venue", "write https:// and, beside it, protocol: h2"),
        ("grpcs://venue", "write https:// and, beside it, protocol: h2"),
        ("h2c://venue/api", "cannot have a path"),
        ("http://venue/api", "cannot have a path"),
        ("http://venue//", "cannot have a path"),
        ("http://venue?x=1", "cannot have a query"),
        ("http://venue/?", "cannot have a query"),
        ("http://venue#top", "fragment"),
        ("http://user:secret@venue", "cannot have a user name"),
        ("http://venue:0", "from 1 to 65535"),
        ("http://venue:65536", "from 1 to 65535"),
        ("http://venue:", "a port must be a number"),
        ("http://venue:http", "a port must be a number"),
        ("http://venue:+80", "a port must be a number"),
        ("http://::1:80", "in brackets"),
        ("http://[::1", "expected a URL"),
        ("http://[::1]80", "expected a URL"),
        ("http://[nope]:80", "expected a URL"),
        ("http://", "expected a URL"),
        ("http:///", "expected a URL"),
        ("http://a..b", "expected a URL"),
        ("http://-a", "expected a URL"),
        ("http://a b", "expected a URL"),
        ("http://a\n", "expected a URL"),
        ("http://m\u00fcnchen", "expected a URL"),
        ("http://\u212aelvin", "expected a URL"),
        ("http://a%41", "expected a URL"),
        ("http://999.1.1.1", "expected a URL"),
        ("http://127.1", "expected a URL"),
        ("http://" + "a" * 64, "expected a URL"),
    ],
)
def test_no_url(text: str, message: str) -> None:
    with pytest.raises(BadValueError, match=message) as raised:
        parse_url(text)
    assert "secret" not in str(raised.value)


@given(st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9](\.[a-z]{1,9}){0,3}", fullmatch=True), st.integers(1, 65535))
def test_a_url_survives_being_shown(host: str, port: int) -> None:
    for scheme in ("http", "https", "h2c", "grpc"):
        url = Url(scheme, host, port)
        assert parse_url(str(url)) == url


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:15001", Address("127.0.0.1", 15001)),
        ("[::1]:0", Address("::1", 0)),
        ("[::]:15021", Address("::", 15021)),
        ("0.0.0.0:65535", Address("0.0.0.0", 65535)),
        ("localhost:80", Address("localhost", 80)),
    ],
)
def test_address(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", "15001", ":15001", "127.0.0.1", "::1:80", "[::1]", "http://a:1", "a:65536", "*:1", "a:x"]
)
def test_no_address(text: str) -> None:
    with pytest.raises(BadValueError):
        parse_address(text)


def test_a_host_name_gets_its_normal_form() -> None:
    assert parse_host_name("Venue.Prod.svc.") == "venue.prod.svc"
    assert parse_host_name("10.0.0.7") == "10.0.0.7"
    assert parse_host_name("Backend.:03001") == "backend:3001"
    assert parse_host_name("Backend:*") == "backend:*"


@pytest.mark.parametrize("text", ["localhost", "LOCALHOST.", "venue.localhost", "127.0.0.1", "127.9.9.9", "0.0.0.0"])
def test_this_machine_names_no_service(text: str) -> None:
    with pytest.raises(BadValueError, match="are routed by path"):
        parse_host_name(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "venue:0",
        "venue:65536",
        "venue:",
        "venue:x",
        "venue:1:2",
        "*:80",
        "venue:**",
        "[::1]",
        "::1",
        "a b",
        "http://a",
        "*.example.com",
        "a/b",
        "a." * 200,
    ],
)
def test_no_host_name(text: str) -> None:
    with pytest.raises(BadValueError, match="expected a host name"):
        parse_host_name(text)


def test_a_name_to_look_up_keeps_the_dot_that_makes_it_absolute() -> None:
    assert parse_dns_name("Venue-Headless") == "venue-headless"
    assert parse_dns_name("venue.prod.svc.") == "venue.prod.svc."
    assert parse_dns_name("_http._tcp.venue") == "_http._tcp.venue"
    assert parse_dns_name("localhost") == "localhost"


@pytest.mark.parametrize(
    "text", ["", ".", "a..", "venue:53", "a b", "http://a", "*.a", "::1", "a." * 200, "\u00e9", "1"]
)
def test_no_name_to_look_up(text: str) -> None:
    with pytest.raises(BadValueError, match="expected a DNS name"):
        parse_dns_name(text)


def test_an_address_is_nothing_to_look_up() -> None:
    with pytest.raises(BadValueError, match="url or endpoints"):
        parse_dns_name("10.0.0.7")


def test_names_of_kubernetes() -> None:
    for text in ("venue", "a", "9", "venue-v1", "a" * 63):
        assert parse_dns_label(text) == text
    for text in ("", "Venue", "-a", "a-", "a.b", "a_b", "a" * 64, "a\n", "\u00e9"):
        with pytest.raises(BadValueError, match="lower-case letters"):
            parse_dns_label(text)


def test_a_services_port_is_a_number_or_a_name() -> None:
    assert [parse_service_port(text) for text in ("1", "65535", "http", "8080-tcp")] == [1, 65535, "http", "8080-tcp"]
    for text in ("", "0", "65536", "123456", "-1", "8.0", "HTTP", "a b"):
        with pytest.raises(BadValueError, match="number from 1 to 65535, or the name"):
            parse_service_port(text)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://10.0.0.1:6443", "https://10.0.0.1:6443"),
        ("https://Api.Example/", "https://api.example"),
        ("http://[::1]:8001", "http://[::1]:8001"),
        ("https://a:443/k8s/clusters/c-1/", "https://a/k8s/clusters/c-1"),
    ],
)
def test_an_api_servers_url_may_have_a_path(text: str, url: str) -> None:
    assert parse_server_url(text) == url
    assert parse_server_url(url) == url


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "beginning with http:// or https://"),
        ("10.0.0.1:6443", "beginning with http:// or https://"),
        ("ftp://a", "beginning with http:"),
        ("https://user:secret@a", "cannot have a user name"),
        ("https://a/b?c", "cannot have a query"),
        ("https://a?c", "cannot have a query"),
        ("https://a/#c", "fragment"),
        ("https://a/b c", "percent-encode"),
        ("https:///a", "expected a URL"),
        ("https://a:0", "from 1 to 65535"),
    ],
)
def test_no_api_servers_url(text: str, message: str) -> None:
    with pytest.raises(BadValueError, match=message) as raised:
        parse_server_url(text)
    assert "secret" not in str(raised.value)


def test_path_prefix() -> None:
    for text in ("/", "/reports", "/a//b", "/a%2Fb", "/:verb", "/~x"):
        assert parse_path_prefix(text) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must begin with /"),
        ("reports", "must begin with /"),
        ("/a?x", "query"),
        ("/a#x", "fragment"),
        ("/a/", "trailing /"),
        *[("/a b", "percent-encode"), ("/\u00e9", "percent-encode"), ("/a\n", "percent-encode")],
    ],
)
def test_no_path_prefix(text: str, message: str) -> None:
    with pytest.raises(BadValueError, match=message):
        parse_path_prefix(text)


@pytest.mark.parametrize("name", ["venue", "Venue", "v1.2_x-y", "9", "a" * 63])
def test_service_name(name: str) -> None:
    assert service_name_problem(name) is None


@pytest.mark.parametrize("name", ["", "-a", ".a", "a/b", "a b", "a" * 64, "\u00e9", "a\n", "a:1"])
def test_no_service_name(name: str) -> None:
    assert "begins with a letter or digit" in (service_name_problem(name) or "")


def test_names_with_an_underscore_in_front_are_the_sidecars_own() -> None:
    assert "reserved for the sidecar" in (service_name_problem("_aggregate") or "")


@pytest.mark.parametrize(
    "parse",
    [
        *(parse_url, parse_address, parse_host_name, parse_path_prefix),
        *(parse_dns_name, parse_dns_label, parse_service_port, parse_server_url),
    ],
)
@given(text=st.text() | st.text(alphabet=":/[]@.?#-_%a1\0\n "))
def test_any_text_is_a_value_or_a_bad_value(parse: Callable[[str], object], text: str) -> None:
    for candidate in (text, f"http://{text}", f"/{text}"):
        with suppress(BadValueError):
            parse(candidate)


def test_a_service_is_meant_by_a_name_that_one_can_have() -> None:
    assert parse_service_name("venue-v1.x_Y") == "venue-v1.x_Y"
    for text in ("", "_ours", "a b", "a/b", "é"):
        with pytest.raises(BadValueError, match="expected the name of a service: "):
            parse_service_name(text)
