"""Hosts that are addresses, and those that are this machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.net.addresses import address_of, is_ip, is_loopback, is_this_machine


@pytest.mark.parametrize(
    ("host", "literal"),
    [
        ("10.0.0.7", True),
        ("::1", True),
        ("fe80::1%eth0", True),
        ("venue", False),
        ("10.0.0", False),
        ("1.2.3.4.x", False),
    ],
)
def test_which_hosts_are_addresses(host: str, literal: bool) -> None:
    assert is_ip(host) is literal


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("localhost", True),
        ("venue.localhost", True),
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("0:0:0:0:0:0:0:1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", True),
        ("::", True),
        ("::ffff:0.0.0.0", True),
        ("notlocalhost", False),
        ("localhost.example", False),
        ("128.0.0.1", False),
        ("127.1", False),
        ("127.0.0.01", False),
        ("::ffff:10.0.0.1", False),
        ("::2", False),
        ("", False),
        ("venue", False),
    ],
)
def test_hosts_that_always_mean_this_machine(host: str, answer: bool) -> None:
    assert is_this_machine(host) is answer


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::ffff:0.0.0.0", "10.0.0.1", "::ffff:10.0.0.1", "venue", ""])
def test_others_reach_a_listener_at_any_other_host(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.9", "::1", "::ffff:127.0.0.1"])
def test_nobody_else_reaches_a_listener_on_loopback(host: str) -> None:
    assert is_loopback(host)


@given(
    st.one_of(
        st.text(),
        st.text("0123456789abcf.:%\x00", max_size=20),
        st.ip_addresses().map(str),
        st.ip_addresses(v=6).map(lambda address: f"{address}%eth0"),
    )
)
def test_an_address_is_what_the_library_takes_for_one(host: str) -> None:
    assert is_ip(host) is (address_of(host) is not None)
