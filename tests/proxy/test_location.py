"""Redirects of a service lead through the sidecar; redirects to elsewhere lead there."""

from __future__ import annotations

import pytest

from sidecar.proxy.location import below_prefix

AUTHORITIES = frozenset({b"venue", b"venue:3002", b"venue-service", b"venue-service:3002"})


@pytest.mark.parametrize(
    ("location", "seen"),
    [
        ("/x", "/venue/x"),
        ("/", "/venue/"),
        ("/venue/x", "/venue/venue/x"),
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
    assert below_prefix(location.encode(), b"/venue", AUTHORITIES) == seen.encode()
