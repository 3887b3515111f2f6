"""Reads docs/metrics.md as a table, and checks the names in PromQL expressions against it."""

from __future__ import annotations

import re

from sidecar.telemetry.loop_lag import LAG_BUCKETS_S
from tests.support.daemon import ROOT

PAGE = ROOT / "docs/metrics.md"
Listed = dict[str, tuple[str, set[str]]]

_ROW = re.compile(r"^\| `(sidecar_\w+)` \| (\w+) \| (.*?)\| (.+?) \| (.+?) \|$", re.MULTILINE)
_SELECTOR = re.compile(r"\b(up|(?:sidecar|process)_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_OF_THE_SCRAPE = {"namespace", "pod", "instance", "job"}


def listed() -> Listed:
    """Name -> type and labels."""
    found = _ROW.findall(PAGE.read_text())
    names = [name for name, *_ in found]
    assert sorted(names) == sorted(set(names)), "a metric is listed twice"
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels, *_ in found}


def problems_of(expression: str) -> list[str]:
    """The names in a PromQL expression that the page lacks: metrics, labels, and label values that are words."""
    page, known = PAGE.read_text(), listed()
    found: list[str] = []
    labels_of_all = set(_OF_THE_SCRAPE)
    selectors = _SELECTOR.findall(expression)
    if not selectors:
        found.append("no metric at all")
    for name, matchers in selectors:
        base = re.sub(r"_(bucket|count|sum)$", "", name)
        labels = set(_OF_THE_SCRAPE)
        if name.startswith("process_"):
            if f"`{name}`" not in page:
                found.append(f"metric {name}")
        elif name != "up":
            histogram = base in known and known[base][0] == "histogram"
            if not histogram and name not in known:
                found.append(f"metric {name}")
                continue
            labels |= known[base][1] | {"le"} if histogram else known[name][1]
        labels_of_all |= labels
        for label, operator, value in _MATCHER.findall(matchers):
            if label not in labels:
                found.append(f"label {label} of {name}")
            if label == "le":
                if float(value) not in LAG_BUCKETS_S:
                    found.append(f"bucket {value} of {name}")
            elif operator in ("=", "!=") and value and label not in _OF_THE_SCRAPE and f"`{value}`" not in page:
                found.append(f"value {value} of {label}")
    for group in re.findall(r"(?:by|ignoring|on) ?\(([\w, ]*)\)", expression):
        found += [f"label {label}" for label in re.findall(r"\w+", group) if label not in labels_of_all]
    return found
