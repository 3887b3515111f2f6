"""JSON to and from an app's types, and words for what does not fit that repeat nothing of it."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import gzip
import uuid
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.client import decoding
from sidecar.client.decoding import Mismatch, check, decode, encode


@dataclasses.dataclass
class Seat:
    row: int
    name: str = "?"


class Kind(enum.Enum):
    HALL = "hall"
    CLUB = "club"


class Venue(msgspec.Struct):
    id: int
    seats: list[Seat] = []
    kind: Kind = Kind.HALL
    built: datetime.date | None = None
    size: Literal["s", "l"] = "s"


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    id: int


class Row(TypedDict):
    id: int


class Model:
    """What is needed of a pydantic model, whose errors have `errors()` and repeat the input in their words."""

    class Invalid(ValueError):
        def errors(self) -> list[dict[str, Any]]:
            return [{"type": "int_parsing", "loc": ("seats", 0, "row"), "msg": "Input SECRET", "input": "SECRET"}] * 5

    def __init__(self, row: int) -> None:
        self.row = row

    @classmethod
    def model_validate_json(cls, body: bytes) -> Model:
        found = msgspec.json.decode(body)
        if not isinstance(found["row"], int):
            raise cls.Invalid(f"Input should be an integer, not {found}")
        return cls(found["row"])

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        assert mode == "json"
        return {"row": self.row}


class Upload:
    pass


THREE = ", ".join(["int_parsing at `$.seats[0].row`"] * 3)


class Holder(msgspec.Struct):
    model: Model


@pytest.mark.parametrize(
    ("body", "wanted", "value"),
    [
        (b'{"id": 1, "more": 2}', Venue, Venue(1)),
        (b'{"id": 1, "seats": [{"row": 3}], "kind": "club"}', Venue, Venue(1, [Seat(3)], Kind.CLUB)),
        (b'[{"id": 1}]', list[Venue], [Venue(1)]),
        (b'{"a": {"row": 1}}', dict[str, Seat], {"a": Seat(1)}),
        (b'{"id": 1}', Row, {"id": 1}),
        (b"null", Venue | None, None),
        (b'{"a": [1, null]}', Any, {"a": [1, None]}),
        (b" 7 ", int, 7),
        (b'\xef\xbb\xbf{"id": 1}', Venue, Venue(1)),
    ],
)
def test_types(body: bytes, wanted: Any, value: Any) -> None:
    assert decode(body, wanted) == value


def test_models_by_themselves_and_inside() -> None:
    assert decode(b'{"row": 4}', Model).row == 4
    assert [model.row for model in decode(b'[{"row": 4}, {"row": 5}]', list[Model])] == [4, 5]
    assert decode(b'{"model": {"row": 6}}', Holder).model.row == 6
    assert encode({"a": [Model(7)]}) == b'{"a":[{"row":7}]}'


def test_a_real_pydantic_model() -> None:
    import pydantic

    event = pydantic.create_model("Event", id=(int, ...), at=(datetime.datetime, ...), name=(str, "?"))
    body = b'{"id": 1, "at": "2026-11-23T10:00:00Z"}'
    for found in (decode(body, event), decode(b"[%b]" % body, list[event])[0]):
        assert isinstance(found, event)
        assert (found.id, found.at.hour) == (1, 10)
    assert encode(decode(body, event)) == b'{"id":1,"at":"2026-11-23T10:00:00Z","name":"?"}'
    with pytest.raises(Mismatch, match=r"int_parsing at `\$\.id`, missing at `\$\.at`") as caught:
        decode(b'{"id": "SECRET"}', event)
    assert "SECRET" not in str(caught.value)
    with pytest.raises(Mismatch) as caught:
        decode(b'[{"id": "SECRET"}]', list[event])
    assert "SECRET" not in str(caught.value)
    assert str(caught.value).endswith(" - at `$[0]`")
    draft = pydantic.create_model("Draft", title=(str, ...))
    for sent, model in ((body, event), (b'{"title": "t"}', draft)):
        assert isinstance(decode(sent, pydantic.RootModel[event | draft]).root, model)


def test_a_body_that_is_not_utf_8() -> None:
    # msgspec 0.22 and 0.23 word this error differently.
    with pytest.raises(Mismatch, match=r"^not JSON: .*UTF-8"):
        decode(b'"\xff"', str)


@pytest.mark.parametrize(
    ("body", "wanted", "words"),
    [
        (b"", Venue, "the body is empty"),
        (b" \n", int, "the body is empty"),
        (b"\xef\xbb\xbf", list[Venue], "the body is empty"),
        (b"", Model, "the body is empty"),
        (b"\x1f\x8bgz", Any, "the body begins as gzip, without a Content-Encoding, and cannot be unpacked"),
        (
            gzip.compress(b"[1]", mtime=0)[:-3],
            Any,
            "the body begins as gzip, without a Content-Encoding, and is not one whole gzip member",
        ),
        (b"<html>", Venue, "not JSON: JSON is malformed: invalid character (byte 0)"),
        (b'{"id": 1', Venue, "not JSON: Input data was truncated"),
        (b'{"id": "SECRET"}', Venue, "Expected `int`, got `str` - at `$.id`"),
        (b'{"id": 1, "seats": [{"row": "SECRET"}]}', Venue, "Expected `int`, got `str` - at `$.seats[0].row`"),
        (b'{"id": 1, "kind": "SECRET"}', Venue, "Invalid enum value - at `$.kind`"),
        (b'{"id": 1, "kind": "SECRET - at `$.x`"}', Venue, "Invalid enum value - at `$.kind`"),
        (b'"SECRET - at `$.x`"', Kind, "Invalid enum value"),
        (b'{"id": 1, "size": "SECRET"}', Venue, "Invalid enum value - at `$.size`"),
        (b'{"id": 1, "SECRET": 1}', Strict, "Object contains unknown field"),
        (b'"SECRET"', uuid.UUID, "Invalid UUID"),
        (b'{"row": "SECRET"}', Model, THREE + " and 2 more"),
        (b'[{"row": "SECRET"}]', list[Model], THREE + " and 2 more - at `$[0]`"),
    ],
)
def test_words_for_what_does_not_fit(body: bytes, wanted: Any, words: str) -> None:
    with pytest.raises(Mismatch) as caught:
        decode(body, wanted)
    assert str(caught.value) == words


secrets = st.text(min_size=4, alphabet=st.characters(categories=["Lu", "Nd"]))


@given(secrets, st.sampled_from([Strict, Kind, list[Strict], dict[str, Kind]]))
def test_no_value_is_repeated(secret: str, wanted: Any) -> None:
    for value in (secret, {"id": secret}, {"id": 1, secret: 1}, [secret], [{"id": 1, secret: 1}]):
        with pytest.raises(Mismatch) as caught:
            decode(msgspec.json.encode(value), wanted)
        assert secret not in str(caught.value)


def test_what_is_sent() -> None:
    assert encode(Venue(1, built=datetime.date(2026, 1, 2))) == (
        b'{"id":1,"seats":[],"kind":"hall","built":"2026-01-02","size":"s"}'
    )
    assert encode([Seat(1), {"a": None}]) == b'[{"row":1,"name":"?"},{"a":null}]'


def test_what_has_no_json_form() -> None:
    with pytest.raises(TypeError, match="a object has no JSON form"):
        encode({"a": object()})


@pytest.mark.parametrize("body", [b"", b" \r\n", b"\xef\xbb\xbf", b"null"])
@pytest.mark.parametrize("wanted", [Any, None, Venue | None, list[Seat] | None, int | str | None])
def test_no_body_is_none_if_the_type_allows_it(body: bytes, wanted: Any) -> None:
    assert decode(body, wanted) is None


def test_gzip_that_nobody_asked_for_is_unpacked() -> None:
    assert decode(gzip.compress(b'{"id": 1}', mtime=0), Venue) == Venue(1)
    assert decode(gzip.compress(b"\xef\xbb\xbf[1]", mtime=0), list[int]) == [1]


def test_gzip_that_grows_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_UNPACKED", 1000)
    assert len(decode(gzip.compress(b'"' + b"a" * 998 + b'"', mtime=0), str)) == 998
    with pytest.raises(Mismatch, match="over 1000 bytes when unpacked"):
        decode(gzip.compress(b'"' + b"a" * 999 + b'"', mtime=0), str)


@dataclasses.dataclass
class Draft:
    title: str


class Box(msgspec.Struct):
    inside: list[Upload | None]


class Tree(msgspec.Struct):
    children: list[Tree] = []


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Seat | Draft, "may not contain more than one"),
        (list[Seat | Draft], "may not contain more than one"),
        (dict[str, Seat | Row], "may not contain more than one"),
        (list[Upload], "msgspec does not support .*Upload.*model_validate_json"),
        (Box, "msgspec does not support .*Upload"),
        (Annotated[Seat | Draft, []], "may not contain more than one"),
        (Model | Seat, "may not contain"),
    ],
)
def test_type_that_cannot_be_decoded(wanted: Any, words: str) -> None:
    for _ in range(2):
        with pytest.raises(TypeError, match=words):
            check(wanted)
    with pytest.raises(TypeError, match=words):
        decode(b"{}", wanted)


@pytest.mark.parametrize(
    "wanted", [Any, None, Seat, Tree, Model, list[Model], Model | None, Holder, Row, Annotated[Seat, []], Seat | None]
)
def test_type_that_can_be_decoded(wanted: Any) -> None:
    check(wanted)
