"""Which requests a script is for, and which script answers where several are."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.testing.errors import FakeError
from sidecar.testing.paths import ANY, Params, Pattern, pattern


@pytest.mark.parametrize(
    ("wanted", "asked", "values"),
    [
        ("/events/1", "/events/1", {}),
        ("/events/1", "/events/1/", None),
        ("/events/1", "/events/12", None),
        ("/", "/", {}),
        ("/a b", "/a%20b", {}),
        ("/a%20b", "/a%20b", {}),
        ("/ä", "/%C3%A4", {}),
        ("/a/b", "/a%2Fb", None),
        ("/events/{id}", "/events/1", {"id": "1"}),
        ("/events/{id}", "/events/a%2Fb", {"id": "a/b"}),
        ("/events/{id}", "/events/", None),
        ("/events/{id}", "/events/1/seats", None),
        ("/events/{id}/seats/{seat}", "/events/1/seats/A2", {"id": "1", "seat": "A2"}),
        ("*", "/", {}),
        ("*", "/a/b", {}),
        ("/*", "/a/b", {}),
        ("/events/*", "/events/", {}),
        ("/events/*", "/events/1/seats", {}),
        ("/events/*", "/events", None),
        ("/ev*", "/events/1", {}),
        ("/events/{id}/*", "/events/1/seats", {"id": "1"}),
        ("/events/{id}/*", "/events/1", None),
        ("/events/{id}/s*", "/events/1/seats", {"id": "1"}),
        ("/events/{id}/s*", "/events/1/rows", None),
    ],
)
def test_a_path_is_matched_segment_by_segment(wanted: str, asked: str, values: dict[str, str] | None) -> None:
    assert pattern("GET", wanted).match("GET", asked, []) == values


@given(st.lists(st.text(st.characters(exclude_characters="/?#*{}%", exclude_categories=["Cs"]))))
def test_a_path_matches_itself_however_it_is_encoded(segments: list[str]) -> None:
    wanted = pattern("GET", "/" + "/".join(segments))
    assert wanted.match("GET", "/" + "/".join(quote(segment, safe="") for segment in segments), []) == {}


def test_a_method_is_one_or_any() -> None:
    assert pattern("get", "/").match("GET", "/", []) == {}
    assert pattern("GET", "/").match("POST", "/", []) is None
    assert pattern(ANY, "/").match("POST", "/", []) == {}


def test_params_have_to_be_there_and_others_may_be() -> None:
    wanted = pattern("GET", "/events", {"page": 2, "open": True})
    assert wanted.match("GET", "/events", [("open", "true"), ("page", "2"), ("lang", "de")]) == {}
    assert wanted.match("GET", "/events", [("page", "2")]) is None
    assert wanted.match("GET", "/events", [("open", "true"), ("page", "3")]) is None


@pytest.mark.parametrize(
    "params", [{"tag": ["a", "b"]}, {"tag": ("b", "a")}, [("tag", "a"), ("tag", "b")], "tag=a&tag=b", "tag=%62&tag=a"]
)
def test_a_param_may_occur_more_than_once(params: Params) -> None:
    wanted = pattern("GET", "/events", params)
    assert wanted == pattern("GET", "/events?tag=a&tag=b")
    assert wanted.match("GET", "/events", [("tag", "b"), ("x", "1"), ("tag", "a")]) == {}
    assert wanted.match("GET", "/events", [("tag", "a")]) is None


def test_a_param_has_to_be_there_as_often() -> None:
    wanted = pattern("GET", "/events", {"tag": ["a", "a"], "none": []})
    assert wanted.match("GET", "/events", [("tag", "a"), ("tag", "a"), ("tag", "a")]) == {}
    assert wanted.match("GET", "/events", [("tag", "a"), ("tag", "b")]) is None


def test_a_query_in_the_path_is_the_same_as_params() -> None:
    assert pattern("GET", "/events?page=2&q=") == pattern("GET", "/events", {"q": "", "page": "2"})


def test_the_one_that_says_more_answers() -> None:
    ranked = [
        pattern("GET", "/events/1", {"page": 1, "lang": "de"}),
        pattern("GET", "/events/1", {"page": 1}),
        pattern("GET", "/events/1"),
        pattern(ANY, "/events/1"),
        pattern("GET", "/events/{id}"),
        pattern(ANY, "/events/{id}"),
        pattern("GET", "/{kind}/{id}"),
        pattern("GET", "/events/*"),
        pattern("GET", "/*"),
        pattern(ANY, "*"),
    ]
    assert sorted(ranked, key=lambda one: one.rank, reverse=True) == ranked


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("events", '"/events", not "events"'),
        ("", "must begin with"),
        ("/a#b", "fragment"),
        ("/a*b", '"*" may only stand at the end'),
        ("/*/b", '"*" may only stand at the end'),
        ("/events-{id}", "whole segment"),
        ("/{}", "whole segment"),
        ("/{id", "whole segment"),
        ("/{id}/seats/{id}", "occurs twice"),
    ],
)
def test_a_path_that_cannot_be_meant_is_refused(path: str, words: str) -> None:
    with pytest.raises(FakeError, match=words.replace("*", r"\*")):
        pattern("GET", path)


def test_a_pattern_reads_as_a_request_does() -> None:
    assert str(pattern("get", "/events", {"page": 2})) == "GET /events?page=2"
    assert str(Pattern("POST", "/charges")) == "POST /charges"
