"""The schema, read as keys: words for values, defaults, places."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.config.json_schema import json_schema
from tools.docs.schema_keys import DEFAULTS, ROUTE, SERVICE, TOP, Key, keys_of

KEYS = {key.path: key for key in keys_of(json_schema())}


@pytest.mark.parametrize(
    ("path", "values", "default"),
    [
        ("timeout.attempt", "a duration", "`5s`"),
        ("slow_start", "`off` or a duration", "`off`"),
        ("retry.max_body", "a size", "`64KiB`"),
        ("retry.max_retries", "a whole number from 0", "`2`"),
        ("discovery.dns.port", "a whole number from 1 to 65535", ""),
        ("tracing.sample", "a number from 0 to 1", "`0.01`"),
        ("outlier.max_ejection_percent", "a percentage above 0, up to 100", "`50`"),
        ("outlier.panic_threshold", "a percentage from 0 to 100", "`50`"),
        ("breaker.mode", "`enforce`, `observe` or `off`", "`enforce`"),
        ("breaker.failure_status", "a list of statuses, and ranges such as `500-599`", "`[500-599]`"),
        ("preserve_host", "`true` or `false`", "`false`"),
        ("endpoints", "a list of URLs or entries with the keys below", ""),
        ("health", "`off` or the keys below", "`off`"),
        ("health.headers", "names with their values", ""),
        ("checks", "names, each with the keys below", ""),
        ("admin.token_file", "the path of a file", "`off`"),
        ("timeout", "", ""),
        ("discovery.kubernetes.namespace", "a name of lower-case letters, digits and inner `-`", "the pod's own"),
        ("listen.admin", "an address with its port, as `127.0.0.1:15000` or `[::]:15021`", "`127.0.0.1:15000`"),
    ],
)
def test_values_and_defaults_in_words(path: str, values: str, default: str) -> None:
    assert (KEYS[path].values, KEYS[path].default) == (values, default)


def test_a_key_that_is_needed() -> None:
    needed = {path for path, key in KEYS.items() if key.required}
    assert {"services", "routes[].match", "tracing.otlp", "checks.NAME.url", "endpoints[].url"} <= needed
    assert not {"url", "fallback[].stale", "discovery.dns", "balancer.hash"} & needed


def test_places() -> None:
    assert KEYS["listen.proxy"].places == (TOP,)
    assert KEYS["hosts"].places == (SERVICE,)
    assert KEYS["routes[].match.path"].places == (ROUTE,)
    assert KEYS["timeout.attempt"].places == (DEFAULTS, SERVICE, ROUTE)
    assert KEYS["timeout.pool_idle"].places == (DEFAULTS, SERVICE)


def test_each_key_says_what_it_is_for_and_not_how_it_is_written() -> None:
    for path, key in KEYS.items():
        assert key.text, path
        assert key.text[0] == "`" or key.text[0].isupper() or key.text[0].isdigit() or key.text.startswith("http"), path
        assert "written `250ms`" not in key.text, path
        assert not key.text.startswith(f"`{path}`"), path


def test_keys_that_several_shapes_share_are_listed_once() -> None:
    paths = [key.path for key in keys_of(json_schema())]
    assert len(paths) == len(set(paths))
    assert "fallback[].methods" in paths


def test_a_pattern_without_words_is_not_passed_over() -> None:
    schema: dict[str, Any] = {
        "properties": {
            "services": {"additionalProperties": {"properties": {"routes": {"items": {"properties": {"match": {}}}}}}},
            "defaults": {"properties": {}},
            "new": {"type": "string", "pattern": "^(unheard of)$"},
        },
        "definitions": {},
    }
    with pytest.raises(KeyError, match="unheard of"):
        keys_of(schema)


def test_a_key_is_a_plain_tuple() -> None:
    assert KEYS["drain.timeout"] == Key(
        "drain.timeout", "How long requests in flight may take after that.", "a duration", "`20s`", False, (TOP,)
    )
