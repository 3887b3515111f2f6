"""`sidecar quit` and a real sidecar: with a token and without, with a request in flight, and after the end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.client import Client, request_bytes
from tests.support.daemon import ROOT, Daemon
from tests.support.eventually import eventually
from tests.support.rig import Daemons
from tests.support.steps import answer, held
from tests.support.upstream import Upstream

DRAIN = "drain: {delay: 100ms, timeout: 10s}\n"
NONE = 'services: {venue: {endpoints: ["http://127.0.0.1:9"]}}\n'


def quit_sidecar(daemon: Daemon, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sidecar", "quit", "--admin", f"http://127.0.0.1:{daemon.ports.admin}"]
    return subprocess.run([*command, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=20)


def outcome(run: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return run.returncode, run.stdout, run.stderr


def test_it_ends_with_exit_code_0_and_once_it_is_gone_that_is_fine(start: Daemons) -> None:
    daemon = start(DRAIN + NONE)
    assert outcome(quit_sidecar(daemon)) == (0, "", "")
    assert daemon.wait(5) == 0, daemon.log
    assert outcome(quit_sidecar(daemon)) == (0, "", "")


def test_what_is_in_flight_is_completed_first_and_asking_twice_harms_nothing(start: Daemons) -> None:
    with Upstream(held(answer(body=b"late"))) as upstream:
        daemon = start(f'{DRAIN}services: {{venue: {{endpoints: ["{upstream.url}"]}}}}\n')
        with Client(daemon.proxy_port) as app:
            app.send(request_bytes("GET", "/venue/"))
            eventually(lambda: len(upstream.requests) == 1)
            for _ in range(2):
                assert outcome(quit_sidecar(daemon)) == (0, "", "")
            eventually(lambda: daemon.probe("/readyz").status == 503)
            assert daemon.process.poll() is None
            upstream.gate.set()
            response = app.read_response()
            assert (response.status, response.body, response.whole) == (200, b"late", True)
        assert daemon.wait(5) == 0, daemon.log
        assert daemon.log_lines()[-1]["cut_requests"] == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "needs a token: --token-file FILE or SIDECAR_ADMIN_TOKEN_FILE names the file that holds it"),
        ("donkey", "does not accept this token"),
    ],
)
def test_without_the_right_token_it_goes_on_and_says_why(
    start: Daemons, tmp_path: Path, given: str | None, words: str
) -> None:
    token, wrong = tmp_path / "token", tmp_path / "wrong"
    token.write_text("horse\n")
    wrong.write_text(f"{given}\n")
    daemon = start(f"admin: {{token_file: {token}}}\n{DRAIN}{NONE}")
    run = quit_sidecar(daemon, *(["--token-file", wrong] if given else []))
    assert run.returncode == 1
    assert words in run.stderr
    assert not {"horse", "donkey"} & set(run.stderr.split())
    assert daemon.probe("/readyz").status == 200
    assert outcome(quit_sidecar(daemon, "--token-file", token)) == (0, "", "")
    assert daemon.wait(5) == 0, daemon.log
