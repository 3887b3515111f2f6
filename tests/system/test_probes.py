"""Probes of a real daemon whose event loop does not run: what a kubelet is told, and when."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.rig import Rig
from tests.support.steps import answer

CONFIG = """
services:
  venue: {url: "$venue"}
"""

BLOCKED_S = 4.0
HOOK = f"""
import signal, time

def block(*_):
    from sidecar.admin import probe_answers
    probe_answers.STUCK_S = 1.5
    time.sleep({BLOCKED_S})

signal.signal(signal.SIGUSR1, block)
"""
"""Run at the start of the process. On SIGUSR1 the main thread sleeps, and with it the event loop of the requests."""


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    with Rig(CONFIG, "venue", within=("env", f"PYTHONPATH={tmp_path}")) as rig:
        rig["venue"].play(answer(200, b"here"))
        yield rig


def test_probes_are_answered_while_the_event_loop_is_blocked_and_fail_when_that_lasts(rig: Rig) -> None:
    def asked(path: str) -> int:
        began = time.monotonic()
        status = rig.daemon.probe(path, timeout=BLOCKED_S).status
        assert time.monotonic() - began < BLOCKED_S / 4
        return status

    rig.daemon.process.send_signal(signal.SIGUSR1)
    assert asked("/livez") == 200
    eventually(lambda: asked("/livez") == 503, timeout=BLOCKED_S)
    assert asked("/readyz") == 503
    eventually(lambda: asked("/livez") == 200)
    assert asked("/readyz") == 200
    with rig.client() as client:
        assert client.ask("GET", "/venue/x").status == 200
