"""docs/metrics.md keeps its word: it lists every metric of ours, with its type and labels, and no other.

Labels are those of a scrape in which each metric has a series; that nothing else is exposed is asked of a real daemon.
"""

from __future__ import annotations

import re

from tests.support.daemon import Daemon
from tests.support.fake_metrics import USED, FakeSource, asked, busy, scraped
from tests.support.metrics_page import PAGE, Listed, listed


def exposed() -> Listed:
    found: Listed = {}
    for family in scraped(busy(), sources=[("venue", FakeSource())], aggregates=asked(), certificates=USED).values():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert family.samples, f"{name} has no series here, so its labels are not seen"
        labels = {label for sample in family.samples for label in sample.labels}
        found[name] = (family.type, labels - {"le"} if family.type == "histogram" else labels)
    return found


def test_every_metric_is_listed_as_it_is_and_no_other_is() -> None:
    assert listed() == exposed()


def test_the_daemon_exposes_what_is_listed() -> None:
    with Daemon("services: {venue: {url: 'http://127.0.0.1:1'}}") as daemon:
        text = daemon.probe("/metrics").body.decode()
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    ours = {name: kind for name, kind in types.items() if name.startswith("sidecar_")}
    assert ours == {name: kind for name, (kind, _) in listed().items()}
    page = PAGE.read_text()
    others = set(types) - set(ours)
    for named in re.findall(r"`((?:process|python)_\w+)(\*?)`", page):
        assert any(one == named[0] or (named[1] and one.startswith(named[0])) for one in others), named


def test_names_are_what_promtool_accepts() -> None:
    """Its linter: a counter ends in _total and nothing else does, units are base units and last, no type in a name.

    promtool itself reads a real scrape in tests/system/test_metrics.py.
    """
    for name, (kind, labels) in exposed().items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z]", name)
        assert (kind == "counter") is name.endswith("_total")
        assert not re.search(r"_(count|sum|bucket)$", name)
        assert not re.search(r"(gauge|counter|histogram|summary|milliseconds|_ms$|minutes|kilobytes)", name)
        assert re.search(r"seconds", name) is None or re.search(r"_seconds(_total)?$", name)
        assert not labels & {"le", "quantile", "job", "instance"}


def test_help_texts_are_sentences_of_their_own() -> None:
    texts = [family.documentation for family in scraped().values()]
    assert len(set(texts)) == len(texts)
    assert all(text[0].isupper() or text[0].isdigit() for text in texts)
    assert not any(text.endswith(".") for text in texts)
