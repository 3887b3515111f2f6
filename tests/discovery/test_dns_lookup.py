"""DNS lookups against a real name server, and how answers become a set of endpoints."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.schema import Url
from sidecar.discovery.discovered_endpoint import DiscoveredEndpoint
from sidecar.discovery.dns_lookup import (
    MOST_SERVICES,
    STRAGGLER_S,
    Answer,
    Lookup,
    LookupFailed,
    NameServers,
    NoRecords,
    Service,
    merge,
)
from tests.support.dns_server import DnsServer, dns_server, records

LIMIT_S = 8.0
"""A deadline far away, for lookups that must not time out."""


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with dns_server() as server:
        yield server


async def look_up(server: DnsServer, name: str, port: int | None = 80, limit_s: float = LIMIT_S) -> Lookup:
    async with NameServers([server.address]).session() as ask:
        lookup = Lookup(name, ask, asyncio.get_running_loop().time() + limit_s)
        await lookup.run(port)
    return lookup


async def ask(server: DnsServer, name: str, kind: str) -> Answer:
    async with NameServers([server.address]).session() as ask:
        return await ask(name, kind)


async def test_both_families(server: DnsServer) -> None:
    server.say("venue.test", "A", "10.0.0.1", "10.0.0.2", ttl=30)
    server.say("venue.test", "AAAA", "fd00::1", ttl=7)
    lookup = await look_up(server, "venue.test")
    assert sorted(lookup.addresses["venue.test", "A"]) == ["10.0.0.1", "10.0.0.2"]
    assert lookup.addresses["venue.test", "AAAA"] == ("fd00::1",)
    assert lookup.services == (Service(0, 1, 80, "venue.test"),)
    assert (lookup.ttl_s, lookup.failed, lookup.found) == (7, {}, True)


async def test_aliases_are_followed_and_their_ttl_counts(server: DnsServer) -> None:
    said = server.say("venue.test", "CNAME", "b.test.", ttl=20)
    chain = [*said.records, *records("B.test", "CNAME", "c.test.", ttl=9), *records("c.test", "A", "10.0.0.1", ttl=50)]
    stray = records("other.test", "A", "10.9.9.9", ttl=1)
    server.say("venue.test", "A").records = [chain[2], *stray, chain[1], chain[0]]
    assert await ask(server, "venue.test", "A") == Answer(9, ("10.0.0.1",))


async def test_aliases_in_a_circle_end(server: DnsServer) -> None:
    server.say("a.test", "A").records = [*records("a.test", "CNAME", "b.test."), *records("b.test", "CNAME", "a.test.")]
    with pytest.raises(NoRecords):
        await ask(server, "a.test", "A")


@pytest.mark.parametrize("kind", ["A", "AAAA", "SRV"])
async def test_no_such_name_and_no_such_records(server: DnsServer, kind: str) -> None:
    server.say("venue.test", "TXT", "here")
    with pytest.raises(NoRecords) as raised:
        await ask(server, "venue.test", kind)
    assert not raised.value.no_name
    with pytest.raises(NoRecords) as raised:
        await ask(server, "nowhere.test", kind)
    assert raised.value.no_name


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "NOTIMP", "FORMERR"])
async def test_an_error_of_the_server_is_a_failure(server: DnsServer, rcode: str) -> None:
    server.say("venue.test", "A", rcode=rcode)
    with pytest.raises(LookupFailed):
        await ask(server, "venue.test", "A")


async def test_an_invalid_name_is_a_failure(server: DnsServer) -> None:
    for name in ("a" * 64 + ".test", "a..test", "\udc80.test"):
        with pytest.raises(LookupFailed):
            await ask(server, name, "A")


@pytest.mark.parametrize(
    "how", [{"silent": True}, {"garbage": b""}, {"delay": 30.0}], ids=["no answer", "empty datagram", "too late"]
)
async def test_without_an_answer_it_ends_in_time(server: DnsServer, how: dict[str, object]) -> None:
    server.say("venue.test", "A", "10.0.0.1", **how)
    server.say("venue.test", "AAAA", **how)
    lookup = await look_up(server, "venue.test", limit_s=0.2)
    assert not lookup.found
    assert lookup.failed == {("venue.test", kind): "no answer in time" for kind in ("A", "AAAA")}


@pytest.mark.parametrize("garbage", [b"\x00", b"\xff" * 300, b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_an_answer_that_is_not_dns_is_a_failure(server: DnsServer, garbage: bytes) -> None:
    server.say("venue.test", "A", garbage=garbage)
    server.say("venue.test", "AAAA", garbage=garbage)
    lookup = await look_up(server, "venue.test", limit_s=0.5)
    assert not lookup.found
    assert set(lookup.failed) == {("venue.test", "A"), ("venue.test", "AAAA")}


async def test_a_truncated_answer_is_asked_for_over_tcp(server: DnsServer) -> None:
    many = [f"10.0.{number // 250}.{number % 250}" for number in range(1200)]
    server.say("venue.test", "A", *many)
    assert set((await ask(server, "venue.test", "A")).addresses) == set(many)
    assert server.asked == {("venue.test", "A", "udp"): 1, ("venue.test", "A", "tcp"): 1}
    server.say("small.test", "A", "10.0.0.1", tcp_only=True)
    assert (await ask(server, "small.test", "A")).addresses == ("10.0.0.1",)


async def test_each_lookup_asks_again(server: DnsServer) -> None:
    """c-ares' own cache would hold the first answer for a minute, and an empty one for an hour."""
    server.say("venue.test", "A", "10.0.0.1")
    servers = NameServers([server.address])
    for said in (["10.0.0.1"], [], ["10.0.0.2"]):
        server.say("venue.test", "A", *said)
        async with servers.session() as ask:
            lookup = Lookup("venue.test", ask, asyncio.get_running_loop().time() + LIMIT_S)
            await lookup.run(80)
        assert list(lookup.addresses["venue.test", "A"]) == said
    assert server.times("venue.test", "A") == 3


async def test_one_family_s_failure_leaves_the_other(server: DnsServer) -> None:
    server.say("venue.test", "A", "10.0.0.1")
    server.say("venue.test", "AAAA", rcode="SERVFAIL")
    lookup = await look_up(server, "venue.test")
    assert lookup.addresses == {("venue.test", "A"): ("10.0.0.1",)}
    assert list(lookup.failed) == [("venue.test", "AAAA")]


async def test_addresses_do_not_wait_long_for_the_other_family(server: DnsServer) -> None:
    server.say("venue.test", "A", "10.0.0.1")
    server.say("venue.test", "AAAA", silent=True)
    began = asyncio.get_running_loop().time()
    lookup = await look_up(server, "venue.test")
    took = asyncio.get_running_loop().time() - began
    assert lookup.addresses == {("venue.test", "A"): ("10.0.0.1",)}
    assert lookup.failed == {("venue.test", "AAAA"): "no answer in time"}
    assert STRAGGLER_S <= took + 0.01 < LIMIT_S / 2


async def test_no_such_name_is_an_answer_for_both_families(server: DnsServer) -> None:
    server.say("venue.test", "A", rcode="NXDOMAIN")
    server.say("venue.test", "AAAA", rcode="SERVFAIL")
    lookup = await look_up(server, "venue.test")
    assert (lookup.found, lookup.failed) == (False, {})
    server.say("venue.test", "AAAA", "fd00::1")  # servers that do not know IPv6 may say NXDOMAIN for one family alone
    lookup = await look_up(server, "venue.test")
    assert lookup.addresses == {("venue.test", "A"): (), ("venue.test", "AAAA"): ("fd00::1",)}


async def test_blocked_addresses_are_ignored(server: DnsServer) -> None:
    server.say("venue.test", "A", "0.0.0.0")
    server.say("venue.test", "AAAA", "::")
    lookup = await look_up(server, "venue.test")
    assert (lookup.found, lookup.failed) == (False, {})


async def test_services_and_their_targets(server: DnsServer) -> None:
    server.say("_http._tcp.venue.test", "SRV", "20 0 81 b.test.", "10 7 80 A.test.", "10 9 80 c.test.", ttl=40)
    server.say("a.test", "A", "10.0.0.1", ttl=5)
    server.say("b.test", "AAAA", "fd00::2", ttl=50)
    server.say("c.test", "A", rcode="SERVFAIL")
    server.say("c.test", "AAAA", rcode="SERVFAIL")
    lookup = await look_up(server, "_http._tcp.venue.test", port=None)
    assert lookup.services == (
        Service(10, 9, 80, "c.test"),
        Service(10, 7, 80, "a.test"),
        Service(20, 0, 81, "b.test"),
    )
    assert {question: found for question, found in lookup.addresses.items() if found} == {
        ("a.test", "A"): ("10.0.0.1",),
        ("b.test", "AAAA"): ("fd00::2",),
    }
    assert set(lookup.failed) == {("c.test", "A"), ("c.test", "AAAA")}
    assert lookup.ttl_s == 5


async def test_addresses_in_the_answer_are_not_asked_for_again(server: DnsServer) -> None:
    said = server.say("_http._tcp.venue.test", "SRV", "0 1 80 a.test.", "0 1 80 b.test.", ttl=40)
    said.additional = [*records("a.test", "A", "10.0.0.1", ttl=6), *records("stray.test", "A", "10.9.9.9", ttl=1)]
    server.say("b.test", "A", "10.0.0.2")
    lookup = await look_up(server, "_http._tcp.venue.test", port=None)
    assert lookup.addresses["a.test", "A"] == ("10.0.0.1",)
    assert lookup.addresses["b.test", "A"] == ("10.0.0.2",)
    assert lookup.ttl_s == 6
    assert server.times("a.test", "A") == server.times("a.test", "AAAA") == 0
    assert "stray.test" not in {name for name, _ in lookup.addresses}


@pytest.mark.parametrize("record", ["0 0 80 .", "0 0 0 a.test."], ids=["no such service", "no port"])
async def test_a_record_without_an_endpoint(server: DnsServer, record: str) -> None:
    server.say("_http._tcp.venue.test", "SRV", record)
    server.say("a.test", "A", "10.0.0.1")
    lookup = await look_up(server, "_http._tcp.venue.test", port=None)
    assert (lookup.found, lookup.failed, lookup.services) == (False, {}, ())


async def test_failed_services_are_a_failure(server: DnsServer) -> None:
    server.say("_http._tcp.venue.test", "SRV", rcode="SERVFAIL")
    lookup = await look_up(server, "_http._tcp.venue.test", port=None)
    assert list(lookup.failed) == [("_http._tcp.venue.test", "SRV")]


async def test_services_are_bounded_and_the_more_preferred_stay(server: DnsServer) -> None:
    many = [f"{number} 1 80 t{number % 7}.test." for number in range(MOST_SERVICES + 40)]
    random.shuffle(many)
    server.say("_http._tcp.venue.test", "SRV", *many)
    lookup = await look_up(server, "_http._tcp.venue.test", port=None)
    assert [service.priority for service in lookup.services] == list(range(MOST_SERVICES))
    assert lookup.left_out == 40
    assert max(server.times(f"t{number}.test", "A") for number in range(7)) == 1


async def test_cancelling_a_lookup_leaves_nothing_behind(server: DnsServer) -> None:
    server.say("venue.test", "A", silent=True)
    server.say("venue.test", "AAAA", silent=True)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await look_up(server, "venue.test")
    assert len(asyncio.all_tasks()) == 1


def services(*entries: tuple[int, int, int, str]) -> list[Service]:
    return [Service(*entry) for entry in entries]


def found(host: str, port: int, address: str, weight: int = 1, priority: int = 0) -> DiscoveredEndpoint:
    return DiscoveredEndpoint(Url("http", host, port), address, weight, priority)


@pytest.mark.parametrize(
    ("records", "addresses", "expected"),
    [
        ([], {("a", "A"): ["10.0.0.1"]}, []),
        (services((0, 1, 80, "a")), {}, []),
        (
            services((0, 1, 80, "a")),
            {("a", "AAAA"): ["fd00::1"], ("a", "A"): ["10.0.0.2", "10.0.0.1"]},
            [found("a", 80, "10.0.0.1"), found("a", 80, "10.0.0.2"), found("a", 80, "fd00::1")],
        ),
        (
            services((20, 0, 80, "a"), (10, 65535, 81, "b")),
            {("a", "A"): ["10.0.0.1"], ("b", "A"): ["10.0.0.2"]},
            [found("b", 81, "10.0.0.2", 65535, 10), found("a", 80, "10.0.0.1", 1, 20)],
        ),
        (  # one address by two targets: lower priority first, then higher weight
            services((1, 9, 80, "a"), (0, 2, 80, "b"), (0, 3, 80, "c")),
            {("a", "A"): ["10.0.0.1"], ("b", "A"): ["10.0.0.1"], ("c", "A"): ["10.0.0.1"]},
            [found("c", 80, "10.0.0.1", 3, 0)],
        ),
        (  # one address on two ports is two endpoints
            services((0, 1, 81, "a"), (0, 1, 80, "a")),
            {("a", "A"): ["10.0.0.1"]},
            [found("a", 80, "10.0.0.1"), found("a", 81, "10.0.0.1")],
        ),
    ],
)
def test_merging(
    records: list[Service], addresses: dict[tuple[str, str], list[str]], expected: list[DiscoveredEndpoint]
) -> None:
    assert merge(records, addresses, "http") == expected


def test_merging_under_another_host() -> None:
    assert merge(services((0, 1, 80, "a.search.test")), {("a.search.test", "A"): ["10.0.0.1"]}, "https", "a") == [
        DiscoveredEndpoint(Url("https", "a", 80), "10.0.0.1")
    ]


some_services = st.lists(
    st.builds(
        Service, st.integers(0, 2), st.integers(0, 3), st.sampled_from([80, 81]), st.sampled_from(["a", "b", "c"])
    ),
    max_size=6,
)
some_addresses = st.dictionaries(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["A", "AAAA"])),
    st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]), max_size=3),
)


@given(some_services, some_addresses, st.randoms(use_true_random=False))
def test_the_order_of_answers_means_nothing(
    records: list[Service], addresses: dict[tuple[str, str], list[str]], shuffle: random.Random
) -> None:
    merged = merge(records, addresses, "http")
    shuffled = {question: shuffle.sample(given, len(given)) for question, given in addresses.items()}
    assert merge(shuffle.sample(records, len(records)), shuffled, "http") == merged
    keys = [(one.address, one.url.port) for one in merged]
    assert len(keys) == len(set(keys))
    wanted = {
        (address, service.port)
        for service in records
        for kind in ("A", "AAAA")
        for address in addresses.get((service.target, kind), ())
    }
    assert set(keys) == wanted
    for one in merged:
        rivals = [
            service.priority
            for service in records
            for kind in ("A", "AAAA")
            if service.port == one.url.port and one.address in addresses.get((service.target, kind), ())
        ]
        assert one.priority == min(rivals)
        assert one.weight >= 1
