"""Plain text that stands on a page means what it meant."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from tools.docs.text import code, prose, sentence, table


@pytest.mark.parametrize(
    "text",
    [
        "GET /_aggregate/<name> asks",
        "a & b, 2 * 3 * 4, [not a link](x)",
        "SIDECAR_INJECTOR_ and _its_ name",
        "back\\slash",
        "plain",
    ],
)
def test_no_sign_is_taken_for_markup(text: str) -> None:
    shown = MarkdownIt("commonmark").render(prose(text))
    expected = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert shown == f"<p>{expected}</p>\n"


def test_code_stays_as_it_is_and_lines_flow() -> None:
    assert prose("see `a_b <c>`\n    and\n*d*") == "see `a_b <c>` and \\*d\\*"


def test_a_sentence_ends_once() -> None:
    assert [sentence(text) for text in ("a", "a.", "why?", "as:")] == ["a.", "a.", "why?", "as:"]


def test_a_table_keeps_its_cells_apart() -> None:
    assert table(("a", "b"), [(code("x|y"), "")]) == "| a | b |\n| --- | --- |\n| `x\\|y` |  |\n"
