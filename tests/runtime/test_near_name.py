"""Suggestions for an unknown service name."""

from __future__ import annotations

import pytest

from sidecar.runtime.near_name import near_name


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("/vanue/events?x", "venue"),
        ("/Venue", "venue"),
        ("/autth?venue", "auth"),
        ("/zzz", None),
        ("/", None),
        ("", None),
        ("/" + "v" * 8000, None),
    ],
)
def test_the_nearest_name(target: str, name: str | None) -> None:
    assert near_name(target, ["venue", "auth"]) == name
    assert near_name(target, []) is None
