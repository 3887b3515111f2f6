"""What is missing is said in one line."""

from __future__ import annotations

from sidecar.config.load import loads
from sidecar.daemon.extras import missing_extra


def test_what_a_configuration_needs_is_named_with_the_key() -> None:
    config = loads("services: {venue: {discovery: {dns: {name: venue, port: 3002}}}}", "sidecar.yaml", {})
    assert "services.venue.discovery.dns" in (missing_extra(config, lambda name: None) or "")
    assert missing_extra(config, lambda name: object()) is None
