"""An endpoint: its name, its skips after refused connections, and a change of its spec."""

from __future__ import annotations

import pytest

from sidecar.config.schema import EndpointSpec, Url
from sidecar.runtime.endpoint import Endpoint

START = 1000.0
VENUE = Url("http", "venue-service", 3002)


def endpoint(address: str = "10.0.0.7", url: Url = VENUE, weight: int = 1) -> Endpoint:
    return Endpoint(EndpointSpec(url=url, weight=weight), address)


@pytest.mark.parametrize(
    ("address", "url", "label", "authority", "tls"),
    [
        ("10.0.0.7", Url("http", "venue-service", 3002), "10.0.0.7:3002", b"venue-service:3002", False),
        ("10.0.0.7", Url("http", "venue-service", 80), "10.0.0.7:80", b"venue-service", False),
        ("10.0.0.7", Url("http", "venue-service", 443), "10.0.0.7:443", b"venue-service:443", False),
        ("10.0.0.7", Url("https", "venue-service", 443), "10.0.0.7:443", b"venue-service", True),
        ("fd00::7", Url("http", "venue-service", 3002), "[fd00::7]:3002", b"venue-service:3002", False),
        ("fd00::7", Url("http", "fd00::7", 3002), "[fd00::7]:3002", b"[fd00::7]:3002", False),
    ],
)
def test_its_label_is_its_address_and_its_authority_is_the_host_of_its_url(
    address: str, url: Url, label: str, authority: bytes, tls: bool
) -> None:
    made = endpoint(address, url)
    assert (made.label, made.authority, made.tls) == (label, authority, tls)
    assert made.key == (url.scheme, address, url.port)
    assert made.server_name == url.host


@pytest.mark.parametrize(
    ("scheme", "h2", "key", "speaks_h2", "tls"),
    [
        ("http", False, "http", False, False),
        ("http", True, "h2c", True, False),
        ("h2c", False, "h2c", True, False),
        ("grpc", False, "h2c", True, False),
        ("grpc", True, "h2c", True, False),
        ("https", False, "https", False, True),
        ("https", True, "h2", True, True),
    ],
)
def test_its_protocol_is_a_part_of_what_it_is(scheme: str, h2: bool, key: str, speaks_h2: bool, tls: bool) -> None:
    made = Endpoint(EndpointSpec(url=Url(scheme, "venue", 50051)), "10.0.0.7", h2)
    assert made.key == (key, "10.0.0.7", 50051)
    assert (made.h2, made.tls, made.authority) == (speaks_h2, tls, b"venue:50051")


def test_a_refused_connection_skips_it_for_one_second_doubling_to_thirty() -> None:
    one = endpoint()
    now = START
    skipped_s = []
    for _ in range(8):
        one.connect_failed(now)
        skipped_s.append(one.skip_until - now)
        now = one.skip_until  # the first moment at which it is tried again
    assert skipped_s == [1, 2, 4, 8, 16, 30, 30, 30]


def test_failures_while_it_is_skipped_count_once() -> None:
    one = endpoint()
    one.connect_failed(START)
    one.connect_failed(START)
    one.connect_failed(START + 0.999)
    assert one.skip_until == START + 1
    assert one.connect_failures == 1
    one.connect_failed(START + 1)
    assert one.skip_until == START + 3


def test_a_successful_connection_resets_the_skip() -> None:
    one = endpoint()
    for now in (START, START + 1, START + 3):
        one.connect_failed(now)
    one.connected()
    assert one.skip_until <= START
    one.connect_failed(START + 10)
    assert one.skip_until == START + 11


def test_it_is_skipped_while_a_connection_is_opened_in_the_background() -> None:
    one = endpoint()
    one.connect_failed(START)
    one.begin_reconnect(START + 1, within_s=2.0)
    assert (one.reconnecting, one.skip_until) == (True, START + 3)
    one.connect_failed(START + 1.5)  # of a request that began earlier
    assert one.skip_until == START + 3


def test_a_failure_in_the_background_doubles_the_skip() -> None:
    one = endpoint()
    one.connect_failed(START)
    one.begin_reconnect(START + 1, within_s=2.0)
    one.connect_failed(START + 1.5, in_background=True)
    assert one.skip_until == START + 3.5
    assert one.connect_failures == 2


def test_a_passed_check_ends_the_skip_but_keeps_the_failure_count() -> None:
    one = endpoint()
    one.connect_failed(START)
    one.checked_well(began=START)
    assert one.skip_until <= START
    one.connect_failed(START + 0.5)
    assert one.skip_until == START + 2.5


def test_a_check_that_began_before_the_last_refusal_is_ignored() -> None:
    one = endpoint()
    one.connect_failed(START)
    one.connect_failed(START + 0.2)
    one.checked_well(began=START + 0.1)
    assert one.skip_until == START + 1


def test_it_takes_over_a_spec_of_the_same_address() -> None:
    one = endpoint(weight=1)
    one.connect_failed(START)
    one.departed_at = START
    assert one.adopt(EndpointSpec(url=Url("http", "venue-canary", 3002), weight=3))
    assert (one.authority, one.server_name, one.weight) == (b"venue-canary:3002", "venue-canary", 3)
    assert one.departed_at is None
    assert one.skip_until == START + 1


def test_over_tls_it_does_not_take_over_another_server_name() -> None:
    one = endpoint(url=Url("https", "venue-service", 443))
    assert not one.adopt(EndpointSpec(url=Url("https", "other-service", 443), weight=3))
    assert (one.authority, one.server_name, one.weight) == (b"venue-service", "venue-service", 1)
    assert one.adopt(EndpointSpec(url=Url("https", "venue-service", 443), weight=3))
    assert one.weight == 3


def test_repr_shows_the_state() -> None:
    one = endpoint()
    one.connect_failed(START)
    one.active = 2
    assert repr(one) == "<Endpoint 10.0.0.7:3002 active=2 idle=0 skip_until=1001.000>"
