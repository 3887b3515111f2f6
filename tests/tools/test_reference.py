"""The generated pages in docs/reference are what the generators say: `make docs` writes them anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.daemon import ROOT
from tools.docs.reference import PAGES, write


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == PAGES[name]()


def test_nothing_else_is_in_their_folder() -> None:
    assert {f"docs/reference/{path.name}" for path in (ROOT / "docs/reference").iterdir()} == set(PAGES)


def test_only_what_is_stale_is_written(tmp_path: Path) -> None:
    assert write(tmp_path) == list(PAGES)
    assert write(tmp_path) == []
    first, *_ = PAGES
    (tmp_path / first).write_text("old")
    assert write(tmp_path) == [first]
    assert (tmp_path / first).read_text(encoding="utf-8") == PAGES[first]()
