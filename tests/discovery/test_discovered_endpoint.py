"""Discovered endpoints."""

from __future__ import annotations

from sidecar.config.schema import Url
from sidecar.discovery.discovered_endpoint import DiscoveredEndpoint

URL = Url("http", "venue", 80)


def test_it_is_a_value() -> None:
    assert DiscoveredEndpoint(URL, "10.0.0.1") == DiscoveredEndpoint(Url("http", "venue", 80), "10.0.0.1", 1, 0)
    assert (
        len(
            {
                DiscoveredEndpoint(URL, "10.0.0.1"),
                DiscoveredEndpoint(URL, "10.0.0.1"),
                DiscoveredEndpoint(URL, "10.0.0.1", priority=1),
            }
        )
        == 2
    )
