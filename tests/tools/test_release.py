"""What a release is made of. tests/test_packaging.py makes one; here is what stops it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import ROOT
from tools import release

CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n{unreleased}## [{version}]{date}\n\n- First.\n"


def project(folder: Path, *, version: str = "1.2.0", date: str = " - 2026-11-30", unreleased: str = "") -> Path:
    (folder / "sidecar").mkdir(parents=True)
    (folder / "sidecar" / "__init__.py").write_text('"""Ours."""\n\n__version__ = "1.2.0"\n')
    (folder / "CHANGELOG.md").write_text(CHANGELOG.format(version=version, date=date, unreleased=unreleased))
    (folder / "pyproject.toml").write_text('Homepage = "https://example.org/"\n')
    return folder


def test_the_version_stands_in_one_place(tmp_path: Path) -> None:
    assert release.version_of(project(tmp_path)) == "1.2.0"
    (tmp_path / "sidecar" / "__init__.py").write_text("")
    with pytest.raises(release.Failed, match="has no __version__"):
        release.version_of(tmp_path)


def test_the_changelog_has_a_section_of_it_with_a_date(tmp_path: Path) -> None:
    assert release.consistent(project(tmp_path / "good"), "1.2.0") == []
    with pytest.raises(release.Failed, match=r"newest section is not of that version"):
        release.consistent(project(tmp_path / "older", version="1.1.0"), "1.2.0")
    for date in ("", " - soon"):
        with pytest.raises(release.Failed, match=r"has no date: ## \[1\.2\.0\] - YYYY-MM-DD"):
            release.consistent(project(tmp_path / f"undated{date}", date=date), "1.2.0")


def test_what_is_good_to_know_does_not_stop_it(tmp_path: Path) -> None:
    root = project(tmp_path, unreleased="- Later.\n\n")
    (root / "pyproject.toml").write_text(f'Homepage = "https://{release.RESERVED}/"\n')
    later, addresses = release.consistent(root, "1.2.0")
    assert "lines under Unreleased" in later
    assert "reserved domain" in addresses


def test_this_tree_is_consistent() -> None:
    version = release.version_of(ROOT)
    release.consistent(ROOT, version)
    assert f"VERSION={version}" in (ROOT / "deploy" / "Dockerfile").read_text()


def git(folder: Path, *arguments: str) -> None:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def test_in_a_checkout_the_tree_is_what_git_does_not_ignore(tmp_path: Path) -> None:
    root = project(tmp_path / "root")
    (root / ".gitignore").write_text("build/\n")
    git(root, "init")
    git(root, "add", ".")
    git(root, "commit", "--message", "All of it")
    release.nothing_uncommitted(root)
    (root / "build").mkdir()
    (root / "build" / "x.o").touch()
    release.nothing_uncommitted(root)
    (root / "new.md").touch()
    (root / "CHANGELOG.md").unlink()
    with pytest.raises(release.Failed, match="not committed"):
        release.nothing_uncommitted(root)
    release.copy_tree(root, tmp_path / "copy")
    assert release.files_of(root) == [".gitignore", "new.md", "pyproject.toml", "sidecar/__init__.py"]
    assert release.files_of(tmp_path / "copy") == release.files_of(root)


def test_without_git_the_tree_is_all_but_what_tools_leave_behind(tmp_path: Path) -> None:
    root = project(tmp_path)
    for name in (".venv/bin/x", "build/x", "dist/x", "sidecar/__pycache__/x", ".mypy_cache/x", ".ci/run"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    assert release.files_of(root) == [".ci/run", "CHANGELOG.md", "pyproject.toml", "sidecar/__init__.py"]
    release.nothing_uncommitted(root)


def test_an_sdist_that_lacks_or_changes_a_file_stops_it(tmp_path: Path) -> None:
    tree, unpacked = project(tmp_path / "tree"), project(tmp_path / "unpacked")
    release.whole(tree, unpacked)
    (unpacked / "pyproject.toml").write_text("other")
    with pytest.raises(release.Failed, match=r"other contents than the tree: pyproject\.toml"):
        release.whole(tree, unpacked)
    (unpacked / "pyproject.toml").unlink()
    with pytest.raises(release.Failed, match=r"lacks 1 files, see MANIFEST\.in: pyproject\.toml"):
        release.whole(tree, unpacked)


def test_a_step_that_fails_shows_what_it_said(capsys: pytest.CaptureFixture[str]) -> None:
    release.step("nothing", [sys.executable, "-c", "print('well')"], {"A": "b"})
    assert capsys.readouterr().out.startswith("release: nothing ... ")
    with pytest.raises(release.Failed, match=r"failed with exit code 3$"):
        release.step(
            "it", [sys.executable, "-c", "import os; print(os.environ['A']); raise SystemExit(3)"], {"A": "ill"}
        )
    assert "\nill\n" in capsys.readouterr().out


def test_the_command_fails_where_a_step_does(tmp_path: Path) -> None:
    tree = project(tmp_path, version="1.1.0")
    (tree / "tools").mkdir()
    (tree / "tools" / "release.py").write_bytes((ROOT / "tools" / "release.py").read_bytes())
    command = [sys.executable, "-m", "tools.release"]
    run = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert "newest section is not of that version" in run.stderr


def test_make_release_check_does_all_checks_first_and_stops_at_what_fails() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\nrelease-check:")[2].partition("\n\n")[0].splitlines()[1:]
    assert [line.strip().split(maxsplit=1)[1] for line in recipe] == [
        "--no-print-directory lint",
        "--no-print-directory test ARGS=",
        "-m tools.release $(ARGS)",
    ]
    assert all(line.startswith(("\t@$(MAKE) ", "\t@$(BIN)/python ")) for line in recipe), "`-` would go on"
