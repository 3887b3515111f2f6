"""The JSON Schema as a whole: every valid file passes, typical mistakes do not, and it speaks to whoever hovers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from jsonschema import Draft7Validator

from sidecar.config.annotations import fields_of
from sidecar.config.errors import ConfigErrors
from sidecar.config.json_schema import json_schema, json_schema_text
from sidecar.config.load import load, loads
from sidecar.config.services import ROUTE_KEYS, SERVICE_KEYS
from sidecar.policy.settings import Policy
from tests.config.yaml_values import values_of

ROOT = Path(__file__).resolve().parents[2]
FILES = (
    ROOT / "config" / "sidecar.yaml",
    ROOT / "sidecar" / "cli" / "starter.yaml",
    ROOT / "sidecar" / "demo" / "sidecar.yaml",
)
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

SCHEMA = json_schema()
CHECK = Draft7Validator(SCHEMA)

VENUE = "services: {venue: {url: 'http://venue'%s}}"

VALID = [
    "services: {}",
    VENUE % "",
    "services: {'5': {url: 'http://${HOST:-five}:80'}}",
    "services: {venue: {endpoints: ['http://a', {url: 'http://b', weight: '2', priority: 1}]}}",
    "services: {venue: {discovery: {dns: {name: venue.prod, port: 80}}}}",
    "services: {venue: {discovery: {dns: {name: _http._tcp.venue, srv: true, refresh: 5s}}}}",
    "services: {venue: {discovery: {kubernetes: {service: venue, port: http, namespace: shop}}}}",
    "services: {venue: {discovery: {kubernetes: {service: '1', port: 80}}}}",
    VENUE % ", timeout: {attempt: '${T:-2s}', request: 60s}, retry: {max_retries: 0, on: [], methods: [GET, M-SEARCH]}",
    VENUE
    % ", retry: {on: [503, 502-504, reset, '${S:-500}'], max_body: 1.5MiB, budget: {ratio: 0, min_per_second: 0.5}}",
    VENUE % ", breaker: {mode: off, error_threshold_percentage: 12.5%, failure_status: [429, 500-599]}",
    VENUE % ", balancer: {hash: {header: X-User}}, slow_start: 30s",
    VENUE % ", balancer: {hash: {source: true}}, slow_start: off",
    VENUE % ", health: {path: '/health?x=1', expect: [200-299], headers: {host: a, x-n: 5}}, outlier: {}",
    VENUE % ", health: off, outlier: {error_rate: off, panic_threshold: 0%}",
    VENUE % ", hosts: [venue-service, VENUE.example.], required: true, preserve_host: true, half_close: false",
    VENUE % ", fallback: [{stale: 5m, key_headers: [authorization]}, {status: 200, body: 5, headers: {a: b}}]",
    VENUE % ", fallback: off, limits: {max_concurrent: 1, max_connections: 2}",
    VENUE % ", routes: [{match: {path: /reports, methods: [POST]}, timeout: {request: 60s}, breaker: {mode: observe}}]",
    VENUE % ", routes: [{match: {methods: [POST]}, retry: {max_retries: 1}}]",
    "defaults: &d {timeout: {attempt: 2s}}\nservices: {a: {url: 'http://a', <<: *d}}",
    "listen: {proxy: '127.0.0.1:0', admin: '[::1]:15000'}\nlog: {level: debug, access: off}\nservices: {}",
    "drain: {delay: 0s, timeout: 5s}\nservices: {}",
    "checks: {redis: {url: 'redis://:${PW:-pw}@redis:6379/0', required: true, timeout: 500ms}}\nservices: {}",
    "aggregates: {page: {timeout: 1s, parts: {v: {service: venue, path: '/v/{query.id}', timeout: off}}}}\n"
    + VENUE % "",
]

MISTAKES = [
    ("services: []", "services"),
    ("listen: {}", ""),
    (VENUE % ", retires: {}", "services.venue"),
    (VENUE % ", timeout: {attempt: 5}", "services.venue.timeout.attempt"),
    (VENUE % ", timeout: {attempt: soon}", "services.venue.timeout.attempt"),
    (VENUE % ", timeout: {conect: 1s}", "services.venue.timeout"),
    (VENUE % ", retry: {max_body: 64KB}", "services.venue.retry.max_body"),
    (VENUE % ", retry: {on: [sometimes]}", "services.venue.retry.on.0"),
    (VENUE % ", breaker: {mode: on}", "services.venue.breaker.mode"),
    (VENUE % ", breaker: {error_threshold_percentage: 150}", "services.venue.breaker.error_threshold_percentage"),
    (VENUE % ", balancer: randomly", "services.venue.balancer"),
    (VENUE % ", balancer: {hash: {}}", "services.venue.balancer"),
    (VENUE % ", limits: {max_concurrent: 0}", "services.venue.limits.max_concurrent"),
    (VENUE % ", endpoints: ['http://b']", "services.venue"),
    (VENUE % ", health: {pth: /x}", "services.venue.health"),
    (VENUE % ", outlier: on", "services.venue.outlier"),
    (VENUE % ", fallback: [{status: 100}]", "services.venue.fallback"),
    (VENUE % ", fallback: [{stale: 5m, body: x}]", "services.venue.fallback"),
    (VENUE % ", fallback: [{status: 200, body: x, file: y}]", "services.venue.fallback"),
    (VENUE % ", routes: [{timeout: {request: 1s}}]", "services.venue.routes.0"),
    (VENUE % ", routes: [{match: {}}]", "services.venue.routes.0.match"),
    (VENUE % ", routes: [{match: {path: /a}, limits: {}}]", "services.venue.routes.0"),
    (VENUE % ", routes: [{match: {path: /a}, retry: {budget: {}}}]", "services.venue.routes.0.retry"),
    ("services: {venue: {}}", "services.venue"),
    ("services: {venue: {url: venue-service}}", "services.venue.url"),
    ("services: {_venue: {url: 'http://a'}}", "services"),
    ("services: {venue: {endpoints: []}}", "services.venue.endpoints"),
    ("services: {venue: {discovery: {dns: {port: 80}}}}", "services.venue.discovery"),
    ("services: {venue: {discovery: {consul: {}}}}", "services.venue.discovery"),
    ("services: {}\nlog: {level: verbose}", "log.level"),
    ("services: {}\nlisten: {proxy: []}", "listen.proxy"),
    ("services: {}\nchecks: {Redis: {url: 'redis://a'}}", "checks"),
    ("services: {}\nchecks: {redis: {}}", "checks.redis"),
    ("services: {}\naggregates: {page: {parts: {}}}", "aggregates.page.parts"),
]


def problems(text: str) -> list[str]:
    """Where the schema finds something, as key paths."""
    return [".".join(map(str, error.absolute_path)) for error in CHECK.iter_errors(values_of(text))]


def yaml_blocks() -> list[str]:
    """The configurations of all pages that `check` accepts as a whole."""
    found = []
    for page in PAGES:
        for text in re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
            try:
                loads(text, str(page), {"REDIS_PASSWORD": "x"})
            except ConfigErrors:
                continue
            found.append(text)
    return found


def test_it_has_a_name_that_no_editor_fetches() -> None:
    assert json_schema_text().splitlines()[2] == f'  "$id": "{SCHEMA["$id"]}",'
    assert urlsplit(SCHEMA["$id"]).scheme == "urn"


def test_it_is_a_schema() -> None:
    Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_our_files_pass(path: Path) -> None:
    load(path, {})
    assert problems(path.read_text()) == []


def test_what_the_pages_show_passes() -> None:
    blocks = yaml_blocks()
    assert len(blocks) >= 3
    assert [problems(text) for text in blocks] == [[]] * len(blocks)


@pytest.mark.parametrize("text", VALID)
def test_what_check_accepts_the_schema_accepts(text: str) -> None:
    loads(text, "a.yaml", {})
    assert problems(text) == []


@pytest.mark.parametrize(("text", "where"), MISTAKES)
def test_mistakes_are_found_where_they_are(text: str, where: str) -> None:
    with pytest.raises(ConfigErrors):
        loads(text, "a.yaml", {})
    found = problems(text)
    assert found
    assert all(path.startswith(where) for path in found)


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every mapping of the schema that has keys of its own."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for below in schema.values():
            yield from objects(below)
    elif isinstance(schema, list):
        for below in schema:
            yield from objects(below)


def test_no_mapping_takes_a_key_that_is_unknown() -> None:
    found = list(objects(SCHEMA))
    assert len(found) > 20
    assert all(one["additionalProperties"] is False for one in found)


def test_each_key_of_a_service_and_a_route_is_there() -> None:
    service = SCHEMA["properties"]["services"]["additionalProperties"]
    assert set(service["properties"]) == set(SERVICE_KEYS)
    barred = {"limits", "balancer", "slow_start", "health", "outlier", "tls"}
    assert set(service["properties"]["routes"]["items"]["properties"]) == set(ROUTE_KEYS) - barred
    assert set(SCHEMA["definitions"]["Policy"]["properties"]) == set(fields_of(Policy))


def test_hovering_over_a_key_tells_something() -> None:
    attempt = SCHEMA["definitions"]["Timeouts"]["properties"]["attempt"]
    assert attempt["default"] == "5s"
    assert attempt["description"].endswith("Default: 5s.")
    slow_start = SCHEMA["definitions"]["Policy"]["properties"]["slow_start"]
    assert slow_start["description"].startswith("An endpoint that joins")
    told = [key for one in objects(SCHEMA) for key, value in one["properties"].items() if "description" in value]
    silent = [key for one in objects(SCHEMA) for key, value in one["properties"].items() if "description" not in value]
    assert len(silent) < len(told) / 5, sorted(set(silent))


def test_there_is_something_to_complete() -> None:
    mode = SCHEMA["definitions"]["BreakerSettings"]["properties"]["mode"]
    assert mode["anyOf"][0] == {"enum": ["enforce", "observe", "off"]}
