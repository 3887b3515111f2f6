"""An operator edits a ConfigMap, and the commands that docs/kubernetes.md runs in the pod show what came of it."""

from __future__ import annotations

import http.client
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import ROOT, Daemon
from tests.support.eventually import eventually
from tests.support.rig import Daemons
from tests.system.test_reload import config_map


def venue(attempt: str) -> str:
    return f'services: {{venue: {{endpoints: ["http://127.0.0.1:9"], timeout: {attempt}}}}}\n'


def mounted(path: Path, config: str) -> None:
    config_map(path.parent, 0, config)
    path.symlink_to("..data/sidecar.yaml")


@pytest.fixture
def daemon(start: Daemons) -> Daemon:
    return start(venue("{attempt: 1s}"), write=mounted)


def said(daemon: Daemon, *arguments: str) -> str:
    """By `kubectl exec POD -c sidecar -- sidecar ...`, which has no terminal."""
    command = [sys.executable, "-m", "sidecar", *arguments, "--admin", f"http://127.0.0.1:{daemon.ports.admin}"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert run.returncode == 0, run.stderr
    return run.stdout


def edit(daemon: Daemon, version: int, config: str, result: str) -> None:
    config_map(daemon.path.parent, version, daemon.ports.yaml + config)
    eventually(lambda: daemon.metric("sidecar_config_reloads_total", result=result) == 1)


def test_an_edited_config_map_shows_in_events_and_explain(daemon: Daemon) -> None:
    edit(daemon, 1, venue("{attempt: 3s}"), "ok")
    (line,) = [line for line in said(daemon, "events").splitlines() if " reload " in line]
    assert "configuration reloaded" in line
    assert line.endswith("trigger=file generation=2 changed=services.venue.timeout.attempt")
    (line,) = [line for line in said(daemon, "explain", "GET", "/venue/x").splitlines() if "timeout.attempt" in line]
    assert line.split()[-1] == "3s"
    assert said(daemon, "status").startswith("1 service, generation 2\n")


def test_a_mistake_in_it_shows_in_status_and_events_with_its_line(daemon: Daemon) -> None:
    edit(daemon, 1, venue("{atempt: 3s}"), "rejected")
    mistake = "sidecar.yaml:2: services.venue.timeout.atempt: unknown key; did you mean attempt?"
    assert mistake in " ".join(said(daemon, "status").split())
    assert "configuration rejected: the last good one stays in force" in said(daemon, "events")
    assert mistake in said(daemon, "events")
    edit(daemon, 2, venue("{attempt: 2s}"), "ok")
    assert "rejected" not in said(daemon, "status")


@pytest.mark.parametrize("host", ["localhost:15000", "localhost:8000", "127.0.0.1:15000"])
def test_the_dashboard_through_a_port_forward(daemon: Daemon, host: str) -> None:
    """The connection ends on the pod's loopback, and the browser says where it thinks that it is."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.ports.admin, timeout=5)
    try:
        connection.request("GET", "/", headers={"Host": host})
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Content-Type")) == (200, "text/html; charset=utf-8")
        answer.read()
        headers = {"Host": host, "Origin": f"http://{host}", "Content-Type": "application/json"}
        connection.request(
            "POST", "/log", b'{"level": "debug", "for": "1m"}', headers | {"Sec-Fetch-Site": "same-origin"}
        )
        assert connection.getresponse().status == 200
    finally:
        connection.close()
