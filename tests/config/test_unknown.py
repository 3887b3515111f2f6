"""What is said about keys that are not known."""

from __future__ import annotations

import pytest

from sidecar.config.annotations import fields_of
from sidecar.config.schema import Config, Service
from sidecar.config.services import ROUTE_KEYS, SERVICE_KEYS
from sidecar.config.unknown import LATER_KEYS, unknown_key, unknown_service
from sidecar.policy.settings import BreakerSettings, HealthSettings, Policy, RetrySettings


@pytest.mark.parametrize(
    ("key", "struct", "meant"),
    [
        ("max_retrys", RetrySettings, "max_retries"),
        ("maxRetries", RetrySettings, "max_retries"),
        ("max-retries", RetrySettings, "max_retries"),
        ("errorThresholdPercentage", BreakerSettings, "error_threshold_percentage"),
        ("resetTimeout", BreakerSettings, "reset_timeout"),
        ("timeouts", Policy, "timeout"),
        ("retries", Policy, "retry"),
        ("brekaer", Policy, "breaker"),
        ("max_retries", Policy, "retry.max_retries"),
        ("resetTimeout", Policy, "breaker.reset_timeout"),
        ("slowStart", Policy, "slow_start"),
        ("health_check", Policy, "health"),
        ("panic_threshold", Policy, "outlier.panic_threshold"),
        ("hash", Policy, "balancer.hash"),
        ("dns", Service, "discovery.dns"),
        ("outlier", Config, "defaults.outlier"),
        ("unhealthyThreshold", HealthSettings, "unhealthy_threshold"),
        ("service", Config, "services"),
        ("default", Config, "defaults"),
    ],
)
def test_a_near_miss_is_told_what_was_meant(key: str, struct: type, meant: str) -> None:
    assert unknown_key(key, fields_of(struct)) == f"unknown key; did you mean {meant}?"


@pytest.mark.parametrize("key", ["zzz", "", "x", "y" * 10_000, "\u00fcber"])
def test_a_far_one_is_told_what_there_is(key: str) -> None:
    assert unknown_key(key, fields_of(RetrySettings)).startswith(
        "unknown key; expected one of max_retries, on, methods"
    )


def test_what_is_there_by_now_is_not_said_to_be_later() -> None:
    assert not LATER_KEYS & {*fields_of(Config), *SERVICE_KEYS, *ROUTE_KEYS, *fields_of(Policy)}


@pytest.mark.parametrize("key", sorted(LATER_KEYS))
def test_a_later_key_is_said_to_be_one(key: str) -> None:
    for known in (fields_of(Config), SERVICE_KEYS, ROUTE_KEYS, fields_of(Policy)):
        assert key in known or "not support this key yet" in unknown_key(key, known)


@pytest.mark.parametrize(
    ("name", "meant"), [("venues", "; did you mean venue?"), ("evnet", "; did you mean event?"), ("xyz", "")]
)
def test_a_service_that_is_not_there_is_guessed_at(name: str, meant: str) -> None:
    assert unknown_service(name, ["venue", "event"]) == f"no service has this name{meant}"
    assert unknown_service(name, []) == "no service has this name"


def test_an_odd_name_that_is_meant_cannot_break_a_line() -> None:
    assert unknown_service("a\nbd", ["a\nbc"]) == r"no service has this name; did you mean 'a\nbc'?"
