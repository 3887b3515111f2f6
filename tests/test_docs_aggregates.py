"""docs/aggregates.md keeps its word: its configuration loads, and its answers are what a daemon with it says."""

from __future__ import annotations

import json
import re

from sidecar.config.aggregates import MAX_PARTS
from sidecar.config.load import loads
from sidecar.config.schema import Aggregate
from sidecar.proxy.core import ANSWER_BUDGET
from sidecar.proxy.exchange.inner_call import MAX_BODY
from sidecar.proxy.exchange.path_values import MAX_TARGET
from tests.support.client import ask
from tests.support.daemon import ROOT, Daemon
from tests.support.steps import answer
from tests.support.upstream import Upstream

TEXT = (ROOT / "docs" / "aggregates.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
CONFIG, COMMAND, WHOLE, PARTIAL, PASSING, STOOD_IN = [text for _, text in BLOCKS]


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert [language for language, _ in BLOCKS] == ["yaml", "sh", "json", "json", "yaml", "json"]
    assert len(re.findall("^```", TEXT, re.MULTILINE)) == 2 * len(BLOCKS)


def test_the_configuration_loads() -> None:
    page = loads(CONFIG, "aggregates.md", {}).aggregates["venue-page"]
    assert page.timeout == Aggregate(parts={}).timeout == 2.0
    assert [part.required for part in page.parts.values()] == [True, False]


def test_the_bounds_are_those_of_the_code() -> None:
    assert (MAX_PARTS, MAX_BODY, ANSWER_BUDGET, MAX_TARGET) == (32, 1 << 20, 32 << 20, 8 << 10)
    for words in ("at most 32 parts", "over 1 MiB", "over 32 MiB", "beyond 8 KiB"):
        assert words in TEXT


def test_the_answers_are_what_a_daemon_says() -> None:
    found = re.fullmatch(r"curl -s 'localhost:15001(/\S+)'\n", COMMAND)
    assert found is not None
    whole = json.loads(WHOLE)
    with Upstream(answer(200, json.dumps(whole["venue"]).encode())) as venue:
        event = Upstream(answer(200, json.dumps(whole["events"]).encode()))
        config = CONFIG.replace("venue-service:3002", venue.authority).replace("event-service:3003", event.authority)
        with Daemon(config) as daemon:
            assert ask(daemon.proxy_port, "GET", found[1]).json() == whole
            assert (venue.last.target, event.last.target) == ("/venues/42", "/events?venue=42")
            event.stop()
            assert ask(daemon.proxy_port, "GET", found[1]).json() == json.loads(PARTIAL)
            event.stop()


def test_a_part_that_a_fallback_gave_is_named() -> None:
    whole = json.loads(WHOLE)
    with Upstream(answer(200, json.dumps(whole["venue"]).encode())) as venue:
        config = CONFIG.replace("venue-service:3002", venue.authority)
        config += "defaults: {fallback: [{status: 200, body: '[]'}]}\n"
        with Daemon(config) as daemon:
            assert ask(daemon.proxy_port, "GET", "/_aggregate/venue-page?id=42").json() == json.loads(STOOD_IN)


def test_an_answer_that_is_handed_on() -> None:
    assert found_in(TEXT, "Content-Type, Content-Language, WWW-Authenticate, Retry-After and Allow")
    with Upstream() as venue, Daemon(PASSING.replace("venue-service:3002", venue.authority)) as daemon:
        for status in (404, 403):
            venue.play(answer(status, b"none", [("Content-Type", "text/plain")]))
            found = ask(daemon.proxy_port, "GET", "/_aggregate/venue-page?id=42")
            assert (found.status, found.body, found.get("content-type")) == (status, b"none", "text/plain")
        venue.play(answer(410))
        assert ask(daemon.proxy_port, "GET", "/_aggregate/venue-page?id=42").status == 502
        assert daemon.metric("sidecar_aggregates_total", code="404", reason="passed") == 1


def test_the_times_of_the_page_are_the_defaults() -> None:
    config = loads(CONFIG, "aggregates.md", {})
    assert "with the defaults (2 s and 5 s)" in TEXT.replace("\n", " ")
    assert (Aggregate(parts={}).timeout, config.services["venue"].policy.timeout.attempt) == (2.0, 5.0)


def found_in(text: str, words: str) -> bool:
    return words in " ".join(text.split())
