"""A path with places for query parameters, and what is none."""

from __future__ import annotations

import pytest

from sidecar.config.errors import BadValueError
from sidecar.config.path_template import MAX_LENGTH, parse_path_template
from sidecar.config.schema import PathTemplate

OTHER_BRACES = [
    *("{id}", "{query.}", "{query.id", "query.id}", "{{query.id}}", "{QUERY.id}", "{query.a b}", "{}", "{path.id}"),
    "{query.i%64}",
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/", PathTemplate(("/",))),
        ("/venues?all=1", PathTemplate(("/venues?all=1",))),
        ("/venues/{query.id}", PathTemplate(("/venues/", ""), ("id",))),
        ("/{query.a}/b/{query.c-d}{query.a}", PathTemplate(("/", "/b/", "", ""), ("a", "c-d", "a"))),
        ("/a?x={query.e_f.g~}&y", PathTemplate(("/a?x=", "&y"), ("e_f.g~",))),
        ("/a%7Bquery.id%7D", PathTemplate(("/a%7Bquery.id%7D",))),
    ],
)
def test_what_is_one(text: str, expected: PathTemplate) -> None:
    assert parse_path_template(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("venues", "must begin with /"),
        ("{query.id}", "must begin with /"),
        ("", "must begin with /"),
        ("/a b", "percent-encode"),
        ("/ü", "percent-encode"),
        ("/a#b", "fragment"),
        *[(f"/a/{braces}", "braces") for braces in OTHER_BRACES],
        ("/" + "a" * MAX_LENGTH, "at most"),
    ],
)
def test_malformed_traceparents(text: str, words: str) -> None:
    with pytest.raises(BadValueError, match=words):
        parse_path_template(text)
