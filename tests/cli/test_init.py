"""`sidecar init`: what it writes can be served with, and nothing is overwritten."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from sidecar.cli import init
from sidecar.config.reference import reference_text
from sidecar.config.units import parse_duration
from sidecar.policy.settings import OutlierSettings, Policy
from tests.cli.command import fine, sidecar
from tests.config.yaml_values import values_of
from tests.support.daemon import Daemon

STARTER = init.STARTER.read_text()


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("VENUE_SERVICE_URL", "PAYMENT_SERVICE_URL"):
        monkeypatch.delenv(name, raising=False)


def test_the_starter_is_written_and_the_next_step_is_said() -> None:
    assert fine(sidecar("init")).splitlines() == [
        "wrote sidecar.yaml: three services to start from",
        "next: put your services' addresses in, then `sidecar check` and `sidecar run`",
    ]
    assert Path("sidecar.yaml").read_text() == STARTER


def test_the_reference_is_written_as_it_is() -> None:
    said = fine(sidecar("init", "--full", "my reference.yaml"))
    assert "then `sidecar check --config 'my reference.yaml'` and `sidecar run --config 'my reference.yaml'`" in said
    assert Path("my reference.yaml").read_text() == reference_text()


@pytest.mark.parametrize("arguments", [[], ["--full"]])
def test_what_is_written_passes_the_check_without_a_warning(arguments: list[str]) -> None:
    fine(sidecar("init", *arguments))
    result = sidecar("check")
    assert (result.exit_code, result.stderr) == (0, "configuration: sidecar.yaml\n")


def test_the_daemon_serves_with_the_starter() -> None:
    with Daemon(STARTER) as daemon:
        assert daemon.probe("/readyz").status == 200


def test_a_folder_gets_a_file_of_the_usual_name() -> None:
    Path("config").mkdir()
    assert "wrote config/sidecar.yaml" in fine(sidecar("init", "config"))
    assert Path("config/sidecar.yaml").is_file()


@pytest.mark.parametrize("arguments", [[], ["--full"], ["sidecar.yaml"], ["."]])
def test_a_file_that_exists_is_not_touched(arguments: list[str]) -> None:
    Path("sidecar.yaml").write_text("mine")
    result = sidecar("init", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: sidecar.yaml exists already, and was left as it is.\n"
    assert Path("sidecar.yaml").read_text() == "mine"


def test_a_link_to_nothing_is_not_followed() -> None:
    Path("sidecar.yaml").symlink_to("elsewhere.yaml")
    assert sidecar("init").exit_code == 2
    assert not Path("elsewhere.yaml").exists()


def test_a_folder_that_is_not_there_is_not_made() -> None:
    Path("file").touch()
    for folder in ("nowhere", "file"):
        result = sidecar("init", f"{folder}/sidecar.yaml")
        assert (result.exit_code, result.stderr) == (2, f"Error: {folder} is not a folder. Create it first.\n")


def test_a_disk_that_is_full_leaves_no_half_file(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def open_full(self: Path, *arguments: object, **options: object) -> object:
        file = opened(self, *arguments, **options)  # type: ignore[call-overload]

        def write(_: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        if arguments == ("x",):
            file.write = write
        return file

    monkeypatch.setattr(Path, "open", open_full)
    result = sidecar("init")
    assert (result.exit_code, result.stderr) == (1, "Error: sidecar.yaml cannot be written: No space left on device.\n")
    assert not Path("sidecar.yaml").exists()


def test_a_name_that_cannot_be_is_a_failure_in_words() -> None:
    result = sidecar("init", "x" * 300)
    assert result.exit_code == 1
    assert result.stderr.endswith("cannot be written: File name too long.\n")


def test_the_starter_explains_retries_and_ejection_and_shows_three_services() -> None:
    found = values_of(STARTER)
    assert len(found["services"]) == 3
    assert found["defaults"]["outlier"] == {"consecutive_failures": 5}
    assert found["defaults"]["retry"] == {"max_retries": 2}


def test_the_defaults_that_the_starter_names_are_the_defaults() -> None:
    named = re.findall(r"Default: ([^.]+)\.$", STARTER, re.MULTILINE)
    policy = Policy()
    assert [parse_duration(named[0]), parse_duration(named[1])] == [policy.timeout.attempt, policy.timeout.request]
    assert int(named[2]) == policy.retry.max_retries
    assert policy.outlier is not None
    assert int(named[3]) == policy.outlier.consecutive_failures
    assert float(named[4]) == policy.breaker.error_threshold_percentage
    assert len(named) == 5


def test_the_figures_in_the_starters_comments_are_those_of_the_policy() -> None:
    text = " ".join(line.strip().removeprefix("# ") for line in STARTER.splitlines())
    policy, outlier = Policy(), OutlierSettings()
    assert (
        f"at most {policy.retry.budget.min_per_second:g} retries a second, and {policy.retry.budget.ratio:.0%}" in text
    )
    assert "safe to repeat are: GET, HEAD, OPTIONS, PUT, DELETE" in text
    assert policy.retry.methods == {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"}
    assert f"gets no requests for {outlier.base_ejection_time:g} s: it is ejected" in text
    breaker = policy.breaker
    assert f"in {breaker.rolling_count_timeout:g} s failed (of at least {breaker.volume_threshold} calls)" in text
    assert f"After {breaker.reset_timeout:g} s it lets one call through" in text


def test_an_editor_finds_the_schema_where_the_starter_says() -> None:
    lines = STARTER.splitlines()
    assert lines[0] == "# yaml-language-server: $schema=sidecar.schema.json"
    assert "#   sidecar schema > sidecar.schema.json " in STARTER
