"""What a code host shows as a list is one on the site."""

from __future__ import annotations

import re

import pytest
from markdown import markdown
from markdown_it import MarkdownIt

from tools.docs.lists import widened

SAMPLES = [
    "- one\n- two\n  goes on\n- three\n",
    "Text:\n- one\n- two\n\nMore text.\n",
    "Text:\n1. one\n2. two\n",
    "- one\n  - inner\n    goes on\n  - inner\n    - innermost\n- two\n",
    "1. one\n   - inner\n   - inner\n2. two\n\n   a second paragraph\n",
    "- one\n\n  | a | b |\n  |---|---|\n  | 1 | 2 |\n\n- two\n",
    "- one\n\n  ```yaml\n  a:\n    - b\n\n  c: d\n  ```\n\n- two\n",
    "```text\n- no list\n  - nor this\n```\n\n- one\n",
    "- one\nlazy\n- two\n",
    "# Title\n\n- one\n\nText - with a dash\n",
    "- one\n\n  second paragraph\n- two\n  goes on\n- three\n\nText\n- four\n- five\n",
    "A line\n    that is indented\n\n- one\n",
]
TAGS = ("ul", "ol", "li", "p", "table", "td", "pre", "code")


def shape(html: str) -> list[str]:
    """The tags in their order; paragraphs within items are left out, since they only set the space between items."""
    return [tag for tag in re.findall(rf"<(/?(?:{'|'.join(TAGS)}))[ >]", html) if tag.strip("/") != "p"]


@pytest.mark.parametrize("text", SAMPLES)
def test_a_list_is_the_same_list(text: str) -> None:
    hosts = MarkdownIt("commonmark").enable("table").render(text)
    ours = markdown(widened(text), extensions=["tables", "pymdownx.superfences"])
    assert shape(ours) == shape(hosts)


def test_a_tight_list_stays_tight() -> None:
    assert "<p>" not in markdown(widened("- one\n  goes on\n- two\n  - inner\n- three\n"))


def test_code_in_an_item_keeps_its_own_indentation() -> None:
    html = markdown(widened("- one\n\n  ```\n  a:\n    b\n  ```\n"), extensions=["pymdownx.superfences"])
    assert re.sub("<[^>]*>", "", html).split("one")[1].strip("\n") == "a:\n  b"


def test_a_text_without_lists_is_left_alone() -> None:
    text = "# A\n\nText\n\n    code - code\n\n```\n- a\n```\n\n| a |\n|---|\n| - b |\n"
    assert widened(text) == text
