"""The alerts: Prometheus takes them, each is tested and explained, and they name only what there is."""

from __future__ import annotations

import re
import shlex
from typing import Any

import click
import pytest
import yaml

from sidecar.cli.main import main
from tests.support.daemon import ROOT
from tests.support.metrics_page import problems_of
from tests.support.promtool import needs_promtool, promtool

FOLDER = ROOT / "deploy/prometheus"
RULES, TESTS = FOLDER / "alerts.yaml", FOLDER / "alerts_test.yaml"
PAGE = ROOT / "docs/alerts.md"

ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in ALERTS]
SECTIONS: dict[str, str] = dict(
    re.findall(r"^## (Sidecar\w+)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
)


@needs_promtool
def test_prometheus_takes_the_rules() -> None:
    promtool("check", "rules", RULES)


@needs_promtool
def test_each_fires_when_it_should_and_not_before() -> None:
    promtool("test", "rules", TESTS)


def test_each_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires: set[str] = set()
    quiet: set[str] = set()
    for test in yaml.safe_load(TESTS.read_text())["tests"]:
        for case in test["alert_rule_test"]:
            (fires if case["exp_alerts"] else quiet).add(case["alertname"])
    assert fires == quiet == set(NAMES)


@pytest.mark.parametrize("rule", ALERTS, ids=NAMES)
def test_it_names_only_metrics_that_there_are(rule: dict[str, Any]) -> None:
    assert not problems_of(rule["expr"])


@pytest.mark.parametrize("rule", ALERTS, ids=NAMES)
def test_it_says_how_bad_it_is_what_it_means_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/alerts.md#{rule['alert'].lower()}"
    assert not rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["description"].endswith(".")


def test_the_commands_are_there() -> None:
    """Each that the page shows is one of `sidecar`'s, with options that it has."""
    shown = re.findall(r"`sidecar ([a-z][^`]*)`|-- sidecar (.+)$", PAGE.read_text(), re.MULTILINE)
    assert len(shown) > 10
    context = click.Context(main)
    for spans in shown:
        name, *words = shlex.split("".join(spans))
        command = main.get_command(context, name)
        assert command is not None, name
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, (name, words)


def test_each_has_its_section_and_no_other_has() -> None:
    assert list(SECTIONS) == NAMES


@pytest.mark.parametrize("rule", ALERTS, ids=NAMES)
def test_its_section_says_what_to_look_at_and_what_to_do(rule: dict[str, Any]) -> None:
    section = SECTIONS[rule["alert"]]
    assert section.lstrip().startswith(f"*{rule['labels']['severity']}*")
    assert [section.count(word) for word in ("**Look at:**", "**Do:**")] == [1, 1]
    for metric in re.findall(r"`(sidecar_\w+)", section):
        assert not problems_of(metric)
