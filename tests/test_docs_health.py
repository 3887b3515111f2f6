"""docs/health.md keeps its word: its configuration loads, and its answer is what a daemon with it says."""

from __future__ import annotations

import json
import re
from typing import Any

from sidecar.config.load import loads
from sidecar.health.report import REASONS
from tests.support.daemon import ROOT, Daemon
from tests.support.eventually import eventually
from tests.support.redis_server import RedisServer
from tests.support.steps import answer
from tests.support.upstream import RefusedPort, Upstream

PATH = ROOT / "docs" / "health.md"
TEXT = PATH.read_text()
BLOCKS = dict(re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE))


def without_latency(report: Any) -> Any:
    """The report with a sign where a latency stands."""
    if not isinstance(report, dict):
        return report
    return {key: key if key == "latency_ms" else without_latency(value) for key, value in report.items()}


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert len(re.findall("^```", TEXT, re.MULTILINE)) == 2 * len(BLOCKS)
    assert set(BLOCKS) == {"yaml", "sh", "json"}
    assert BLOCKS["sh"] == "curl -s localhost:15021/health\n"


def test_the_configuration_loads() -> None:
    config = loads(BLOCKS["yaml"], "health.md", {"REDIS_PASSWORD": "hunter2"})
    assert config.checks["redis"].url.password == "hunter2"
    assert config.services["venue"].required


def test_the_answer_is_what_a_daemon_says() -> None:
    with (
        RedisServer(password="hunter2") as redis,
        RefusedPort() as dead,
        RefusedPort() as queue,
        Upstream(answer()) as venue,
        Upstream() as event,
    ):
        config = BLOCKS["yaml"]
        for written, real in (
            ("10.0.0.7:3002", venue.authority),
            ("10.0.0.8:3002", dead.authority),
            ("event-service:3003", event.authority),
            ("redis:6379", f"127.0.0.1:{redis.port}"),
            ("queue:5672", queue.authority),
            ("interval: 5s", "interval: 500ms"),
        ):
            assert config.count(written) == 1, written
            config = config.replace(written, real)
        with Daemon(config, within=("env", "REDIS_PASSWORD=hunter2")) as daemon:
            path = BLOCKS["sh"].split("localhost:15021")[1].strip()

            def answers() -> None:
                probed = daemon.probe(path)
                assert probed.status == 200
                found, wanted = json.loads(probed.body), json.loads(BLOCKS["json"])
                assert json.dumps(without_latency(found)) == json.dumps(without_latency(wanted))

            eventually(answers, timeout=8)


def test_it_names_every_reason() -> None:
    (listed,) = re.findall(r"`reason` is one of (.*?)\. The report contains no addresses", TEXT, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", listed)) == REASONS


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (PATH.parent / target).is_file(), target
