"""The table of copies: a POST arrives once, and a build that sends it again is found."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
import uvloop

from benchmarks.never_twice import FAULTS, KINDS, main, table, told
from tests.support.daemon import ROOT

SOURCES = shlex.join(["env", "-C", str(ROOT), sys.executable, "-m", "sidecar"])
QUICK = [fault for fault in FAULTS if fault.name in {"closes", "503", "closes a kept connection at once", "500"}]

CARELESS = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from sidecar.runtime.route import LiveRoute
made = LiveRoute.__init__
def careless(self, *arguments, **named):
    made(self, *arguments, **named)
    self.repeatable_methods = frozenset({{"GET", "PUT", "POST"}})
LiveRoute.__init__ = careless
from sidecar.cli.main import main
sys.exit(main())
"""


def cells(lines: list[str], fault: str) -> dict[str, str]:
    """Of one row, by the name of the column."""
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    row = next(row for row in rows if row[0] == fault)
    return dict(zip(rows[0], row, strict=True))


def test_what_has_an_effect_arrives_once_and_the_rest_is_retried() -> None:
    lines, wrong = uvloop.run(table(SOURCES, QUICK))
    assert not wrong
    found = cells(lines, "503")
    assert [found[kind.name] for kind in KINDS if kind.once] == ["1, 503"] * 4
    assert (found["GET"], found["PUT"], found["POST, Idempotency-Key"]) == ("3, 503",) * 3
    assert cells(lines, "closes")["POST"] == "1, 502 reset"
    assert cells(lines, "500")["GET"] == "1, 500"


def test_a_build_that_repeats_a_post_is_found(tmp_path: Path) -> None:
    path = tmp_path / "careless.py"
    path.write_text(CARELESS)
    _, wrong = uvloop.run(table(shlex.join([sys.executable, str(path)]), QUICK[:1]))
    assert wrong[0] == "closes: POST arrived 3 times"


def test_what_an_app_was_told_in_short() -> None:
    assert told("answer", b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n") == "200"
    assert told("answer", b"HTTP/1.1 502 Bad Gateway\r\nx-sidecar-reason: reset\r\n\r\n") == "502 reset"
    assert told("part", b"HTTP/1.1 200 OK\r\n\r\nhal") == "200 cut"
    assert told("part", b"") == "nothing cut"


def test_a_command_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "ends.py"
    path.write_text("raise SystemExit(3)")
    with pytest.raises(RuntimeError, match="is not ready"):
        main([shlex.join([sys.executable, str(path)])])
