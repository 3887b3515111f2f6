"""`${...}` in strings."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.errors import BadValueError
from sidecar.config.expand import expand

ENVIRON = {"HOST": "venue", "PORT": "3002", "EMPTY": "", "LOOKS_LIKE": "${HOST}"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("no reference", "no reference"),
        ("$HOST {HOST} $$ $", "$HOST {HOST} $$ $"),
        ("${HOST}", "venue"),
        ("http://${HOST}:${PORT}", "http://venue:3002"),
        ("${HOST:-other}", "venue"),
        ("${UNSET:-http://a:1/?x=${}", None),
        ("${UNSET:-http://a:1}", "http://a:1"),
        ("${EMPTY:-default}", "default"),
        ("${EMPTY}", ""),
        ("${UNSET:-}", ""),
        ("${UNSET:-a:-b}", "a:-b"),
        ("$${HOST}", "${HOST}"),
        ("$$${HOST}", "$${HOST}"),
        ("$${${HOST}}", "${venue}"),
        ("${LOOKS_LIKE}", "${HOST}"),
    ],
)
def test_expansion(text: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(BadValueError):
            expand(text, ENVIRON)
    else:
        assert expand(text, ENVIRON) == expected


def test_an_unset_variable_is_named() -> None:
    with pytest.raises(BadValueError, match="variable NOT_SET is not set"):
        expand("a ${NOT_SET} b", ENVIRON)


@pytest.mark.parametrize("text", ["${", "${}", "${HOST", "${1X}", "${HOST-x}", "${HOST:?x}", "${ HOST }", "${HO-ST}"])
def test_a_malformed_reference_is_an_error_that_says_how_to_write_one(text: str) -> None:
    with pytest.raises(BadValueError, match=r"write \$\{NAME\}"):
        expand(text, ENVIRON)


def test_a_default_holds_no_reference() -> None:
    with pytest.raises(BadValueError, match="default of UNSET"):
        expand("${UNSET:-${HOST}}", ENVIRON)


@given(st.text())
def test_any_text_expands_or_is_a_bad_value(text: str) -> None:
    for candidate in (text, f"${{A}}{text}", f"${{B:-{text}}}"):
        with suppress(BadValueError):
            expand(candidate, {"A": "a"})


@given(st.text(alphabet="ab${}:-"))
def test_a_value_of_the_environment_is_not_expanded_again(value: str) -> None:
    assert expand("<${A}>", {"A": value}) == f"<{value}>"
