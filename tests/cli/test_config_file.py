"""Where a configuration is looked for, which file is taken, and what is said where none can be used."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from sidecar.cli import config_file
from sidecar.cli.config_file import NoConfiguration, default_config, find_config, load_or_exit, refuse_unusable


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, ...]:
    """The places as they are, with all of them below a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "etc").mkdir()
    found = (*config_file.DEFAULT_CONFIGS[:2], tmp_path / "etc" / "sidecar.yaml")
    monkeypatch.setattr(config_file, "DEFAULT_CONFIGS", found)
    return found


def test_the_places() -> None:
    assert list(map(str, config_file.DEFAULT_CONFIGS)) == [
        "sidecar.yaml",
        "config/sidecar.yaml",
        "/etc/sidecar/sidecar.yaml",
    ]


def test_the_first_place_that_has_a_file(places: tuple[Path, ...]) -> None:
    assert default_config() is None
    for path in reversed(places):
        path.touch()
        assert default_config() == find_config() == path


def test_which_file_is_taken_is_said_on_request(places: tuple[Path, ...], capsys: pytest.CaptureFixture[str]) -> None:
    places[1].touch()
    find_config()
    assert capsys.readouterr() == ("", "")
    find_config(say=True)
    assert capsys.readouterr() == ("", "configuration: config/sidecar.yaml\n")


def test_with_no_file_anywhere_the_message_names_the_places_and_what_to_do(places: tuple[Path, ...]) -> None:
    with pytest.raises(NoConfiguration) as refused:
        find_config()
    assert refused.value.exit_code == 2
    assert refused.value.message.splitlines() == [
        "there is no configuration file. These places were searched:",
        *(f"  {path.absolute()}" for path in places),
        "`sidecar init` writes a starter file; --config FILE names a file elsewhere.",
    ]


def test_a_place_that_cannot_be_searched_is_passed_over_and_named_with_the_reason(places: tuple[Path, ...]) -> None:
    """A folder that leads back to itself is one that even root cannot search."""
    places[1].parent.rmdir()
    places[1].parent.symlink_to("config")
    with pytest.raises(NoConfiguration, match=r"config/sidecar\.yaml \(Too many levels of symbolic links\)\n"):
        find_config()
    places[2].touch()
    assert find_config() == places[2]


def test_what_is_unusable_in_a_place_is_not_passed_over(places: tuple[Path, ...]) -> None:
    """The next place might have another file: to serve with that one would be a surprise."""
    places[2].touch()
    places[1].symlink_to("gone.yaml")
    with pytest.raises(NoConfiguration, match=r"^config/sidecar\.yaml is a link to gone\.yaml, and there is no such"):
        find_config()
    places[0].mkdir()
    with pytest.raises(NoConfiguration, match=r"^sidecar\.yaml is a folder.*mounted from a file that does not exist"):
        find_config()


def test_a_path_that_leads_nowhere_or_to_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "sidecar.yaml"
    for nothing in (file, tmp_path / "gone" / "sidecar.yaml"):
        with pytest.raises(NoConfiguration, match=r"there is no such file\. `sidecar init FILE` writes"):
            refuse_unusable(nothing)
    with pytest.raises(NoConfiguration, match=r"is a folder, not a configuration file\.$"):
        refuse_unusable(tmp_path)
    file.touch()
    with pytest.raises(NoConfiguration, match="there is no such file"):
        refuse_unusable(file / "below.yaml")
    with pytest.raises(NoConfiguration, match=re.escape(f"is a folder. Did you mean {file}?")):
        refuse_unusable(tmp_path)
    refuse_unusable(file)
    (tmp_path / "link.yaml").symlink_to(file)
    refuse_unusable(tmp_path / "link.yaml")


def test_a_name_that_cannot_be_is_a_failure_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("x" * 300)
    refuse_unusable(path)
    with pytest.raises(SystemExit):
        load_or_exit(path)
    assert "cannot be read: File name too long\n" in capsys.readouterr().err


def test_a_pipe_is_as_good_as_a_file(tmp_path: Path) -> None:
    """A shell's <(command) is one."""
    os.mkfifo(tmp_path / "pipe")
    refuse_unusable(tmp_path / "pipe")


def test_a_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sidecar.yaml"
    path.symlink_to(path)
    refuse_unusable(path)
    with pytest.raises(SystemExit) as ended:
        load_or_exit(path)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"{path}: cannot be read: Too many levels of symbolic links\n")


def test_a_bad_one_as_json_has_every_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("services:\n  venue: {ulr: x}\n")
    with pytest.raises(SystemExit) as ended:
        load_or_exit(path, as_json=True)
    assert ended.value.code == 2
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["result"] == "rejected"
    assert (found["errors"][0]["line"], found["errors"][0]["key"]) == (2, "services.venue")
    assert said.err.splitlines()[-1] == f"{path}: 2 errors, so it cannot be used"
