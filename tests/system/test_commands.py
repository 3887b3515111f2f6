"""The commands on the real daemon: what they say, their JSON, their exit codes."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.terminal import Terminal
from tests.support.daemon import ROOT, SIDECAR, Daemon
from tests.support.eventually import eventually
from tests.support.steps import answer
from tests.support.upstream import RefusedPort, Upstream

Run = subprocess.CompletedProcess[str]


@dataclass
class Operated:
    """A daemon with somebody who types commands."""

    daemon: Daemon
    endpoints: list[str]
    token_file: str = ""

    @property
    def environment(self) -> dict[str, str]:
        admin = {"SIDECAR_ADMIN": f"http://127.0.0.1:{self.daemon.ports.admin}", "TERM": "xterm-256color"}
        return os.environ | admin | ({"SIDECAR_ADMIN_TOKEN_FILE": self.token_file} if self.token_file else {})

    def run(self, *arguments: str) -> Run:
        return subprocess.run(
            [*SIDECAR, *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=30
        )

    def says(self, *arguments: str) -> str:
        """What a command prints that goes well."""
        run = self.run(*arguments)
        assert run.returncode == 0, run.stdout + run.stderr
        assert run.stderr == ""
        return run.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.says(*arguments, "--json"))

    def fails(self, *arguments: str) -> str:
        """What it says on stderr, where the call fails."""
        run = self.run(*arguments)
        assert run.returncode == 1, run.stdout + run.stderr
        return run.stderr

    def call(self, path: str, times: int = 1) -> None:
        for _ in range(times):
            connection = http.client.HTTPConnection("127.0.0.1", self.daemon.ports.proxy, timeout=10)
            connection.request("GET", path)
            connection.getresponse().read()
            connection.close()


@pytest.fixture
def operated() -> Iterator[Operated]:
    """`venue` has two endpoints and a route with a breaker of its own; nobody is behind `payment`."""
    with RefusedPort() as dead, Upstream(answer()) as one, Upstream(answer()) as two:
        config = f"""
services:
  venue:
    endpoints: ["{one.url}", "{two.url}"]
    timeout: {{attempt: 2s}}
    routes:
      - match: {{path: /reports, methods: [POST]}}
        breaker: {{volume_threshold: 5}}
  payment: {{url: "http://{dead.authority}", retry: {{max_retries: 0}}}}
"""
        with Daemon(config) as daemon:
            yield Operated(daemon, [one.authority, two.authority])


def test_status_of_all_and_of_one(operated: Operated) -> None:
    operated.call("/venue/x", 4)
    operated.call("/payment/x", 12)
    lines = operated.says("status").splitlines()
    assert lines[1].split() == ["service", "breaker", "ok", "req/s", "p50", "p99", "active", "endpoints;", "failures"]
    assert lines[2].split()[:3] == ["venue", "closed", "100%"]
    assert lines[3].startswith("payment  open, probe in ")
    assert lines[3].endswith("1; connect_failure")
    failing = operated.says("status", "payment")
    assert "circuit_open" in failing
    assert "ago: connect_failure, " in failing
    story = operated.says("explain", "GET", "/payment/x")
    assert "12 of its 12 requests failed: 10 connect_failure, 2 circuit_open (last: " in story
    one = operated.says("status", "venue")
    assert all(address in one for address in operated.endpoints)
    assert "breaker of POST /reports  closed" in one
    assert [service["name"] for service in operated.json("status")["services"]] == ["venue", "payment"]
    assert operated.json("status", "payment")["breaker"]["state"] == "open"


def test_a_terminal_sees_a_breaker_open(operated: Operated) -> None:
    operated.call("/payment/x")
    terminal = Terminal([*SIDECAR, "status", "--watch", "--interval", "0.2"], operated.environment)
    try:
        terminal.shows("payment")
        operated.call("/payment/x", 12)
        terminal.shows("open, probe in")
        assert terminal.interrupt() == 0
    finally:
        terminal.close()


def test_an_unknown_service_and_an_unknown_route(operated: Operated) -> None:
    for arguments in (["status", "vanue"], ["breaker", "vanue", "open"], ["events", "--service", "vanue"]):
        assert operated.fails(*arguments) == "Error: there is no service 'vanue'; did you mean venue?\n"
    assert "no route" in operated.fails("breaker", "venue", "open", "--route", "POST /nothing")


def test_a_breaker_is_forced_and_let_go(operated: Operated) -> None:
    assert operated.says("breaker", "venue", "open", "--for", "1m").startswith(
        "venue: breaker forced open for 1m, until"
    )
    assert operated.json("status", "venue")["breaker"]["forced"] == "open"
    assert "refuses it" in operated.says("explain", "GET", "/venue/x")
    assert operated.says("breaker", "venue", "auto").startswith("venue: breaker decides for itself")
    assert operated.json("breaker", "venue", "closed")["state"] == "closed"
    assert operated.json("breaker", "venue", "open", "--route", "POST /reports")["forced"] == "open"
    assert operated.json("status", "venue")["routes"][0]["breaker"]["forced"] == "open"
    run = operated.run("breaker", "venue", "open", "--for", "5")
    assert run.returncode == 2
    assert "needs a unit" in run.stderr
    run = operated.run("breaker", "venue", "open", "--for", "25h")
    assert run.returncode == 2
    assert "expected a duration from 1s to 24h" in run.stderr


def test_an_endpoint_is_drained_ejected_and_restored(operated: Operated) -> None:
    one, two = operated.endpoints
    assert operated.says("endpoint", "venue", one, "drain").startswith(f"venue: {one} drained for 10m")
    assert re.search(rf"{one}  drained for (10m|9m \d+s)", operated.says("status", "venue"))
    assert "Error: it is the last available endpoint" in operated.fails("endpoint", "venue", two, "eject")
    assert operated.says("endpoint", "venue", one, "restore") == f"venue: {one} restored, it is available\n"
    assert operated.json("endpoint", "venue", two, "eject", "--for", "30s")["ejected"] is True
    assert "no endpoint with that address" in operated.fails("endpoint", "venue", "10.0.0.9:1", "drain")


@pytest.mark.parametrize(
    ("method", "target", "host", "upstream"),
    [
        ("GET", "/venue/events/42?x=1", None, "/events/42?x=1"),
        ("POST", "/venue/reports/7", None, "/reports/7"),
        ("GET", "/events", "venue", "/events"),
        ("GET", "/nobody/x", None, None),
        ("GET", "http://elsewhere/x", None, None),
    ],
)
def test_a_file_alone_explains_what_the_daemon_explains(
    operated: Operated, method: str, target: str, host: str | None, upstream: str | None
) -> None:
    arguments = ["explain", method, target, *(["--host", host] if host else [])]
    live = operated.json(*arguments)
    alone = operated.json(*arguments, "--config", str(operated.daemon.path))
    assert live["upstream_target"] == upstream
    for key in ("service", "route", "by", "upstream_target", "policy", "deadline_s"):
        assert alone[key] == live[key], key
    assert live.keys() == alone.keys()
    assert alone["problem"] == live["problem"]
    if alone["problem"] or alone["words"][0] != live["words"][0]:
        assert alone["words"] == live["words"]


def test_explain_for_people(operated: Operated) -> None:
    said = operated.says("explain", "GET", "/venue/events/42")
    assert "upstream target  /events/42" in said
    assert "breaker          closed, admits it" in said
    assert ["timeout.attempt", "service,", "line", "6", "2s"] in [line.split() for line in said.splitlines()]


def test_the_past_and_what_happens_now(operated: Operated) -> None:
    operated.call("/payment/x", 12)
    eventually(lambda: "payment: breaker open" in operated.says("events", "--service", "payment"), timeout=10)
    assert operated.json("events")["events"][0]["id"] == 1
    follower = subprocess.Popen(
        [*SIDECAR, "events", "--follow", "--json", "--lines", "0"],
        cwd=ROOT, env=operated.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert follower.stdout is not None
        before = operated.json("events")["events"][-1]["id"]
        # Until it listens, which nothing outside can see, the same is done again.
        os.set_blocking(follower.stdout.fileno(), False)

        def told() -> str:
            operated.says("breaker", "venue", "auto")
            line = follower.stdout.readline() if follower.stdout else ""
            assert line
            return line

        event = json.loads(eventually(told, timeout=15))
        assert event["id"] > before
        assert (event["kind"], event["service"]) == ("operator", "venue")
        follower.send_signal(2)
        assert follower.wait(10) == 0
    finally:
        follower.kill()
        follower.communicate(timeout=10)


def test_the_log_is_louder_for_a_while(operated: Operated) -> None:
    assert operated.says("log", "debug", "--access", "all", "--for", "1m").startswith("log level debug, access all for")
    assert operated.json("log", "--access", "off")["access"] == "off"
    assert operated.run("log").returncode == 2


def test_what_a_reload_would_change_and_the_reload(operated: Operated, tmp_path: Path) -> None:
    daemon = operated.daemon
    url = operated.environment["SIDECAR_ADMIN"]
    assert operated.says("check", "--config", str(daemon.path), "--against", url) == (
        f"a reload would change nothing at {url}\n"
    )
    assert operated.says("reload") == "reloaded: nothing changed\n"
    text = daemon.path.read_text()
    wanted = tmp_path / "wanted.yaml"
    wanted.write_text(text.replace("attempt: 2s", "attempt: 3s").replace(str(daemon.ports.probe), "1"))
    lines = operated.says("check", "--config", str(wanted), "--against", url).splitlines()
    assert lines == [
        f"listen.probe: 127.0.0.1:{daemon.ports.probe} (file, line 1) -> 127.0.0.1:1 (file, line 1); needs a restart",
        "services.venue.timeout.attempt: 2s (service, line 6) -> 3s (service, line 6); inherited by 1 more",
        f"a reload would change 1 key at {url}; 1 key changes only with a restart",
    ]
    daemon.path.write_text(text.replace("attempt: 2s", "attempt: 3s"))
    operated.says("reload")
    assert "service, line 6  3s" in operated.says("explain", "GET", "/venue/x")
    daemon.path.write_text(text.replace("attempt: 2s", "attempt: soon"))
    run = operated.run("reload", "--json")
    assert run.returncode == 1
    assert json.loads(run.stdout)["errors"][0]["key"] == "services.venue.timeout.attempt"
    assert f"{daemon.path}:6: services.venue.timeout.attempt: expected a duration" in run.stderr
    assert "the file was rejected" in operated.says("status")


def test_a_drain_ends_it(operated: Operated) -> None:
    assert "is draining" in operated.says("drain", "--yes")
    assert operated.daemon.wait(30) == 0
    assert "nothing listens at" in operated.fails("status")


def test_a_token(tmp_path: Path) -> None:
    token, wrong = tmp_path / "token", tmp_path / "wrong"
    token.write_text("a-long-enough-secret-token\n")
    wrong.write_text("another-long-enough-token\n")
    with Upstream(answer()) as upstream:
        config = f'admin: {{token_file: "{token}"}}\nservices: {{venue: {{url: "{upstream.url}"}}}}\n'
        with Daemon(config) as daemon:
            assert "needs a token: --token-file" in Operated(daemon, []).fails("breaker", "venue", "open")
            assert "does not accept this token" in Operated(daemon, [], str(wrong)).fails("breaker", "venue", "open")
            assert "forced open" in Operated(daemon, [], str(token)).says("breaker", "venue", "open")


def test_a_shell_completes_services_in_time(operated: Operated) -> None:
    asked = {"_SIDECAR_COMPLETE": "bash_complete", "COMP_WORDS": "sidecar breaker v", "COMP_CWORD": "2"}

    def completed() -> list[str]:
        run = subprocess.run(
            SIDECAR, cwd=ROOT, env=operated.environment | asked, capture_output=True, text=True, timeout=20
        )
        return run.stdout.split()

    # On a machine that is busy with other things, the time that a shell waits may not be enough at once.
    eventually(lambda: completed() == ["plain,venue"], timeout=20)
