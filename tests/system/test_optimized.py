"""The daemon without docstrings and assertions (`python -OO`), as in the image: nothing may depend on them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.daemon import ROOT, SIDECAR
from tests.support.eventually import eventually
from tests.support.rig import Rig
from tests.support.steps import answer, reset

CONFIG = """
defaults: {retry: {backoff: {base: 1ms, max: 1ms}}, breaker: {volume_threshold: 3, reset_timeout: 60s}}
services:
  venue: {url: "$venue", fallback: [{status: 200, body: "kept"}]}
  ticket: {url: "$ticket", health: {path: /health, interval: 100ms}}
aggregates:
  page: {parts: {venue: {service: venue, path: /venue}}}
"""

EVERY_HELP = """
import json, click
from sidecar.cli.main import main
context = click.Context(main, info_name="sidecar", terminal_width=100)
names = main.list_commands(context)
found = {name: main.get_command(context, name) for name in names} | {"": main}
print(json.dumps({name: one.get_help(click.Context(one, info_name=name)) for name, one in found.items()}))
"""

DOCUMENT = """
import json
from sidecar.admin.openapi import document
print(json.dumps(document(), default=str))
"""


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(CONFIG, "venue", "ticket", within=("env", "PYTHONOPTIMIZE=2")) as rig:
        yield rig


def test_the_daemon_serves_steers_and_stops(rig: Rig) -> None:
    rig["ticket"].play(answer(200, b"here"))
    rig["venue"].play(reset, answer(200, b'{"id": 1}', [("Content-Type", "application/json")]))
    with rig.client() as client:
        assert client.ask("POST", "/ticket/x", body=b"x" * 100_000).body == b"here"
        assert json.loads(client.ask("GET", "/venue/1").body) == {"id": 1}  # by a retry
        rig["venue"].play(answer(500))
        assert b'"partial":true' in client.ask("GET", "/_aggregate/page").body
        for _ in range(5):
            client.ask("GET", "/venue/2")
        assert client.ask("GET", "/venue/3").body == b"kept"
        assert client.ask("GET", "/nobody/1").status == 404
    assert rig.daemon.metric("sidecar_breaker_state", service="venue", state="open") == 1
    assert rig.daemon.probe("/health").status in (200, 503)
    asked = subprocess.run(
        [*SIDECAR, "status", "--json", "--admin", f"http://127.0.0.1:{rig.daemon.ports.admin}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONOPTIMIZE": "2"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert asked.returncode == 0, asked.stderr
    rig.daemon.path.write_text("services: [")
    rig.daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: rig.daemon.metric("sidecar_config_reloads_total", result="rejected") == 1)
    rig.daemon.process.send_signal(signal.SIGTERM)
    assert rig.daemon.process.wait(30) == 0


@pytest.mark.parametrize("script", [EVERY_HELP, DOCUMENT], ids=["helps", "openapi"])
def test_what_users_read_has_its_texts(script: str) -> None:
    def said(level: str) -> object:
        command = [sys.executable, "-c", script]
        run = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONOPTIMIZE": level}, capture_output=True, text=True, timeout=60
        )
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout)

    ordinary = said("0")
    assert said("2") == ordinary
