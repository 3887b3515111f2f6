"""`sidecar status`: once, as JSON, and watched: on a terminal, and where there is none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.cli.command import fine, sidecar
from tests.cli.fake_admin import FakeAdmin, Refuse, detail, reload_report, service, services
from tests.cli.terminal import Terminal
from tests.support.daemon import ROOT
from tests.support.eventually import eventually

WATCH = [sys.executable, "-m", "sidecar", "status", "--watch", "--interval", "0.1"]


def environment(admin: FakeAdmin, **more: str) -> dict[str, str]:
    return {**os.environ, "SIDECAR_ADMIN": admin.url, "TERM": "xterm-256color", **more}


def test_all_and_one() -> None:
    with FakeAdmin() as admin:
        assert "payment" in fine(sidecar("status", admin=admin))
        assert "10.0.0.7:3002" in fine(sidecar("status", "venue", admin=admin))
        assert json.loads(fine(sidecar("status", "--json", admin=admin))) == services()
        assert json.loads(fine(sidecar("status", "venue", "--json", admin=admin))) == detail()


def test_one_that_is_not_there() -> None:
    with FakeAdmin() as admin:
        result = sidecar("status", "vanue", admin=admin)
    assert (result.exit_code, result.stderr) == (1, "Error: there is no service 'vanue'; did you mean venue?\n")


def test_the_mistakes_of_a_rejected_file_are_fetched() -> None:
    error = {"file": "a.yaml", "line": 3, "column": 1, "key": "services.x", "message": "unknown key"}
    report = reload_report(result="rejected", errors=[error])
    brief = {"result": "rejected", "at": report["at"], "errors": 1, "warnings": 0}
    answers = {"GET /services": services(reload=brief), "GET /config": {"config": {}, "reload": report}}
    with FakeAdmin(answers) as admin:
        assert "a.yaml:3: services.x: unknown key" in fine(sidecar("status", admin=admin))
        assert json.loads(fine(sidecar("status", "--json", admin=admin)))["reload"] == brief


def test_json_is_not_watched() -> None:
    with FakeAdmin() as admin:
        assert sidecar("status", "--watch", "--json", admin=admin).exit_code == 2


@pytest.mark.parametrize("no_color", [False, True])
def test_watched_on_a_terminal(no_color: bool) -> None:
    states = iter(["closed", "open"])
    state = ["closed"]

    def changing(_: Any) -> Any:
        state[0] = next(states, state[0])
        breaker = service()["breaker"] | {"state": state[0]}
        return services(service(breaker=breaker))

    with FakeAdmin({"GET /services": changing}) as admin:
        terminal = Terminal(WATCH, environment(admin, **({"NO_COLOR": "1"} if no_color else {})))
        try:
            terminal.shows("closed")
            terminal.shows("open")
            assert "\x1b[?1049h" in terminal.seen, "the alternate screen, so that what was there comes back"
            assert ("\x1b[1;31mopen" in terminal.seen) is not no_color
            assert terminal.interrupt() == 0
            terminal.shows("\x1b[?1049l")
        finally:
            terminal.close()


def test_one_that_goes_away_and_comes_back() -> None:
    answers = iter([services(), Refuse(503, "gone", "it is gone for a while")])
    with FakeAdmin({"GET /services": lambda _: next(answers, services(service("back")))}) as admin:
        terminal = Terminal(WATCH, environment(admin))
        try:
            terminal.shows("it is gone for a while")
            terminal.shows("back")
            assert terminal.interrupt() == 0
        finally:
            terminal.close()


def test_watched_where_there_is_no_terminal() -> None:
    with FakeAdmin() as admin:
        process = subprocess.Popen(
            WATCH, cwd=ROOT, env=environment(admin), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            eventually(lambda: len(admin.asked) >= 3, timeout=10)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=10)
        finally:
            process.kill()
            process.wait(10)
    assert process.returncode == 0, err
    assert "\x1b" not in out
    assert out.count("service  breaker") >= 2


def test_a_sidecar_that_is_not_there_is_not_watched() -> None:
    result = sidecar("status", "--watch", "--admin", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "nothing listens" in result.stderr
