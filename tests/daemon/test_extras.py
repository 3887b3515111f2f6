"""Missing extras of a configuration."""

from __future__ import annotations

from sidecar.config.load import loads
from sidecar.config.schema import Config
from sidecar.daemon.extras import missing_extra

PLAIN = "services: {venue: {url: 'http://venue:1'}}"
DNS = "services: {venue: {discovery: {dns: {name: venue.test, port: 80}}}}"


def config(text: str) -> Config:
    return loads(text, "a.yaml", {})


def test_an_extra_is_required_if_the_configuration_uses_it() -> None:
    missing = missing_extra(config(DNS), lambda name: None if name == "aiodns" else object())
    assert missing == "services.venue.discovery.dns needs aiodns: pip install 'service-sidecar[dns]'"
    assert missing_extra(config(DNS), lambda name: object()) is None


def test_opentelemetry_may_be_missing_wholly_or_in_part() -> None:
    traced = config("tracing: {otlp: 'http://collector:4318'}\n" + PLAIN)

    def nothing(name: str) -> object:
        raise ModuleNotFoundError(name)

    for find in (nothing, lambda name: None):
        assert missing_extra(traced, find) == "tracing needs OpenTelemetry: pip install 'service-sidecar[otel]'"
    assert missing_extra(traced, lambda name: object()) is None


def test_unused_extras_are_not_looked_for() -> None:
    asked: list[str] = []
    assert missing_extra(config(PLAIN), asked.append) is None
    assert asked == []
