"""The routing table: the three ways to name a service, and what must not become a fourth."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.config.schema import Address, EndpointSpec, Listen, Service, Url
from sidecar.policy.grpc import UNIMPLEMENTED
from sidecar.policy.settings import Policy
from sidecar.runtime.routing import SEEN_LENGTH_MAX, SEEN_MAX, NotRouted, RoutingTable
from sidecar.runtime.service import LiveService

OWN = b"localhost:15001"

Found = tuple[str, bytes, str]
"""Service, target upstream, by path."""


def service(name: str, *urls: str, hosts: Sequence[str] = ()) -> Service:
    """Each URL as `host:port`, IPv6 in brackets."""
    specs = []
    for url in urls:
        host, _, port = url.rpartition(":")
        specs.append(EndpointSpec(url=Url("http", host.strip("[]"), int(port))))
    return Service(name=name, endpoints=tuple(specs), hosts=tuple(hosts), policy=Policy())


def table(*services: Service, listen: Sequence[Address] = Listen().proxy) -> RoutingTable:
    return RoutingTable([LiveService(one, 1000.0, lambda: 0.0) for one in services], listen)


VENUE = service("venue", "venue-service:3002", hosts=["venue.prod"])
AUTH = service("auth", "auth-service:3001")
SIX = service("six", "[fd00::7]:3006")
TABLE = table(VENUE, AUTH, SIX)


def route(target: bytes, host: bytes | None = None, method: str = "GET", among: RoutingTable = TABLE) -> Found | int:
    """What was found; the status where nothing was."""
    try:
        found, upstream_target, by = among.find(method, target, host)
    except NotRouted as error:
        stray = error
    else:
        return found.name, upstream_target, by
    assert stray.reason == {404: "unknown_service", 400: "bad_request"}[stray.status]
    assert stray.detail
    return stray.status


# By path.


@pytest.mark.parametrize(
    ("target", "upstream"),
    [
        (b"/venue/events/42", b"/events/42"),
        (b"/venue", b"/"),
        (b"/venue/", b"/"),
        (b"/venue?x", b"/?x"),
        (b"/venue?x=/a/b", b"/?x=/a/b"),
        (b"/venue?", b"/?"),
        (b"/venue/?x", b"/?x"),
        (b"/venue//x", b"//x"),
        (b"/venue///", b"///"),
        (b"/venue/a%2Fb%2f..%00", b"/a%2Fb%2f..%00"),
        (b"/venue/../auth/x", b"/../auth/x"),
        (b"/venue/./x/../../y", b"/./x/../../y"),
        (b"/venue/x?y?z", b"/x?y?z"),
        (b"/venue/auth/x", b"/auth/x"),
        (b"/venue/http://auth-service:3001/x", b"/http://auth-service:3001/x"),
        (b"/venue/\xff\x00 \r\n;@:", b"/\xff\x00 \r\n;@:"),
        (b"/venue/" + b"a" * 100_000, b"/" + b"a" * 100_000),
    ],
)
def test_the_first_segment_is_the_service_and_the_rest_goes_on_byte_for_byte(target: bytes, upstream: bytes) -> None:
    assert route(target) == ("venue", upstream, "path")
    assert route(target, OWN) == ("venue", upstream, "path")


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"//",
        b"//venue/x",
        b"/?venue",
        b"/?/venue/x",
        b"/unknown/venue",
        b"/VENUE/x",
        b"/venue%2Fx",
        b"/%76enue/x",
        b"/venue;a/x",
        b"/venue:3002/x",
        b"/venue./x",
        b"/venue-service/x",
        b"/venue.prod/x",
        b"/./venue/x",
        b"/../venue/x",
        b"/x/../venue",
        b"/ venue/x",
        b"/venue\x00/x",
        b"/venue\\x",
        b"/venue#x",
        b"/_aggregate/x",
        b"/ven",
        b"/\xff/x",
        b"/" + b"venue" * 10_000,
        b"/" * 100_000,
    ],
)
def test_a_segment_that_is_not_exactly_a_name_finds_nothing(target: bytes) -> None:
    assert route(target) == 404


def test_an_empty_segment_and_an_unknown_name_give_different_details() -> None:
    with pytest.raises(NotRouted, match="the path names no service"):
        TABLE.find("GET", b"/", None)
    with pytest.raises(NotRouted, match="no service of that name"):
        TABLE.find("GET", b"/secret-segment/x", None)


@pytest.mark.parametrize(
    ("target", "reserved"),
    [
        (b"/_x", b"/_x"),
        (b"/_x/y?z", b"/_x/y?z"),
        (b"/_x?y/z", b"/_x?y/z"),
        (b"http://localhost:15001/_x/y?z", b"/_x/y?z"),
        (b"http://elsewhere/_x/y", b""),
        (b"/x/_y", b""),
        (b"/", b""),
        (b"//_x", b""),
    ],
)
def test_reserved_paths_and_unknown_names_are_distinguished(target: bytes, reserved: bytes) -> None:
    with pytest.raises(NotRouted) as stray:
        TABLE.find("GET", target, b"localhost")
    assert (stray.value.status, stray.value.reserved) == (404, reserved)


def test_details_quote_nothing_of_the_request_but_its_authority() -> None:
    for target in (
        b"/secret/x",
        b"http://x/secret",
        b"http://x?secret",
        b"http://secret@venue/x",
        b"http://%secret/x",
        b"secret",
        b"ftp://secret/x",
    ):
        with pytest.raises(NotRouted) as stray:
            TABLE.find("GET", target, None)
        assert "secret" not in stray.value.detail


# By Host.


@pytest.mark.parametrize(
    "host",
    [
        b"venue",
        b"venue:3002",
        b"venue-service",
        b"venue-service:3002",
        b"venue.prod",
        b"venue.prod:3002",
        b"VENUE-Service:3002",
        b"venue-service.",
        b"venue-service.:3002",
        b"venue-service:",
    ],
)
def test_a_known_host_is_the_service_and_the_path_is_kept(host: bytes) -> None:
    for target in (b"/events/42", b"/", b"/auth/x", b"/venue/x", b"//", b"/?a=/b", b"/%2F\xff"):
        assert route(target, host) == ("venue", target, "host")


@pytest.mark.parametrize(
    "host",
    [
        None,
        b"",
        b"localhost",
        b"localhost:3002",
        OWN,
        b"LOCALHOST.:15001",
        b"venue.localhost",
        b"127.0.0.1",
        b"127.0.0.1:15001",
        b"127.8.8.8:3002",
        b"[::1]:15001",
        b"[::1]",
        b"unknown",
        b"unknown:3002",
        b"venue-service:3001",
        b"venue-service:03002",
        b"venue-service:0",
        b"venue-service:30020",
        b"venue-service:+3002",
        b"venue-service:3002:3002",
        b"venue-service..",
        b".venue-service",
        b"venue-service, auth-service",
        b"user@venue-service:3002",
        b"[venue-service]:3002",
        b"venue%2Dservice",
        b" venue-service",
        b".",
        b":3002",
        b"[fd00::7].:3006",
        b"[fd00::8]:3006",
        b"fd00::7:3006",
        b"\xff\xfe",
        b"venue-service\x00",
        b"a" * 100_000,
        b"." * 100_000,
        b"1:" + b"1" * 100_000,
    ],
)
def test_any_other_host_means_route_by_path(host: bytes | None) -> None:
    assert route(b"/auth/x", host) == ("auth", b"/x", "path")
    assert route(b"/nobody/x", host) == 404


@pytest.mark.parametrize("host", [b"[fd00::7]", b"[fd00::7]:3006", b"[FD00::7]:3006", b"[fd00::7]:"])
def test_an_ipv6_service_is_found_by_its_bracketed_address(host: bytes) -> None:
    assert route(b"/x", host) == ("six", b"/x", "host")
    assert route(b"http://" + host + b"/x") == ("six", b"/x", "absolute")


def test_a_host_is_found_again_after_many_others_and_after_very_long_ones() -> None:
    made = table(VENUE, AUTH)
    for number in range(2 * SEEN_MAX + 1):
        assert route(b"/auth/x", b"h%d" % number, among=made) == ("auth", b"/x", "path")
        assert route(b"/x", b"Venue", among=made) == ("venue", b"/x", "host")
    for length in range(SEEN_LENGTH_MAX - 1, SEEN_LENGTH_MAX + 2):
        for _ in range(2):
            assert route(b"/auth/x", b"h" * length, among=made) == ("auth", b"/x", "path")
    assert len(made._seen) <= SEEN_MAX
    assert max(map(len, made._seen)) <= SEEN_LENGTH_MAX


# Absolute-form.


@pytest.mark.parametrize(
    ("target", "upstream"),
    [
        (b"http://venue-service:3002/events/42", b"/events/42"),
        (b"http://venue-service/events", b"/events"),
        (b"http://venue/events", b"/events"),
        (b"http://venue.prod:3002/events", b"/events"),
        (b"HTTP://VENUE-SERVICE.:3002/Events", b"/Events"),
        (b"http://venue-service:3002", b"/"),
        (b"http://venue-service:3002/", b"/"),
        (b"http://venue-service:3002?x=/y", b"/?x=/y"),
        (b"http://venue-service:3002//x", b"//x"),
        (b"http://venue-service:3002/auth/x", b"/auth/x"),
        (b"http://venue-service:3002/%2F/../x?http://auth/", b"/%2F/../x?http://auth/"),
        (b"http://venue-service:3002/x@y", b"/x@y"),
        (b"http://venue-service:3002?x@y", b"/?x@y"),
        (b"http://venue-service:3002/\xff\n", b"/\xff\n"),
    ],
)
@pytest.mark.parametrize("host", [None, b"auth-service:3001", OWN, b"unknown"])
def test_the_authority_of_an_absolute_target_overrides_host(target: bytes, upstream: bytes, host: bytes | None) -> None:
    assert route(target, host) == ("venue", upstream, "absolute")


@pytest.mark.parametrize(
    "target",
    [
        b"http://unknown/venue/x",
        b"http://venue-service:3001/x",
        b"http://venue-service:03002/x",
        b"http://venue-service:80/x",
        b"http://venue-service:3002:3002/x",
        b"http://venue-service:port/x",
        b"http://venue-service../x",
        b"http://[venue-service]:3002/x",
        b"http://[fd00::7].:3006/x",
        b"http://venue-service\\.example/x",
        b"http://venue-service#/x",
        b"http://example.com/venue/x",
        b"http://localhost/venue/x",
        b"http://localhost:15000/venue/x",
        b"http://localhost:015001/venue/x",
        b"http://[localhost]:15001/venue/x",
        b"http://]127.0.0.1[:15001/venue/x",
        b"http://127.0.0.1.example:15001/venue/x",
        b"http://" + b"a" * 100_000,
        b"http://" + b"." * 100_000 + b"/x",
        b"http://venue:" + b"1" * 100_000 + b"/x",
    ],
)
def test_an_unknown_authority_is_not_found_whatever_path_and_host_say(target: bytes) -> None:
    for host in (None, b"venue-service:3002", OWN):
        assert route(target, host) == 404


@pytest.mark.parametrize(
    "authority",
    [OWN, b"LocalHost.:15001", b"127.0.0.1:15001", b"127.1.2.3:15001", b"[::1]:15001", b"[0:0:0:0:0:0:0:1]:15001"],
)
def test_the_listener_s_own_address_in_an_absolute_target_routes_by_path(authority: bytes) -> None:
    assert route(b"http://" + authority + b"/venue/x") == ("venue", b"/x", "path")
    assert route(b"http://" + authority + b"/venue/x", b"auth-service:3001") == ("venue", b"/x", "path")
    assert route(b"http://" + authority + b"/venue?x") == ("venue", b"/?x", "path")
    assert route(b"http://" + authority + b"/nobody/x") == 404
    assert route(b"http://" + authority) == 404
    assert route(b"http://" + authority, method="OPTIONS") == 404


@pytest.mark.parametrize(
    "target",
    [
        b"http://user@venue-service:3002/x",
        b"http://user:password@venue-service:3002/x",
        b"http://@venue-service:3002/x",
        b"http://venue-service:3002@example.com/x",
        b"http://venue-service:3002@localhost:15001/x",
        b"http://localhost:15001@venue-service/x",
        b"http:///venue/x",
        b"http://:3002/x",
        b"http://?venue",
        b"https://venue-service:3002/x",
        b"ws://venue-service:3002/x",
        b"venue-service:3002",
        b"venue-service:3002/x",
        b"http:/venue/x",
        b"http:venue",
        b"://venue/x",
        b"1http://venue/x",
        b"venue/x",
        b"?x",
        b"\\venue\\x",
        b"**",
        b"*/x",
        b"\x00",
        b" /venue/x",
    ],
)
def test_a_target_of_another_form_is_refused(target: bytes) -> None:
    for host in (None, b"venue-service:3002", OWN):
        assert route(target, host) == 400
        assert route(target, host, "OPTIONS") == 400


# OPTIONS for a whole server.


def test_options_for_a_whole_server_goes_on_as_an_asterisk() -> None:
    assert route(b"http://venue", method="OPTIONS") == ("venue", b"*", "absolute")
    assert route(b"http://venue-service:3002", method="OPTIONS") == ("venue", b"*", "absolute")
    assert route(b"http://venue/", method="OPTIONS") == ("venue", b"/", "absolute")
    assert route(b"http://venue?x", method="OPTIONS") == ("venue", b"/?x", "absolute")
    assert route(b"*", b"venue-service:3002", "OPTIONS") == ("venue", b"*", "host")


def test_an_asterisk_needs_a_host_that_names_a_service() -> None:
    for host in (None, b"", OWN, b"unknown"):
        assert route(b"*", host, "OPTIONS") == 404


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "options"])
def test_an_asterisk_is_for_options_only(method: str) -> None:
    assert route(b"*", b"venue-service:3002", method) == 400
    assert route(b"http://venue", method=method) == ("venue", b"/", "absolute")


# What names and addresses may share.


def test_an_address_of_two_services_names_neither() -> None:
    made = table(service("one", "gateway:80"), service("two", "gateway:80"))
    assert route(b"/x", b"gateway:80", among=made) == 404
    assert route(b"http://gateway/x", among=made) == 404
    assert route(b"/one/x", b"gateway:80", among=made) == ("one", b"/x", "path")
    assert route(b"http://two/x", among=made) == ("two", b"/x", "absolute")


def test_two_services_at_one_host_are_told_apart_by_port() -> None:
    made = table(service("one", "gateway:1001"), service("two", "gateway:1002"))
    assert route(b"/x", b"gateway:1001", among=made) == ("one", b"/x", "host")
    assert route(b"http://gateway:1002/x", among=made) == ("two", b"/x", "absolute")
    assert route(b"http://gateway/x", among=made) == 404


@pytest.mark.parametrize("turned", [False, True])
def test_hosts_decide_who_owns_a_shared_address(turned: bool) -> None:
    services = [service("one", "gateway:1001", hosts=["gateway"]), service("two", "gateway:1001")]
    made = table(*(reversed(services) if turned else services))
    for target in (b"http://gateway/x", b"http://gateway:1001/x"):
        assert route(target, among=made) == ("one", b"/x", "absolute")


@pytest.mark.parametrize("turned", [False, True])
def test_the_name_of_a_service_wins_over_the_host_of_another_url(turned: bool) -> None:
    services = [service("venue", "venue-service:3002"), service("booking", "venue:3002", "other:9000")]
    made = table(*(reversed(services) if turned else services))
    for host in (b"venue", b"venue:3002", b"venue-service:3002"):
        assert route(b"/x", host, among=made) == ("venue", b"/x", "host")
    assert route(b"/x", b"other:9000", among=made) == ("booking", b"/x", "host")


def test_every_endpoint_s_address_names_the_service() -> None:
    made = table(service("venue", "10.0.0.7:3002", "10.0.0.8:3003", "[fd00::7]:3002"))
    for host in (b"10.0.0.7:3002", b"10.0.0.8:3003", b"[fd00::7]:3002", b"10.0.0.8", b"venue:3003"):
        assert route(b"/x", host, among=made) == ("venue", b"/x", "host")
    assert route(b"http://10.0.0.8:3002/x", among=made) == 404


def test_a_name_in_capitals_is_found_by_host_in_any_case_and_by_path_as_it_is_written() -> None:
    made = table(service("Venue", "venue-service:3002"))
    assert route(b"/x", b"VENUE", among=made) == ("Venue", b"/x", "host")
    assert route(b"/Venue/x", among=made) == ("Venue", b"/x", "path")
    assert route(b"/venue/x", among=made) == 404


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]"])
def test_a_service_on_this_machine_is_found_by_path_and_name_only(host: str) -> None:
    made = table(service("near", f"{host}:3002"), AUTH)
    for authority in (host.encode(), f"{host}:3002".encode()):
        assert route(b"/auth/x", authority, among=made) == ("auth", b"/x", "path")
        assert route(b"http://" + authority + b"/near/x", among=made) == 404
    assert route(b"/near/x", among=made) == ("near", b"/x", "path")
    assert route(b"/x", b"near:3002", among=made) == ("near", b"/x", "host")


def test_a_service_that_is_called_localhost_is_found_by_path_only() -> None:
    made = table(service("localhost", "venue-service:15001"), service("127.0.0.1", "auth-service:3001"), AUTH)
    for host in (b"localhost", OWN, b"127.0.0.1", b"127.0.0.1:3001"):
        assert route(b"/auth/x", host, among=made) == ("auth", b"/x", "path")
    assert route(b"/localhost/x", OWN, among=made) == ("localhost", b"/x", "path")


# The listener's own address.


def test_a_listener_on_a_network_address_recognises_itself() -> None:
    listen = [Address("10.0.0.5", 15001), Address("fd00::5", 15001)]
    made = table(VENUE, service("self", "10.0.0.5:15001"), service("six", "[fd00::5]:15001"), listen=listen)
    for authority in (b"10.0.0.5:15001", b"[fd00::5]:15001", OWN):
        assert route(b"/venue/x", authority, among=made) == ("venue", b"/x", "path")
        assert route(b"http://" + authority + b"/venue/x", among=made) == ("venue", b"/x", "path")
    assert route(b"http://10.0.0.6:15001/venue/x", among=made) == 404
    assert route(b"http://10.0.0.5:15000/venue/x", among=made) == 404


def test_no_service_takes_requests_away_from_the_listener_on_port_80() -> None:
    made = table(VENUE, service("self", "10.0.0.5:80"), listen=[Address("10.0.0.5", 80)])
    for authority in (b"10.0.0.5", b"10.0.0.5:80", b"localhost", b"127.0.0.1:80"):
        assert route(b"/venue/x", authority, among=made) == ("venue", b"/x", "path")
        assert route(b"http://" + authority + b"/venue/x", among=made) == ("venue", b"/x", "path")


def test_the_ports_that_the_system_chose_are_its_own() -> None:
    made = table(VENUE, service("self", "10.0.0.5:40001"), listen=[Address("10.0.0.5", 0)])
    assert route(b"/venue/x", b"10.0.0.5:40001", among=made) == ("self", b"/venue/x", "host")
    assert route(b"http://localhost:40001/venue/x", among=made) == 404
    made.listens_on([40001])
    for authority in (b"10.0.0.5:40001", b"localhost:40001"):
        assert route(b"/venue/x", authority, among=made) == ("venue", b"/x", "path")
        assert route(b"http://" + authority + b"/venue/x", among=made) == ("venue", b"/x", "path")
    assert route(b"http://localhost:0/venue/x", among=made) == 404


# Whatever comes.

# What means something somewhere, beside arbitrary bytes.
parts = st.sampled_from(
    b"/ // ? %2F . .. * @ : [ ] # \\ \x00 \xff \x0b http:// HTTP:// https:// venue VENUE venue-service venue.prod auth"
    b" [fd00::7] localhost 127.0.0.1 [::1] :3002 :03002 :15001 :3006 unknown x".split(b" ")
)
odd_bytes = st.one_of(st.binary(max_size=40), st.lists(parts, max_size=8).map(b"".join))


@given(odd_bytes.filter(bool), st.none() | odd_bytes, st.sampled_from(["GET", "OPTIONS", "POST"]))
@example(b"/venue?a/b", None, "GET")
@example(b"http://venue", None, "OPTIONS")
def test_any_input_is_routed_with_its_bytes_or_refused(target: bytes, host: bytes | None, method: str) -> None:
    answer = route(target, host, method)
    if isinstance(answer, int):
        assert answer in (400, 404)
        return
    name, upstream, by = answer
    if upstream == b"*":
        assert method == "OPTIONS"
        assert target == b"*" or target.lower().startswith(b"http://")
        return
    assert upstream.startswith(b"/")
    if target.startswith(b"/"):
        path = target
    else:  # the path and query of an absolute URL begin at the first `/` or `?` after its authority
        _, _, after_scheme = target.partition(b"://")
        cut = min((at for at in map(after_scheme.find, (b"/", b"?")) if at >= 0), default=len(after_scheme))
        path = after_scheme[cut:]
        assert b"@" not in after_scheme[:cut]
    if by == "path":
        segment = b"/" + name.encode()
        assert path.startswith(segment)
        path = path[len(segment) :]
    assert upstream == path or (not path.startswith(b"/") and upstream == b"/" + path)


@given(odd_bytes, odd_bytes)
def test_an_unknown_host_never_changes_routing_by_path(path: bytes, host: bytes) -> None:
    by_host = route(b"/nobody", host)
    expected = route(b"/" + path)
    assert route(b"/" + path, host) == (expected if by_host == 404 else (by_host[0], b"/" + path, "host"))  # type: ignore[index]


# `hosts` with ports.


BACKENDS = table(
    service("one", "10.0.0.1:8001", hosts=["backend:3001", "both"]),
    service("two", "10.0.0.2:8002", hosts=["backend:3002", "both:9000", "wild:*"]),
    service("three", "wild:8003", hosts=["wild:7000"]),
)


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        (b"backend:3001", "one"),
        (b"BACKEND.:3002", "two"),
        (b"backend:3003", None),
        (b"backend", None),
        (b"backend:8001", None),  # an entry with a port is for this port alone
        (b"both", "one"),
        (b"both:8001", "one"),
        (b"both:9000", "two"),
        (b"both:9001", None),
        (b"wild", "three"),  # what a URL says is more exact than every port
        (b"wild:8003", "three"),
        (b"wild:7000", "three"),
        (b"wild:1", "two"),
        (b"wild:65535", "two"),
    ],
)
def test_an_authority_with_a_port_finds_who_claims_it(authority: bytes, name: str | None) -> None:
    for found, by in (
        (route(b"http://" + authority + b"/x", among=BACKENDS), "absolute"),
        (route(b"/x", host=authority, among=BACKENDS), "host"),
    ):
        assert found == (404 if name is None else (name, b"/x", by))


@pytest.mark.parametrize(
    ("target", "host", "words"),
    [
        (
            b"http://venue-service:8080/x",
            None,
            "venue-service:8080: venue has that name with another port; add venue-service:8080 to services.venue.hosts",
        ),
        (b"http://venu-service:3002/x", None, "venue-service is near, it is venue; else add venu-service:3002 to"),
        (
            b"http://nobody.example/x",
            None,
            "the authority nobody.example: add nobody.example to the hosts",
        ),
        (
            b"/events/42",
            b"venue-service:8080",
            "is configured, and no service has the authority venue-service:8080",
        ),
    ],
)
def test_an_unknown_authority_is_named_with_its_remedy(target: bytes, host: bytes | None, words: str) -> None:
    with pytest.raises(NotRouted) as stray:
        TABLE.find("GET", target, host)
    assert words in stray.value.detail


def test_a_host_of_this_machine_is_not_spoken_of() -> None:
    with pytest.raises(NotRouted) as stray:
        TABLE.find("GET", b"/nobody", b"localhost:15001")
    assert stray.value.detail == "no service of that name is configured"


@pytest.mark.parametrize("authority", [b"venue:3002", b"VENUE-service.:3002", b"[fd00::7]:3006", b"venue.prod:3002"])
def test_an_app_is_connected_to_what_a_host_may_name(authority: bytes) -> None:
    assert TABLE.not_connected(authority) == ""


@pytest.mark.parametrize(
    ("authority", "words"),
    [
        (b"venue:443", "no service has that authority"),
        (b"example.org:443", "no service has that authority"),
        (OWN, "the sidecar itself"),
        (b"127.0.0.1:15001", "the sidecar itself"),
        (b"localhost:80", "no service has that authority"),
    ],
)
def test_an_app_is_connected_to_nothing_else(authority: bytes, words: str) -> None:
    assert words in TABLE.not_connected(authority)


# Over HTTP/2.


def grpc_service(name: str, *claims: str, hosts: Sequence[str] = (), h2: bool = True) -> Service:
    url = Url("h2c" if h2 else "http", f"{name}-service", 50051)
    return Service(
        name=name,
        endpoints=(EndpointSpec(url=url),),
        protocol="h2" if h2 else "http1",
        hosts=tuple(hosts),
        grpc=claims,
        policy=Policy(),
    )


SHOP = grpc_service("shop", "shop.v1.Venue", "shop.v1.*", hosts=["shop.prod"])
MENU = grpc_service("menu", "shop.v1.Menu", "shop.*", "menu.Menu")
GRPC_TABLE = table(SHOP, MENU, VENUE)
GET = b"/shop.v1.Venue/Get"


def route_h2(
    target: bytes, host: bytes = OWN, asked: bytes | None = None, grpc: bool = True, method: str = "POST"
) -> Found | tuple[int, str, int]:
    """What was found; status, reason and the status of gRPC where nothing was."""
    try:
        found, upstream_target, by = GRPC_TABLE.find_h2(method, target, host, asked, grpc)
    except NotRouted as error:
        return error.status, error.reason, error.grpc_status
    return found.name, upstream_target, by


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (b"/shop.v1.Venue/Get", "shop"),
        (b"/shop.v1.Venue", "shop"),
        (b"/shop.v1.Venue/", "shop"),
        (b"/shop.v1.Other/Get", "shop"),
        (b"/shop.v1.deep.Other/Get", "shop"),
        (b"/shop.v1.Menu/Get", "menu"),  # a service's whole name wins over the package of another
        (b"/shop.v2.Venue/Get", "menu"),  # the longer package would win, and does not fit
        (b"/shop.Venue/Get", "menu"),
        (b"/menu.Menu/Get", "menu"),
    ],
)
def test_the_longest_claim_takes_a_call_of_grpc(target: bytes, name: str) -> None:
    assert route_h2(target) == (name, target, "claim")


@pytest.mark.parametrize(
    "target",
    [
        b"/shop/Get",
        b"/shopx.v1.Venue/Get",
        b"/shop./Get"[:5],
        b"/menu.Menus/Get",
        b"/Shop.V1.Venue/Get",
        b"/venue/shop.v1.Venue/Get",
        b"//shop.v1.Venue/Get",
        b"/",
        b"/grpc.health.v1.Health/Check",
        b"/_aggregate/page",
    ],
)
def test_what_nobody_claims_is_not_routed(target: bytes) -> None:
    assert route_h2(target) == (404, "unknown_service", -1)


@pytest.mark.parametrize(
    ("host", "name", "by"),
    [
        (b"shop", "shop", "host"),
        (b"shop-service:50051", "shop", "host"),
        (b"SHOP.prod:50051", "shop", "host"),
        (b"menu", "menu", "host"),
        (OWN, "shop", "claim"),
        (b"elsewhere:50051", "shop", "claim"),
    ],
)
def test_an_authority_that_names_a_service_comes_before_claims(host: bytes, name: str, by: str) -> None:
    assert route_h2(GET, host) == (name, GET, by)


@pytest.mark.parametrize("asked", [b"menu", b"menu-service", b"menu-service:50051", b"MENU"])
def test_metadata_that_names_a_service_comes_before_claims(asked: bytes) -> None:
    assert route_h2(GET, asked=asked) == ("menu", GET, "metadata")


def test_metadata_and_authority_may_name_the_same_service_and_not_two() -> None:
    assert route_h2(GET, b"shop", b"shop") == ("shop", GET, "metadata")
    assert route_h2(GET, b"shop", b"menu") == (400, "bad_request", -1)
    assert route_h2(GET, b"venue", b"shop", grpc=False) == (400, "bad_request", -1)


@pytest.mark.parametrize("asked", [b"", b"nobody", b"localhost:15001", b"shop/x", b"\xff", b"x" * 10_000])
def test_metadata_that_names_nobody_is_not_overlooked(asked: bytes) -> None:
    """The call would otherwise reach the service that claims it, and the app asked for another."""
    assert route_h2(GET, asked=asked) == (404, "unknown_service", -1)
    assert route_h2(GET, b"shop", asked) == (404, "unknown_service", -1)


def test_what_is_not_grpc_is_routed_by_its_path_where_nothing_else_names_a_service() -> None:
    assert route_h2(b"/venue/x?y", grpc=False, method="GET") == ("venue", b"/x?y", "path")
    assert route_h2(b"/venue/x", b"shop", grpc=False, method="GET") == ("shop", b"/venue/x", "host")
    assert route_h2(b"/x", asked=b"venue", grpc=False) == ("venue", b"/x", "metadata")
    assert route_h2(GET, grpc=False) == (404, "unknown_service", -1)  # claims are of gRPC
    assert route_h2(b"*", b"venue", grpc=False, method="OPTIONS") == ("venue", b"*", "host")
    assert route_h2(b"*", b"venue", grpc=False) == (400, "bad_request", -1)
    assert route_h2(b"http://venue/x", grpc=False) == ("venue", b"/x", "absolute")


@pytest.mark.parametrize(("host", "asked"), [(b"venue", None), (OWN, b"venue")])
def test_grpc_to_a_service_of_http_1_is_unimplemented(host: bytes, asked: bytes | None) -> None:
    assert route_h2(GET, host, asked) == (501, "bad_request", UNIMPLEMENTED)
    assert route_h2(GET, host, asked, grpc=False)[0] == "venue"


@pytest.mark.parametrize(
    ("target", "host", "asked", "words"),
    [
        (b"/a.B/Get", OWN, None, "no service claims a.B: add it to services.NAME.grpc, or send the metadata"),
        (b"/a.B/Get", b"elsewhere:1", None, "x-sidecar-service; no service has the authority elsewhere:1"),
        (b"/venue/Get", OWN, None, "not routed by its path: send the metadata x-sidecar-service: venue"),
        (b"/\xffx/Get", OWN, None, "the path names no service of gRPC, /package.Service/Method"),
        (GET, OWN, b"shopp", "no service is named shopp, as the metadata asks for; did you mean shop?"),
        (GET, OWN, b"\x00", "no service has the name in x-sidecar-service or dapr-app-id"),
        (GET, b"shop", b"menu", "the :authority names shop, and the metadata names menu: send one of the two"),
        (GET, b"venue", None, "venue is called by HTTP/1.1, and gRPC needs HTTP/2: write h2c:// or grpc:// in the url"),
    ],
)
def test_who_calls_in_vain_is_told_what_to_do(target: bytes, host: bytes, asked: bytes | None, words: str) -> None:
    with pytest.raises(NotRouted) as stray:
        GRPC_TABLE.find_h2("POST", target, host, asked, True)
    assert words in stray.value.detail


def test_a_path_of_many_dots_costs_no_more_look_ups_than_there_are_claims() -> None:
    target = b"/" + b"a." * 16_000 + b"/Get"
    began = perf_counter()
    for _ in range(1000):
        assert route_h2(target) == (404, "unknown_service", -1)
    assert perf_counter() - began < 5.0  # cut into packages it would take minutes


@given(st.binary(min_size=1, max_size=40), st.one_of(st.none(), st.binary(max_size=20)), st.booleans())
def test_any_request_over_http_2_is_routed_or_refused(path: bytes, asked: bytes | None, grpc: bool) -> None:
    found = route_h2(b"/" + path, OWN, asked, grpc)
    assert found[0] in ("shop", "menu", "venue", 404, 400, 501)
