"""Where calls go: what a path may be, and that it arrives at the service it is for, as it is."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import re
import uuid
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from sidecar.client import ServiceClient, address
from tests.support.steps import answer
from tests.support.upstream import Upstream

PIECES = [
    *("/", "//", ".", "..", "...", "/./", "/../", "%2e", "%2E%2e", "%252e", "%2f", "%2F..", "%5c", "\\", "%", "%zz"),
    *(
        "?",
        "?next=/../x",
        "#",
        ";",
        ":",
        "@",
        "&",
        "=",
        "+",
        "payment",
        "~",
        "é",
        "\uff0e",
        "\uff0f",
        " ",
        "\t",
        "\n",
        "\x7f",
    ),
    *("%c3%a9", "%00", "\ud800", "a.b", "v1."),
]
paths = st.one_of(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.text(max_size=20)).map("/{}".format)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/events/1",
        "/a.b/c.",
        "/...",
        "/.well-known/x",
        "//x",
        "/é x",
        "/a%2Fb",
        "/a?b=/../c#".rstrip("#"),
        "/a%25",
    ],
)
def test_path_that_is_taken(path: str) -> None:
    assert address.path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        *("", "events", "http://evil/", "?a", "/..", "/../payment/charges", "/a/./b", "/a/..", "/a/../../payment"),
        *("/%2e%2e/payment", "/.%2E/payment", "/a/%2e", "/a%2f..%2fb", "/a%5C..%5cb", "/a\\b", "/\\..\\payment"),
        *("/a#b", "/a?b#c", "/a\r\nX: y", "/a\tb", "/a\x00", "/a\x7f", "/..?a", "/\ud800"),
    ],
)
def test_path_that_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="a path "):
        address.path(path)


def test_whatever_path_is_taken_arrives_at_its_service_as_it_is() -> None:
    with Upstream(answer()) as scripted, asyncio.Runner() as runner:
        client = runner.run(ServiceClient("venue", base_url=scripted.url).open())

        @given(paths)
        @example("/%252e%252e/payment")
        @example("/\uff0e\uff0e/payment")
        def arrives(path: str) -> None:
            try:
                address.path(path)
            except ValueError:
                assume(False)
            assert runner.run(client.get(path)).status == 200
            raw, _, _ = scripted.last.target.partition("?")
            segments = raw.split("/")
            asked, _, _ = path.partition("?")
            if re.fullmatch(r"(?:[a-z0-9/_.~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*", asked):
                assert raw == f"/venue{asked}"
            assert segments[:2] == ["", "venue"]
            assert not {b".", b".."} & {unquote_to_bytes(segment) for segment in segments}
            assert [unquote_to_bytes(segment) for segment in segments[2:]] == [
                unquote_to_bytes(segment) for segment in asked.split("/")[1:]
            ]

        try:
            arrives()
        finally:
            runner.run(client.close())
        assert not scripted.malformed


@pytest.mark.parametrize("name", ["venue", "venue-service", "a.b", "_aggregate", "V1"])
def test_service_that_can_be(name: str) -> None:
    assert address.service(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "é", "a%2f", "a\n", "?"])
def test_service_that_cannot_be(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a service"):
        address.service(name)


@pytest.mark.parametrize("name", ["Host", "host", "CONTENT-LENGTH", "transfer-encoding"])
def test_headers_that_would_lead_elsewhere(name: str) -> None:
    address.check_fields(CIMultiDict({"X-Host": "a", "Content-Type": "b"}))
    with pytest.raises(ValueError, match="an app may not set"):
        address.check_fields(CIMultiDict({"X-A": "a", name: "payment"}))


def test_base_url_is_given_or_of_the_environment_or_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIDECAR_URL", raising=False)
    assert address.base_url(None) == "http://localhost:15001"
    monkeypatch.setenv("SIDECAR_URL", "")
    assert address.base_url(None) == "http://localhost:15001"
    monkeypatch.setenv("SIDECAR_URL", "http://sidecar:1/")
    assert address.base_url(None) == "http://sidecar:1"
    assert address.base_url("http://[::1]:2") == "http://[::1]:2"
    monkeypatch.setenv("SIDECAR_URL", "sidecar:15001")
    with pytest.raises(ValueError, match="SIDECAR_URL must be http://host:port"):
        address.base_url(None)


@pytest.mark.parametrize("url", ["h", "h:1", "http://", "ftp://h", "http://u:secret@h", "http://h/venue", "http://h?x"])
def test_base_url_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="base_url must be") as caught:
        address.base_url(url)
    assert "secret" not in str(caught.value)


def test_words_show_a_path_without_its_query_and_not_endlessly() -> None:
    for asked in ("x?token=SECRET", "/..?token=SECRET", "/a\\?token=SECRET", "/a#SECRET", "/a?b=\x00SECRET"):
        with pytest.raises(ValueError, match="a path ") as caught:
            address.path(asked)
        assert "SECRET" not in str(caught.value)
    with pytest.raises(ValueError, match="a path ") as caught:
        address.path("/.." + "a" * 100_000 + "/..")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("asked", "plain"),
    [
        ("/a/b-c_1?q=1.5&to=../x&s=a~b+c", True),
        ("/?", True),
        ("/a?b=%2F", False),
        ("/a?b= ", False),
        ("/a.b", False),
        ("/%2e%2e", False),
        ("/a?b#c", False),
        ("/a?b=\\", False),
        ("/a?b=\x7f", False),
        ("/a?b=é", False),
        ("/a?b\n", False),
        ("/..?a", False),
    ],
)
def test_plain_paths_are_a_part_of_those_allowed(asked: str, plain: bool) -> None:
    assert bool(address.is_plain(asked)) is plain
    if plain:
        assert address.path(asked) == asked == address._encoded(asked)


class Kind(str, enum.Enum):  # noqa: UP042
    """As apps have them that are older than StrEnum: `str(Kind.HALL)` is "Kind.HALL"."""

    HALL = "hall"


class Level(enum.IntEnum):
    HIGH = 3


class Count:
    """As a number of numpy's."""

    def __index__(self) -> int:
        return 7


@pytest.mark.parametrize(
    ("params", "sent"),
    [
        ({"a": "é&b", "n": 2, "f": 1.5}, "a=%C3%A9%26b&n=2&f=1.5"),
        ([("a", "1"), ("a", "2")], "a=1&a=2"),
        ({"a": ["x", "y"], "b": (1, 2), "c": []}, "a=x&a=y&b=1&b=2"),
        (
            {"kind": Kind.HALL, "kinds": [Kind.HALL, "club"], "level": Level.HIGH},
            "kind=hall&kinds=hall&kinds=club&level=3",
        ),
        ([("kind", Kind.HALL), ("count", Count())], "kind=hall&count=7"),
        (CIMultiDict([("a", "1"), ("a", Kind.HALL)]), "a=1&a=hall"),
        ("a=b&c=", "a=b&c="),
        ({"a": "%2F", "b": "/?:@", "c": "a b+c"}, "a=%252F&b=/?:@&c=a+b%2Bc"),
        ("q=a%20b&u=%2F%3f", "q=a%20b&u=%2F%3f"),
        ("q=a b&n=é#%zz%", "q=a%20b&n=%C3%A9%23%25zz%25"),
        (Kind.HALL, "hall"),
    ],
)
def test_params(params: Any, sent: str) -> None:
    assert address.query(params) == sent


@pytest.mark.parametrize(
    ("asked", "params", "sent"),
    [
        ("/x?u=%2F%3F%3A", None, "/venue/x?u=%2F%3F%3A"),
        ("/x?u=%2F", {"v": "a"}, "/venue/x?u=%2F&v=a"),
        ("/x?", {"v": "a"}, "/venue/x?v=a"),
        ("/x?a&", "v=%3A", "/venue/x?a&v=%3A"),
        ("/x", {}, "/venue/x"),
        ("/x", "", "/venue/x"),
        ("/x y/%7e%C3%a9", None, "/venue/x%20y/%7e%C3%a9"),
        ('/"<>[]^`{|}', None, "/venue/%22%3C%3E%5B%5D%5E%60%7B%7C%7D"),
        ("/a?b[]={}|", None, "/venue/a?b%5B%5D=%7B%7D%7C"),
    ],
)
def test_url(asked: str, params: Any, sent: str) -> None:
    """Whatever the sidecar's address is, what the app has encoded is not touched."""
    for origin in ("http://localhost:15001", "http://[::1]:15001", "https://sidecar"):
        url = address.url(f"{origin}/venue", asked, params)
        assert (str(url.origin()), url.raw_path_qs, url.raw_fragment) == (origin, sent, "")


@pytest.mark.parametrize(
    "value",
    [None, True, b"x", {"x"}, uuid.UUID(int=7), decimal.Decimal("1.50"), datetime.date(2026, 1, 2), ["a", None]],
)
def test_params_that_are_no_text_and_no_numbers(value: Any) -> None:
    """A UUID and a Decimal have a whole number, which aiohttp would send."""
    params: Any
    for params in ({"id": value}, [("a", "b"), ("id", value)]):
        with pytest.raises(TypeError, match="params may be text, numbers, and lists of these: 'id' is a "):
            address.query(params)
