"""CONTRIBUTING.md keeps its word: what it names is there, its examples are real tests, its commands can be typed.

Its links are followed as the site is built.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.support.daemon import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
BLOCKS = re.findall(r"^ *```(\w+)\n(.*?)^ *```$", TEXT, re.DOTALL | re.MULTILINE)
COMMANDS = [line.strip() for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
CODE = re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```$", "", TEXT, flags=re.DOTALL | re.MULTILINE))
PYTHON = ".venv/bin/python -m "


def test_blocks_are_of_kinds_that_are_tested() -> None:
    assert {language for language, _ in BLOCKS} == {"sh", "python", "text"}
    assert COMMANDS


def test_an_example_is_a_test_of_the_file_that_is_named() -> None:
    found = re.findall(r"From\s+`([\w/.]+)`:\n\n```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    assert len(found) == sum(language == "python" for language, _ in BLOCKS)
    for path, code in found:
        assert code in (ROOT / path).read_text(), path


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {code.split()[1] for code in [*CODE, *COMMANDS] if re.fullmatch(r"make [a-z]+( .*)?", code)}
    assert {"test", "lint", "format", "schema", "docs", "bench"} <= named <= targets


@pytest.mark.parametrize("command", [command for command in COMMANDS if PYTHON in command])
def test_a_run_of_tests_works_as_written(command: str) -> None:
    arguments = shlex.split(command.removeprefix(PYTHON))
    run = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout


def test_options_of_a_run_are_known() -> None:
    """`make test ARGS="..."` ends in pytest; `--collect-only` has it read the arguments and run nothing."""
    (arguments,) = [re.findall(r'ARGS="(.*)"', command)[0] for command in COMMANDS if "ARGS=" in command]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *shlex.split(arguments)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout
    assert "randomly-seed" in run.stdout or "tests/policy" in run.stdout


def test_measurements_are_there() -> None:
    modules = [code.removeprefix(PYTHON) for code in CODE if code.startswith(f"{PYTHON}benchmarks")]
    assert len(modules) >= 5
    for module in modules:
        assert find_spec(module) is not None, module


def test_files_and_tests_that_are_named_are_there() -> None:
    names = [code for code in CODE if re.fullmatch(r"[\w./-]+(\.(py|md|toml|yaml)(::\w+)?|/)", code)]
    assert names
    shortened = {"addresses.py": "sidecar/config", "http_words.py": "sidecar/config"}
    shortened |= dict.fromkeys(("upstream.py", "steps.py", "client.py", "urls.py", "daemon.py"), "tests/support")
    for name in names:
        path, _, test = name.partition("::")
        place = ROOT / shortened.get(path, "") / path
        if path != "proxy/":  # of mitmproxy
            assert place.exists(), path
        assert not test or re.search(rf"^(async )?def {test}\b", place.read_text(), re.MULTILINE), name


def test_names_stand_in_the_file_that_they_are_said_to_be_of() -> None:
    found = re.findall(r"((?:`[\w.]+`(?:,| and| or)? )+)(?:of|in)\s+`([\w/.]+\.py)`", TEXT)
    assert len(found) >= 8
    for names, path in found:
        text = (ROOT / path).read_text()
        for name in re.findall(r"`([\w.]+)`", names):
            assert all(re.search(rf"\b{part}\b", text) for part in name.split(".")), f"{name} of {path}"
