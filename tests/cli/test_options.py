"""What the commands that call a running sidecar have in common."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from sidecar.cli import config_file, options
from sidecar.cli.main import main
from sidecar.cli.options import names_in_time, unknown_service
from tests.cli.command import fine, sidecar
from tests.cli.fake_admin import FakeAdmin


def completed(arguments: list[str], incomplete: str) -> list[str]:
    complete = ShellComplete(main, {}, "sidecar", "_SIDECAR_COMPLETE")
    return [item.value for item in complete.get_completions(arguments, incomplete)]


def test_the_token_comes_out_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("s3cret\n")
    with FakeAdmin(token="s3cret") as admin:
        assert sidecar("status", admin=admin).exit_code == 1
        fine(sidecar("status", "--token-file", str(path), admin=admin))
        fine(sidecar("status", admin=admin, env={"SIDECAR_ADMIN_TOKEN_FILE": str(path)}))


@pytest.mark.parametrize("content", [None, b"", b"two words", b"caf\xc3\xa9", b"a\nb"])
def test_a_token_file_that_is_of_no_use(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    result = sidecar("status", "--token-file", str(path))
    assert result.exit_code == 2
    assert str(path) in result.stderr
    assert "two" not in result.stderr


def test_a_url_that_is_none_is_wrong_usage() -> None:
    result = sidecar("status", "--admin", "ftp://here")
    assert result.exit_code == 2
    assert "--admin: expected a URL such as" in result.stderr


def test_with_json_a_problem_is_printed_too() -> None:
    with FakeAdmin() as admin:
        result = sidecar("status", "nobody", "--json", admin=admin)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["status"] == 404
    assert "there is no service 'nobody'" in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5", "needs a unit"),
        ("soon", "expected a duration"),
        ("0s", "expected a duration from 1s to 24h"),
        ("999ms", "expected a duration from 1s to 24h"),
        ("25h", "expected a duration from 1s to 24h"),
        ("-1s", "expected"),
    ],
)
def test_a_bad_duration_is_wrong_usage(text: str, message: str) -> None:
    with FakeAdmin() as admin:
        result = sidecar("breaker", "venue", "open", f"--for={text}", admin=admin)
        assert admin.asked == []
    assert result.exit_code == 2
    assert message in result.stderr


def test_unknown_services() -> None:
    assert unknown_service("vanue", ["venue", "auth"]) == "there is no service 'vanue'; did you mean venue?"
    assert unknown_service("x", ["venue", "auth"]) == "there is no service 'x'; the services are venue, auth"
    assert unknown_service("x", []) == "there is no service 'x'"


def test_names_are_completed_from_the_running_sidecar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "COMPLETION_S", 10.0)
    with FakeAdmin() as admin:
        monkeypatch.setenv("SIDECAR_ADMIN", admin.url)
        assert completed(["status"], "") == ["venue", "payment"]
        assert completed(["breaker"], "ve") == ["venue"]
        assert completed(["events", "--service"], "p") == ["payment"]


def test_names_are_completed_from_the_configuration_where_none_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text('services: {auth: {url: "http://auth"}, venue: {url: "http://venue"}}')
    monkeypatch.setattr(config_file, "DEFAULT_CONFIGS", (path,))
    monkeypatch.setattr(options, "COMPLETION_S", 10.0)
    monkeypatch.setenv("SIDECAR_ADMIN", "http://127.0.0.1:1")
    assert names_in_time({"admin_url": "http://127.0.0.1:1"}) == ["auth", "venue"]
    path.write_text("services: {auth: {ulr: x}}")
    assert names_in_time({"admin_url": "http://127.0.0.1:1"}) == []
    assert names_in_time({"admin_url": "ftp://"}) == []


def test_a_shell_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_file, "DEFAULT_CONFIGS", ())
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        began = time.monotonic()
        assert names_in_time({"admin_url": f"http://127.0.0.1:{deaf.getsockname()[1]}"}) == []
        assert time.monotonic() - began < 3
