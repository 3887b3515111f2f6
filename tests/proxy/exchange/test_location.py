"""Redirects of a service lead through the sidecar; redirects to elsewhere lead there."""

from __future__ import annotations

import pytest

from sidecar.proxy.exchange.location import below_prefix

AUTHORITIES = frozenset({b"venue", b"venue:3002", b"venue-service", b"venue-service:3002", b"wild:*"})


@pytest.mark.parametrize(
    ("location", "seen"),
    [
        ("/x", "/venue/x"),
        ("/", "/venue/"),
        ("/venue/x", "/venue/x"),  # the service heeds the prefix that it was told
        ("/venue", "/venue"),
        ("/venue?a", "/venue?a"),
        ("/venues/x", "/venue/venues/x"),
        ("http://venue-service:3002/venue/x", "/venue/x"),
        ("http://wild:4711/x", "/venue/x"),
        ("/x?a=http://b/#c", "/venue/x?a=http://b/#c"),
        ("http://venue-service:3002/x", "/venue/x"),
        ("HTTP://Venue-Service:3002/X", "/venue/X"),
        ("https://venue-service/x", "/venue/x"),
        ("http://venue-service./x", "/venue/x"),
        ("http://venue", "/venue/"),
        ("http://venue?a", "/venue/?a"),
        ("http://venue#a", "/venue/#a"),
        ("//venue/x", "//venue/x"),
        ("x", "x"),
        ("", ""),
        ("?a", "?a"),
        ("http://elsewhere/x", "http://elsewhere/x"),
        ("http://venue:9/x", "http://venue:9/x"),
        ("http://user@venue/x", "http://user@venue/x"),
        ("ftp://venue/x", "ftp://venue/x"),
        ("http:/x", "http:/x"),
    ],
)
def test_where_it_leads(location: str, seen: str) -> None:
    assert below_prefix(location.encode(), b"/venue", AUTHORITIES, b"/x", None) == seen.encode()


@pytest.mark.parametrize(
    ("target", "aware", "seen"),
    [
        ("/login", None, "/auth/home"),
        ("/auth/login", None, "/auth/auth/home"),  # a service that has such paths of its own
        ("/auth", None, "/auth/auth/home"),
        ("/authors", None, "/auth/home"),
        ("/login", False, "/auth/auth/home"),
        ("/auth/login", True, "/auth/home"),
    ],
)
@pytest.mark.parametrize("location", ["/auth/home", "http://auth-service/auth/home"])
def test_a_prefix_that_is_there_already(location: str, target: str, aware: bool | None, seen: str) -> None:
    authorities = frozenset({b"auth-service"})
    assert below_prefix(location.encode(), b"/auth", authorities, target.encode(), aware) == seen.encode()


def test_a_service_that_says_so_is_left_alone() -> None:
    assert below_prefix(b"/x", b"/venue", AUTHORITIES, b"/", True) == b"/x"
    assert below_prefix(b"http://venue/x", b"/venue", AUTHORITIES, b"/", True) == b"/x"


def test_the_app_s_own_authority_is_the_service_s_if_it_was_told_that() -> None:
    location = b"http://shop.example:8080/x"
    assert below_prefix(location, b"/venue", AUTHORITIES, b"/", None, b"Shop.Example:8080") == b"/venue/x"
    assert below_prefix(location, b"/venue", AUTHORITIES, b"/", None) == location
