"""How fields are found in a head, and left out of it."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy.http1.head_syntax import BARE_LINE_END, field_lines, without

NAMES = ("via", "te", "connection", "content-length", "x-a", "x-ab")
LINES = st.builds(
    "{}{}{}".format,
    st.sampled_from([*NAMES, "Via", "TE", "Content-length", "X-aB", "x-abc", "x", "vi", "content-lengths", "a"]),
    st.sampled_from([":", ": ", ":\t", " :", ""]),
    st.sampled_from(["", "1", "te: 1", "a b "]),
)


@given(st.lists(LINES, max_size=6))
def test_exactly_the_lines_of_these_fields_are_found(lines: list[str]) -> None:
    head = "".join(f"\r\n{line}" for line in lines).encode()
    plain = re.compile(rb"\r\n(%b):[ \t]*([^\r\n]*)" % "|".join(NAMES).encode(), re.IGNORECASE)
    found = [(match.span(), match.groups()) for match in field_lines(*NAMES).finditer(head)]
    assert found == [(match.span(), match.groups()) for match in plain.finditer(head)]


def test_lines_are_left_out_by_name_whatever_its_case() -> None:
    fields = b"\r\nX-A: x-b: 1\r\nx-b:2\r\nX-AB: 3"
    assert without(fields, {b"x-a"}) == b"\r\nx-b:2\r\nX-AB: 3"
    assert without(fields, {b"x-b", b"x-ab"}) == b"\r\nX-A: x-b: 1"
    assert without(b"x-a: a value", {b"x-a"}) == b"x-a: a value"  # a slice of a line is no line


def test_a_carriage_return_at_the_end_may_yet_become_a_line_end() -> None:
    assert not BARE_LINE_END.search(b"a\r\nb\r")
    assert BARE_LINE_END.search(b"a\nb")
    assert BARE_LINE_END.search(b"a\rb")
