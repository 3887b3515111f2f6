"""The Grafana dashboard: as its script writes it, whole, and asking only for what there is."""

from __future__ import annotations

import json
import re
import runpy
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.daemon import ROOT
from tests.support.metrics_page import listed, problems_of
from tests.support.promtool import needs_promtool, promtool

FOLDER = ROOT / "deploy/grafana"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
CHARTS = [panel for panel in PANELS if panel["type"] != "row"]
VARIABLES: dict[str, dict[str, Any]] = {one["name"]: one for one in DASHBOARD["templating"]["list"]}

GRAFANA_S_OWN = {"$__rate_interval": "5m"}


def resolved(expression: str) -> str:
    """As Prometheus gets it, with `All` chosen everywhere."""
    for name, value in GRAFANA_S_OWN.items():
        expression = expression.replace(name, value)
    return re.sub(r"\$(\w+)", lambda match: str(VARIABLES[match[1]]["allValue"]), expression)


def title(panel: dict[str, Any]) -> str:
    return f"{panel['id']} {panel['title']}"


def test_it_is_what_its_script_writes() -> None:
    assert (FOLDER / "dashboard.json").read_text() == runpy.run_path(str(FOLDER / "dashboard.py"))["text"]()


def test_panels_have_their_own_ids_and_places() -> None:
    ids = [panel["id"] for panel in PANELS]
    assert sorted(set(ids)) == sorted(ids)
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
    for one, other in combinations(PANELS, 2):
        a, b = one["gridPos"], other["gridPos"]
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or below, (title(one), title(other))


def test_rows_and_variables() -> None:
    assert [panel["title"] for panel in PANELS if panel["type"] == "row"] == [
        "Overview",
        "Endpoints",
        "The sidecar itself",
    ]
    assert list(VARIABLES) == ["datasource", "namespace", "pod", "service"]
    for name, variable in VARIABLES.items():
        if name != "datasource":
            metric, label = re.fullmatch(r"label_values\((\w+).*, (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr]
            assert label == name
            assert label in listed()[metric][1] | {"namespace", "pod"}
            assert variable["query"]["query"] == variable["definition"]


@pytest.mark.parametrize("panel", CHARTS, ids=title)
def test_a_panel_says_what_it_shows_and_asks_for_what_there_is(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["datasource"]["uid"] == "${datasource}"
    targets = panel["targets"]
    assert targets
    assert len({target["refId"] for target in targets}) == len(targets)
    for target in targets:
        expression = resolved(target["expr"])
        assert "$" not in expression
        assert not problems_of(expression)
        grouped = {
            label for group in re.findall(r"by \(([\w, ]*)\)", expression) for label in re.findall(r"\w+", group)
        }
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= grouped


@needs_promtool
def test_prometheus_parses_every_query(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel{panel['id']}:{target['refId']}", "expr": resolved(target["expr"])}
        for panel in CHARTS
        for target in panel["targets"]
    ]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", path)
