"""The effective configuration in words: values as they are written, who set them, and what changed."""

from __future__ import annotations

from sidecar.config.effective import changed_keys, config_tree, flat
from sidecar.config.load import _read

FILE = """
defaults: {timeout: {attempt: 2s}}
services:
  venue: {url: "http://venue:3002", timeout: {request: 9s}, health: {path: /health, headers: {authorization: secret}}}
checks: {redis: {url: "redis://:secret@localhost:6379/0"}}
"""


def test_values_bear_their_origin_and_hide_secrets() -> None:
    config, origins = _read(FILE, "sidecar.yaml", {})
    found = dict(flat(config_tree(config, origins)))
    assert (found["services.venue.timeout.attempt"].value, found["services.venue.timeout.attempt"].origin) == (
        "2s",
        "defaults",
    )
    assert (found["services.venue.timeout.request"].value, found["services.venue.timeout.request"].origin) == (
        "9s",
        "service",
    )
    assert found["services.venue.timeout.connect"].origin == "default"
    assert "secret" not in str(found)


def test_changed_keys_are_those_that_differ() -> None:
    old, _ = _read(FILE, "sidecar.yaml", {})
    new, _ = _read(FILE.replace("9s", "8s"), "sidecar.yaml", {})
    assert changed_keys(old, old) == []
    assert changed_keys(old, new) == ["services.venue.timeout.request"]
