"""`checks` in a file: what is read, and what is said of mistakes."""

from __future__ import annotations

import pytest

from sidecar.config.errors import ConfigErrors
from sidecar.config.load import loads
from sidecar.config.schema import CheckUrl, HealthCheck

NAME_RULE = "the name of a check has up to 63 lower-case letters, digits and '-', and no '-' at either end"
EXPECTED = "expected a URL such as redis://localhost:6379/0"
SERVICES = "services: {venue: {url: http://a}}\n"


def checks(text: str, **environ: str) -> dict[str, HealthCheck]:
    return loads(SERVICES + text, "a.yaml", environ).checks


def failure(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigErrors) as raised:
        checks(text, **environ)
    return str(raised.value).splitlines()


def test_there_are_none_by_default() -> None:
    assert checks("") == {}
    assert checks("checks: {}") == {}


def test_a_check_with_its_defaults_and_with_all_keys() -> None:
    text = """\
checks:
  redis: {url: "redis://localhost:6379/0", required: true, timeout: 500ms}
  queue: {url: "tcp://queue:5672"}
"""
    assert checks(text) == {
        "redis": HealthCheck(url=CheckUrl("redis", "localhost", 6379), required=True, timeout=0.5),
        "queue": HealthCheck(url=CheckUrl("tcp", "queue", 5672), required=False, timeout=1.0),
    }


def test_a_password_comes_out_of_the_environment() -> None:
    text = 'checks: {redis: {url: "redis://:${REDIS_PASSWORD:-}@cache"}}'
    assert checks(text, REDIS_PASSWORD="hunter2")["redis"].url.password == "hunter2"
    assert checks(text)["redis"].url.password == ""


def test_all_mistakes_come_at_once() -> None:
    text = """\
checks:
  redis: {url: "redis://localhost/x", requird: true}
  Queue: {url: "tcp://queue:5672", timeout: 0s}
  slow: {url: "tcp://queue:5672", timeout: 5001ms}
  none: {required: yes}
  word: redis://localhost
  off:
"""
    assert failure(text) == [
        f"a.yaml:3: checks.redis.url: only the number of a database can follow the /: {EXPECTED}",
        "a.yaml:3: checks.redis.requird: unknown key; did you mean required?",
        f"a.yaml:4: checks.Queue: {NAME_RULE}",
        "a.yaml:4: checks.Queue.timeout: expected more than 0",
        "a.yaml:5: checks.slow.timeout: expected at most 5s: that is the time limit of GET /health",
        "a.yaml:6: checks.none: a check needs a url: {url: redis://localhost:6379/0}",
        "a.yaml:6: checks.none.required: expected true or false",
        "a.yaml:7: checks.word: not a mapping: expected keys such as url, required, timeout, tls",
        "a.yaml:8: checks.off: no value: expected keys such as url, required, timeout, tls",
    ]


def test_the_longest_timeout() -> None:
    assert checks("checks: {a: {url: 'tcp://b:1', timeout: 5s}}")["a"].timeout == 5.0


@pytest.mark.parametrize("text", ["checks: []", "checks: word", "checks:"])
def test_what_is_no_mapping(text: str) -> None:
    assert failure(text) == ["a.yaml:2: checks: expected a mapping of checks: {redis: {url: redis://localhost:6379/0}}"]


def test_no_value_of_the_environment_appears_in_an_error() -> None:
    for url in ("${S}", "redis://${S}@cache", "redis://:${S}", "redis://:${S}%@cache", "http://a:${S}@b", "tcp://${S}"):
        for secret in ("hunter2 x", "hunter2", "hunter2@/", "://hunter2", "redis://hunter2"):
            lines = failure(f"checks: {{a: {{url: '{url}'}}, broken: {{}}}}", S=secret)
            assert not [line for line in lines if "hunter2" in line]


@pytest.mark.parametrize(("text", "required"), [("", False), (", required: true", True), (", required: false", False)])
def test_a_service_may_be_required(text: str, required: bool) -> None:
    config = loads(f"services: {{venue: {{url: http://a{text}}}}}", "a.yaml", {})
    assert config.services["venue"].required is required


def test_required_is_for_a_service_alone() -> None:
    text = """\
defaults: {required: true}
services:
  venue:
    url: http://a
    required: perhaps
    routes: [{match: {path: /a}, required: true}]
"""
    with pytest.raises(ConfigErrors) as raised:
        loads(text, "a.yaml", {})
    lines = str(raised.value).splitlines()
    assert lines[0].startswith("a.yaml:1: defaults.required: unknown key")
    assert lines[1] == "a.yaml:5: services.venue.required: expected true or false"
    assert lines[2].startswith("a.yaml:6: services.venue.routes[0].required: unknown key")
