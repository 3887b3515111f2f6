"""Rules between values, and whose line their errors name."""

from __future__ import annotations

import pytest

from sidecar.config.errors import ConfigErrors
from sidecar.config.load import loads

SERVICE = "services:\n  venue:\n    url: http://venue\n"


def errors(text: str) -> list[tuple[int, str, str]]:
    try:
        loads(text, "a.yaml", {})
    except ConfigErrors as failure:
        return [(error.line, error.path, error.message) for error in failure.errors]
    return []


@pytest.mark.parametrize(
    ("body", "allowed"),
    [
        ("retry: {backoff: {base: 250ms}}", True),
        ("retry: {backoff: {base: 251ms}}", False),
        ("retry: {backoff: {base: 251ms, max: 251ms}}", True),
        ("retry: {backoff: {max: 24ms}}", False),
        ("breaker: {reset_timeout: 5m}", True),
        ("breaker: {reset_timeout: 301s}", True),
        ("breaker: {reset_timeout: 2s, max_reset_timeout: 1s}", False),
        ("breaker: {rolling_count_timeout: 10ms}", True),
        ("breaker: {rolling_count_timeout: 9ms}", False),
        ("breaker: {rolling_count_buckets: 10000}", True),
        ("breaker: {rolling_count_buckets: 10001}", False),
        ("timeout: {attempt: 1h, request: 1s}", True),
        ("limits: {keepalive: 10s}", True),
        ("limits: {keepalive: off}", True),
        ("limits: {keepalive: 9s}", False),
        ("outlier: {}", True),
        ("outlier: {base_ejection_time: 6m}", True),
        ("outlier: {base_ejection_time: 5s, max_ejection_time: 5s}", True),
        ("outlier: {base_ejection_time: 5001ms, max_ejection_time: 5s}", False),
        ("health: {path: /, interval: 1s, timeout: 2s}", True),
        ("health: {path: /, expect: []}", False),
        ("health: {tcp: true}", True),
        ("health: {tcp: true, path: /}", False),
        ("health: {tcp: false}", False),
        ("health: {}", False),
    ],
)
def test_values_that_do_not_go_together(body: str, allowed: bool) -> None:
    for text in (f"defaults:\n  {body}\n{SERVICE}", f"{SERVICE}    {body}\n"):
        assert (errors(text) == []) is allowed


def test_the_error_stands_at_the_key_that_was_written_and_names_the_other() -> None:
    assert errors("defaults:\n  retry:\n    backoff:\n      base: 1s\n" + SERVICE) == [
        (4, "defaults.retry.backoff.base", "must not be longer than retry.backoff.max, which is 250ms by default")
    ]
    assert errors(SERVICE + "    retry:\n      backoff:\n        max: 1ms\n") == [
        (
            *(6, "services.venue.retry.backoff.max"),
            "must not be shorter than retry.backoff.base, which is 25ms by default",
        )
    ]


def test_the_narrower_level_is_the_one_to_put_right() -> None:
    defaults = "defaults:\n  retry: {backoff: {base: 1ms, max: 5ms}}\n"
    text = f"{SERVICE}    retry: {{backoff: {{base: 10ms}}}}\n{defaults}"
    assert errors(text) == [
        (4, "services.venue.retry.backoff.base", "must not be longer than retry.backoff.max, set in line 6")
    ]
    route = "      - match: {path: /}\n        retry: {backoff: {max: 5ms}}\n"
    text = f"{SERVICE}    retry: {{backoff: {{base: 200ms}}}}\n    routes:\n{route}"
    assert errors(text) == [
        (
            *(7, "services.venue.routes[0].retry.backoff.max"),
            "must not be shorter than retry.backoff.base, set in line 4",
        )
    ]


def test_a_breaker_may_stay_open_longer_than_a_maximum_that_another_level_set() -> None:
    defaults = "defaults:\n  breaker: {max_reset_timeout: 5s}\n"
    assert errors(f"{SERVICE}    breaker: {{reset_timeout: 1m}}\n{defaults}") == []
    both = f"{SERVICE}    breaker: {{reset_timeout: 1m, max_reset_timeout: 5s}}\n"
    assert errors(both) == [
        (
            *(4, "services.venue.breaker.max_reset_timeout"),
            "must not be shorter than breaker.reset_timeout, set in line 4",
        )
    ]


def test_a_health_check_asks_exactly_one_thing() -> None:
    asked = "expected exactly one of path, tcp: true, grpc"
    assert errors(f"{SERVICE}    health:\n      interval: 1s\n") == [(4, "services.venue.health", asked)]
    both = f"{SERVICE}    health:\n      tcp: true\n      path: /\n"
    assert errors(both) == [(6, "services.venue.health.path", "tcp is set as well: keep one of the two")]
    defaults = "defaults:\n  health: {interval: 1s}\n"
    assert errors(f"{defaults}{SERVICE}") == [(2, "defaults.health", asked)]
    (misspelt,) = errors(f"{SERVICE}    health: {{pth: /}}\n")
    assert misspelt == (4, "services.venue.health.pth", "unknown key; did you mean path?")


def test_what_a_service_leaves_of_the_defaults_is_checked_too() -> None:
    defaults = "defaults:\n  health: {tcp: true}\n"
    assert errors(f"{SERVICE}    health: {{tcp: false}}\n{defaults}") == [
        (4, "services.venue.health", "expected exactly one of path, tcp: true, grpc")
    ]
    assert errors(f"{SERVICE}    health: off\n{defaults}") == []


def test_a_mistake_in_defaults_is_not_told_again_for_each_service() -> None:
    for mistake in ("retry: {backoff: {base: 1s}}", "health: {}", "health: {tcp: true, path: /}"):
        text = f"defaults: {{{mistake}}}\nservices: {{a: {{url: http://a}}, b: {{url: http://b}}}}\n"
        assert len(errors(text)) == 1


def test_a_bad_value_draws_no_second_error() -> None:
    (error,) = errors(f"{SERVICE}    retry: {{backoff: {{base: 9, max: 1ms}}}}\n")
    assert "needs a unit" in error[2]


@pytest.mark.parametrize(
    ("listen", "at"),
    [
        ("{admin: 127.0.0.1:15001}", "listen.admin"),
        ("{admin: 0.0.0.0:15001}", "listen.admin"),
        ('{probe: "[::]:15000"}', "listen.probe"),
        ('{admin: "[::1]:15021"}', "listen.admin"),
        ("{proxy: [127.0.0.1:1, 127.0.0.1:1]}", "listen.proxy"),
        ('{proxy: "[0::1]:1", admin: "[::1]:1"}', "listen.admin"),
        ("{proxy: []}", "listen.proxy"),
        ("{proxy: [127.0.0.1:0, 127.0.0.1:0], admin: 127.0.0.1:0}", None),
        ('{admin: "[::1]:15000", proxy: 127.0.0.1:15000}', None),
        ('{admin: "[::1]:15000", proxy: 0.0.0.0:15000}', None),
    ],
)
def test_listeners_that_cannot_bind_beside_each_other(listen: str, at: str | None) -> None:
    assert [path for _, path, _ in errors(f"listen: {listen}\n{SERVICE}")] == ([at] if at else [])
