"""The files for editors and hosts: they are valid, name what is there, and the tree is as .editorconfig says."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.daemon import ROOT
from tests.support.schemas import check_schema, needs_schemas

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
GITHUB = ROOT / ".github"
FORMS = [path for path in sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) if path.name != "config.yml"]


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@needs_schemas
@pytest.mark.parametrize(
    ("schema", "paths"),
    [
        ("vendor.github-workflows", sorted((GITHUB / "workflows").glob("*.yml"))),
        ("vendor.github-issue-forms", FORMS),
        ("vendor.github-issue-config", [GITHUB / "ISSUE_TEMPLATE" / "config.yml"]),
    ],
)
def test_github_can_read_them(schema: str, paths: list[Path]) -> None:
    assert paths
    check_schema(schema, *paths)


def test_the_workflow_calls_the_one_check_on_each_python() -> None:
    job = read(GITHUB / "workflows" / "ci.yml")["jobs"]["check"]
    assert [step["run"] for step in job["steps"] if "run" in step][-1] == "bash .ci/run"
    assert (ROOT / ".ci" / "run").is_file()
    classifiers = PROJECT["project"]["classifiers"]
    known = [found[1] for one in classifiers if (found := re.fullmatch(r".* :: Python :: (3\.\d+)", one))]
    tested = job["strategy"]["matrix"]["python"]
    assert tested == [version for version in known if version in tested]
    assert tested[0] == PROJECT["project"]["requires-python"].removeprefix(">=")
    assert "${{ matrix.python }}" in job["container"]["image"]


def test_the_workflow_runs_the_scanner_under_sanitizers() -> None:
    """tests/proxy/http1/test_scan.py runs the same for a moment, without sanitizers."""
    job = read(GITHUB / "workflows" / "ci.yml")["jobs"]["scanner"]
    (command,) = [step["run"] for step in job["steps"] if "run" in step]
    target, _, arguments = command.removeprefix("make ").partition(" ")
    assert re.search(rf"^{target}: .*\n\t@\$\(BIN\)/python -m tools.fuzz_scan \$\(ARGS\)$", MAKEFILE, re.MULTILINE)
    assert arguments.startswith('ARGS="--sanitize --seconds ')


def test_templates_name_what_is_there() -> None:
    texts = [path.read_text() for path in (*FORMS, GITHUB / "pull_request_template.md")]
    named = {name for text in texts for name in re.findall(r"[\w/]+\.md", text)}
    assert named >= {"CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"}
    assert [name for name in named if not (ROOT / name).is_file()] == []
    targets = {name for text in texts for name in re.findall(r"`make (\w+)`", text)}
    assert targets == {"lint", "test"}


def hooks() -> list[dict[str, Any]]:
    (repository,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local", "versions are those of requirements.lock"
    found: list[dict[str, Any]] = repository["hooks"]
    return found


def test_hooks_are_what_make_lint_runs() -> None:
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert lint is not None
    made = [line.removeprefix("\t@").replace("$(BIN)", ".venv/bin").removesuffix(" .") for line in lint[1].splitlines()]
    assert [hook["entry"].removesuffix(" --force-exclude") for hook in hooks()] == made


def test_the_commands_of_hooks_exist() -> None:
    for hook in hooks():
        assert hook["language"] == "system"
        program = Path(hook["entry"].split()[0])
        assert program.parent == Path(".venv/bin")
        assert (Path(sys.executable).parent / program.name).is_file()


SECTIONS = configparser.ConfigParser()
SECTIONS.read_string("[top]\n" + (ROOT / ".editorconfig").read_text())
FOLDERS = (".ci", ".github", "benchmarks", "config", "deploy", "docs", "sidecar", "tests", "tools")


def as_they_came() -> re.Pattern[str]:
    """The paths that no rule holds for."""
    (section,) = [name for name in SECTIONS.sections() if "/**" in name]
    patterns = [re.escape(one).replace(r"\*\*", ".*") for one in section.strip("{}").split(",")]
    return re.compile("|".join(patterns))


def ours() -> list[Path]:
    """What git knows; without git, as in an unpacked sdist, what is there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.split("\0")[:-1] if listed.returncode == 0 else []
    paths = [ROOT / name for name in names] or [path for name in FOLDERS for path in (ROOT / name).rglob("*")]
    exempt = as_they_came()
    return [
        path
        for path in paths
        if path.is_file()
        and path.suffix not in {".png", ".pyc", ".so"}
        and not exempt.fullmatch(str(path.relative_to(ROOT)))
    ]


def test_files_are_as_editors_are_told_to_write_them() -> None:
    every = SECTIONS["*"]
    assert (every["end_of_line"], every["charset"]) == ("lf", "utf-8")
    assert every.getboolean("insert_final_newline")
    assert every.getboolean("trim_trailing_whitespace")
    wrong = []
    assert len(ours()) > 500
    for path in ours():
        text = path.read_bytes().decode()
        ends = text.endswith("\n") or not text
        blank = re.search(r"[ \t]+$", text, re.MULTILINE)
        tab = "\t" in re.sub(r"^\t", "", text, flags=re.MULTILINE) if path.name == "Makefile" else "\n\t" in text
        if not ends or blank or tab or "\r" in text:
            wrong.append(str(path.relative_to(ROOT)))
    assert wrong == []


def test_editors_and_ruff_agree_on_width_and_indent() -> None:
    assert SECTIONS["*"].getint("max_line_length") == PROJECT["tool"]["ruff"]["line-length"]
    assert SECTIONS["*.py"].getint("indent_size") == 4
    assert as_they_came().fullmatch("tests/support/axe/axe.min.js")
    assert not as_they_came().fullmatch("tests/support/daemon.py")
