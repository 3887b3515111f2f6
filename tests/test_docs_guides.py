"""The guides keep their word: each is followed from its file to its last command, on the demo's services.

What a command prints is compared with the page as tests/support/shown.py does, apart from numbers. Where the numbers
are the point, HTTP statuses and the counts of `uniq -c`, they are compared too.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sidecar.config.load import loads
from sidecar.testing.script import Script
from sidecar.testing.service import BreakerOfFake, ServiceFake
from tests.demo.running import RunningDemo
from tests.support import wants
from tests.support.certificate import Authority, put
from tests.support.daemon import ROOT
from tests.support.eventually import eventually
from tests.support.operator import Operator
from tests.support.shown import blocks_of, difference, in_console
from tests.support.urls import opened
from tests.testing.inner_run import InnerRun

GUIDES = ROOT / "docs" / "guides"
PAGES = [*sorted(GUIDES.glob("*.md")), ROOT / "docs" / "fallback.md"]
ON_THE_DEMO = [page for page in PAGES if "http://127.0.0.1:19" in page.read_text()]


def file_of(page: Path) -> str:
    """The file that a guide is followed with: the one for the demo's ports."""
    (found,) = [block.text for block in blocks_of(page.read_text()) if "http://127.0.0.1:19" in block.text]
    return found


def put_in_force(demo: RunningDemo, text: str) -> None:
    """As the page of the guides says: the demo's file is replaced, and read again."""
    (listen,) = re.findall(r"^listen:\n(?:  .*\n)+", demo.configuration.read_text(), re.MULTILINE)
    demo.configuration.write_text(listen + demo.operator.in_real(text))

    def is_in_force() -> None:
        with opened(f"http://127.0.0.1:{demo.ports.probe}/metrics") as answer:
            assert b"\nsidecar_config_generation 2\n" in answer.read(), demo.log

    eventually(is_in_force, timeout=20)


def exact(command: str, output: str) -> list[str]:
    """The numbers of an output that have to be those of the page."""
    found = re.findall(r"^(?:HTTP/1\.1 )?([1-5]\d\d)\b", output, re.MULTILINE)
    return found + (output.split() if "uniq -c" in command or "wc -l" in command else [])


@wants.program("curl")
@pytest.mark.parametrize("page", ON_THE_DEMO, ids=lambda page: page.stem)
def test_a_guide_can_be_followed(page: Path) -> None:
    with RunningDemo() as demo:
        put_in_force(demo, file_of(page))
        operator = demo.operator
        for command, output in in_console(page.read_text()):
            shown, printed = output or "", operator.prints(command)
            unlike = difference(shown, printed)
            assert unlike is None, f"$ {command}\n{unlike}"
            assert exact(command, printed) == exact(command, shown), f"$ {command}\n{printed}"


def test_the_guide_to_a_failed_call_shows_its_log_line() -> None:
    page = GUIDES / "why.md"
    (shown,) = [json.loads(block.text) for block in blocks_of(page.read_text()) if block.language == "json"]
    commands = [one.command for one in in_console(page.read_text())]
    (call,) = [command for command in commands if shown["request_id"] in command]
    with RunningDemo() as demo:
        put_in_force(demo, file_of(page))
        for command in commands[: commands.index(call) + 1]:
            demo.operator.prints(command)

        def logged() -> dict[str, object]:
            lines = [line for line in demo.log.splitlines() if f'"request_id":"{shown["request_id"]}"' in line]
            assert lines
            found: dict[str, object] = json.loads(lines[0])
            return found

        line = eventually(logged)
    assert list(line) == list(shown)
    same = ("level", "event", "request_id", "service", "method", "target", "status", "reason")
    assert [line[name] for name in same] == [shown[name] for name in same]


def test_the_app_of_the_guide_to_testing_passes_its_tests(tmp_path: Path) -> None:
    blocks = blocks_of((GUIDES / "testing.md").read_text())
    app, tests, conftest = (block.text for block in blocks if block.language == "python")
    (tmp_path / "shop.py").write_text(app)
    (tmp_path / "conftest.py").write_text(conftest)
    (shown,) = (block.text for block in blocks if block.language == "text")
    ended = InnerRun(tmp_path, tests).run()
    assert difference(shown, "$ python -m pytest -q\n" + ended.output) is None, ended.output
    assert ended.counts() == {"passed": int(shown.split(" passed")[0].split()[-1])}


def test_the_faults_of_the_table_are_methods_of_a_fake() -> None:
    rows = re.findall(r"^\| .+? \| `\.(\S.*?)` \|", (GUIDES / "testing.md").read_text(), re.MULTILINE)
    assert len(rows) > 5
    for row in rows:
        for name in re.findall(r"(?:^|\.)(\w+)\(", row):
            assert any(hasattr(kind, name) for kind in (ServiceFake, Script, BreakerOfFake)), name


def test_the_file_of_the_checklist_has_no_warning_and_is_summarised_as_shown(tmp_path: Path) -> None:
    blocks = blocks_of((GUIDES / "production.md").read_text())
    (text,) = (block.text for block in blocks if block.language == "yaml")
    (tmp_path / "sidecar.yaml").write_text(text)
    (check,) = in_console((GUIDES / "production.md").read_text())
    printed = Operator(tmp_path, {}, admin="").prints(check.command)
    assert difference(check.output or "", printed) is None, printed


def test_the_file_of_the_guide_to_tls_is_checked_as_shown(tmp_path: Path) -> None:
    """With a key that does not match; with the one that does, there is nothing to say but that it is right."""
    blocks = blocks_of((GUIDES / "tls.md").read_text())
    (text,) = (block.text for block in blocks if block.language == "yaml")
    (tmp_path / "sidecar.yaml").write_text(text)
    authority = Authority()
    put(tmp_path / "ca.pem", authority.pem)
    right = authority.issue("app")
    right.write(tmp_path)
    put(tmp_path / "tls.key", authority.issue("app").key)
    (check,) = in_console((GUIDES / "tls.md").read_text())
    operator = Operator(tmp_path, {}, admin="")
    printed = operator.prints(check.command)
    assert difference(check.output or "", printed) is None, printed
    right.write(tmp_path)
    assert "3 services, 4 endpoints" in operator.prints(check.command)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_a_guide_is_of_a_kind_that_is_tested(page: Path) -> None:
    known = {
        "fallback": ["yaml", "yaml", *["console"] * 3],
        "index": [],
        "production": ["yaml", "console"],
        "testing": ["python", "python", "python", "text"],
    }
    languages = [block.language for block in blocks_of(page.read_text())]
    if page.stem in known:
        assert languages == known[page.stem]
    else:
        assert set(languages) <= {"yaml", "console", "json"}
        assert languages.count("yaml") == 1
    for block in blocks_of(page.read_text()):
        if block.language == "yaml":
            assert loads(block.text, page.name, {}).services


def test_each_guide_is_on_the_page_of_the_guides() -> None:
    listed = re.findall(r"\]\((\w[\w-]*\.md)\)", (GUIDES / "index.md").read_text())
    assert sorted(listed) == sorted(page.name for page in GUIDES.glob("*.md") if page.stem != "index")
