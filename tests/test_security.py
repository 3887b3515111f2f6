"""SECURITY.md keeps its word: its limits are those of the code. Its links are followed as the site is built."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from tests.support.daemon import ROOT

TEXT = (ROOT / "SECURITY.md").read_text()
LIMITS = re.findall(r"^\| (.+?) \| ([\d,]+(?: KiB| MiB| s)?) \| `([\w.]+)` \|$", TEXT, re.MULTILINE)
UNITS = {"KiB": 1024, "MiB": 1024 * 1024, "s": 1}


def test_the_table_is_read() -> None:
    rows = [line for line in TEXT.split("## Limits")[1].split("\n## ")[0].splitlines() if line.startswith("| ")]
    assert len(LIMITS) == len(rows) - 1  # its head


@pytest.mark.parametrize(("written", "constant"), [limit[1:] for limit in LIMITS], ids=[limit[2] for limit in LIMITS])
def test_a_limit_is_that_of_the_code(written: str, constant: str) -> None:
    module, _, name = constant.rpartition(".")
    number, _, unit = written.replace(",", "").partition(" ")
    assert getattr(import_module(module), name) == int(number) * UNITS.get(unit, 1)


def test_the_bounds_on_the_file() -> None:
    nodes = import_module("sidecar.config.yaml_nodes")
    assert f"(4 MiB, {nodes.MAX_NODES:,} nodes, {nodes.MAX_DEPTH} levels)" in " ".join(TEXT.split())
