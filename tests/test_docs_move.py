"""The pages for people who come from something else: each file loads without a warning, each default is ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.support.daemon import ROOT
from tests.support.operator import Operator
from tests.support.shown import Block, blocks_of

FOLDER = ROOT / "docs" / "move"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.stem != "index")
KEYS = (ROOT / "docs" / "reference" / "keys.md").read_text()
LINK = re.compile(r"\]\(\.\./reference/keys\.md#([\w-]+)\)")


def section(page: Path, title: str) -> str:
    """The text below a heading of the second level, until the next one."""
    return page.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(page: Path, title: str) -> list[Block]:
    return blocks_of(section(page, title))


def default_of(anchor: str) -> str:
    """The default of the key that has this anchor in the reference."""
    for part in re.split(r"^###? `", KEYS, flags=re.MULTILINE)[1:]:
        key = part.partition("`")[0]
        if re.sub(r"[^\w-]", "", key.lower()) == anchor:
            found = re.search(r"\*\*Default:\*\*\s+(`[^`]*`)", part)
            return " ".join(found[1].split()) if found else ""
    raise AssertionError(f"no key has the anchor {anchor}")


def rows(page: Path) -> list[list[str]]:
    table = [line for line in section(page, "Each option").splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in table]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_file_afterwards_is_one_without_mistakes_and_warnings(page: Path, tmp_path: Path) -> None:
    (text,) = [block.text for block in blocks(page, "After") if block.language == "yaml"]
    (tmp_path / "sidecar.yaml").write_text(text)
    printed = Operator(tmp_path, {}, admin="").prints("sidecar check && echo fine")
    assert printed.endswith("\nfine\n"), printed
    assert "warning" not in printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_file_before_can_be_read(page: Path) -> None:
    """As YAML, where it is YAML; HAProxy, nginx and Node have read the others when they were written."""
    for block in blocks(page, "Before"):
        assert block.language in ("yaml", "js", "text")
        if block.language == "yaml":
            assert all(isinstance(document, dict) for document in yaml.safe_load_all(block.text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_defaults_here_are_those_of_the_reference(page: Path) -> None:
    head, _, *found = rows(page)
    here = head.index("here, with its default")
    compared = 0
    for row in found:
        assert len(row) == len(head), row
        if said := re.search(r": (`[^`]*`)$", row[here]):
            assert said[1] == default_of(LINK.findall(row[here])[0]), row
            compared += 1
    assert compared >= 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_what_a_mover_asks(page: Path) -> None:
    text = page.read_text()
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert titles == ["Before", "After", "Each option", "What has no counterpart", "What behaves differently"]


def test_each_page_is_listed() -> None:
    listed = re.findall(r"\]\((\w+\.md)\)", (FOLDER / "index.md").read_text())
    assert sorted(listed) == sorted(page.name for page in PAGES)
