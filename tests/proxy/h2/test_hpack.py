from __future__ import annotations

import hpack as reference
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy.h2.hpack import Decoder, Encoder, Fields, HpackError
from sidecar.proxy.h2.sensitive import Sensitive

LIST = 65536
NAMES = st.sampled_from([b":path", b":method", b"accept", b"x-a", b"x-bb", b"cookie", b"grpc-timeout", b"content-type"])
VALUES = st.one_of(st.sampled_from([b"", b"GET", b"/", b"application/grpc", b"a" * 1500]), st.binary(max_size=40))
LISTS = st.lists(st.lists(st.tuples(NAMES, VALUES), max_size=12), max_size=12)


def encoded(encoder: Encoder, fields: Fields) -> bytes:
    out: list[bytes] = []
    assert encoder.encode(fields, out) == len(b"".join(out))
    return b"".join(out)


def decoded(block: str, decoder: Decoder | None = None) -> Fields:
    return (decoder or Decoder(LIST)).decode(bytes.fromhex(block))


REQUESTS: list[Fields] = [
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")],
    [
        *((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")),
        (b"cache-control", b"no-cache"),
    ],
    [
        *(
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":path", b"/index.html"),
            (b":authority", b"www.example.com"),
        ),
        (b"custom-key", b"custom-value"),
    ],
]


@pytest.mark.parametrize(
    "blocks",
    [
        [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ],
        [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ],
    ],
    ids=["plain", "huffman"],
)
def test_the_requests_of_the_rfc(blocks: list[str]) -> None:
    """RFC 7541, appendices C.3 and C.4."""
    decoder = Decoder(LIST)
    assert [decoded(block, decoder) for block in blocks] == REQUESTS
    assert decoder.table_size == 164


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ("80", "index 0"),
        ("be", "beyond the table"),
        ("ff00", "beyond the table"),
        ("7f", "within an integer"),
        ("ffffffffffffff", "too large"),
        ("ff8080808080808080", "too large"),
        ("00", "before a string"),
        ("000161", "before a string"),
        ("0005616263", "within a string"),
        ("3fe21f", "above the one allowed"),
        ("8220", "within a block"),
        ("000161 81ff", "EOS"),
        ("000161 84ffffffff", "EOS"),
        ("000161 8100", "padding"),
        ("000161 821fff", "padding"),
    ],
)
def test_what_cannot_be_decoded(block: str, why: str) -> None:
    with pytest.raises(HpackError, match=why):
        decoded(block)


@pytest.mark.parametrize(
    "field",
    [
        (b"Accept", b"a"),
        (b"a b", b"a"),
        (b"a:b", b"a"),
        (b"", b"a"),
        (b"a\x7f", b"a"),
        (b"a\xff", b"a"),
        (b"a\0", b"a"),
        (b"a", b"a\0b"),
        (b"a", b"a\rb"),
        (b"a", b"a\n"),
        (b"a", b" a"),
        (b"a", b"a\t"),
        (b"a", b" "),
    ],
)
def test_a_malformed_field_is_one_each_time_it_comes(field: tuple[bytes, bytes]) -> None:
    """RFC 9113, section 8.2.1."""
    name, value = field
    block = b"\x40" + bytes([len(name)]) + name + bytes([len(value)]) + value
    decoder = Decoder(LIST)
    decoder.decode(block)
    assert decoder.malformed
    decoder.decode(b"\x82")
    assert not decoder.malformed
    assert decoder.decode(b"\xbe") == [field]
    assert decoder.malformed
    decoder.decode(block + b"\x82")
    decoder.decode(b"\xbf")
    assert decoder.malformed
    decoder.decode(b"\x20\x82")
    assert not decoder.malformed


@pytest.mark.parametrize("field", [(b"a", b""), (b"a", b"a b"), (b"a", b"\xff\x7f"), (b"x_!~", b"a:b")])
def test_a_field_that_is_unusual_and_right(field: tuple[bytes, bytes]) -> None:
    decoder = Decoder(LIST)
    assert decoder.decode(encoded(Encoder(), [field])) == [field]
    assert not decoder.malformed


def test_a_list_that_is_too_large_is_said_to_be_so_and_the_table_stays_in_step() -> None:
    encoder, decoder = Encoder(), Decoder(1000)
    fields: Fields = [(b"x-%d" % at, b"v" * 50) for at in range(20)]
    decoder.decode(encoded(encoder, fields))
    assert decoder.too_large
    assert decoder.decode(encoded(encoder, fields[10:15])) == fields[10:15]
    assert not decoder.too_large


def test_a_bomb_is_given_up() -> None:
    decoder = Decoder(16384)
    decoder.decode(encoded(Encoder(), [(b"x", b"v" * 900)]))
    with pytest.raises(HpackError, match="many times too large"):
        decoder.decode(b"\xbe" * 60_000)
    assert decoder.too_large


def test_secrets_are_never_indexed() -> None:
    encoder = Encoder()
    first = encoded(encoder, [(b"authorization", b"Bearer x"), (b"x-key", Sensitive(b"y"))])
    assert first == encoded(encoder, [(b"authorization", b"Bearer x"), (b"x-key", Sensitive(b"y"))])
    fields = Decoder(LIST).decode(first)
    assert fields == [(b"authorization", b"Bearer x"), (b"x-key", b"y")]
    assert [type(value) for _, value in fields] == [Sensitive, Sensitive]
    assert [field.indexable for field in reference.Decoder().decode(first, raw=True)] == [False, False]


def test_a_field_that_is_in_the_table_and_secret_now_is_not_indexed() -> None:
    encoder = Encoder()
    encoded(encoder, [(b"x-key", b"y")])
    assert encoded(encoder, [(b"x-key", b"y")]) == b"\xbe"
    assert encoded(encoder, [(b"x-key", Sensitive(b"y"))])[0] & 0xF0 == 0x10


def test_a_smaller_table_is_announced() -> None:
    """RFC 7541, section 4.2: the smallest size in between, and the last."""
    encoder, decoder = Encoder(), Decoder(LIST)
    fields: Fields = [(b"x-%d" % at, b"v" * 50) for at in range(20)]
    decoder.decode(encoded(encoder, fields))
    encoder.resize(100)
    encoder.resize(2000)
    block = encoded(encoder, fields)
    assert block.startswith(bytes.fromhex("3f45 3fb10f".replace(" ", "")))
    assert decoder.decode(block) == fields
    assert decoder.table_size <= 2000
    encoder.resize(0)
    assert decoder.decode(encoded(encoder, fields)) == fields
    assert decoder.table_size == 0


def test_thousands_of_fields_through_the_tables() -> None:
    """What was evicted is cut off the lists behind the tables, within a block too."""
    encoder, decoder, other = Encoder(), Decoder(1 << 20), reference.Decoder(1 << 20)
    numbers = iter(range(10_000))
    for size in (1, 400, 3, 1000, 50):
        fields: Fields = []
        for _ in range(size):
            at = next(numbers)
            fields += [(b"x-new", b"%d" % at), (b"x-same", b"same"), (b"x-%d" % (at % 7), b"%d" % (at % 90))]
        block = encoded(encoder, fields)
        assert decoder.decode(block) == fields
        assert [(bytes(name), bytes(value)) for name, value in other.decode(block, raw=True)] == fields
    assert len(encoder._entries) < 1000
    assert len(decoder._table) < 1000


def test_the_table_s_size_does_not_change_for_ever() -> None:
    assert Decoder(LIST).decode(b"\x20" * 16 + b"\x82") == [(b":method", b"GET")]
    with pytest.raises(HpackError, match="again and again"):
        Decoder(LIST).decode(b"\x20" * 17)


def test_a_list_that_was_returned_may_be_changed() -> None:
    decoder = Decoder(LIST)
    decoder.decode(b"\x82\x84").append((b"x", b"y"))
    decoder.decode(b"\x82\x84").clear()
    assert decoder.decode(b"\x82\x84") == [(b":method", b"GET"), (b":path", b"/")]


@given(lists=LISTS, sizes=st.lists(st.integers(0, 5000), min_size=12, max_size=12))
def test_what_is_encoded_both_decoders_read_alike(lists: list[Fields], sizes: list[int]) -> None:
    encoder, decoder, other = Encoder(), Decoder(LIST), reference.Decoder(LIST)
    for fields, size in zip(lists, sizes, strict=False):
        if size % 3 == 0:
            encoder.resize(size)
        block = encoded(encoder, fields)
        assert decoder.decode(block) == fields
        assert [(bytes(name), bytes(value)) for name, value in other.decode(block, raw=True)] == fields


@given(lists=LISTS, huffman=st.booleans(), sizes=st.lists(st.integers(0, 4096), min_size=12, max_size=12))
def test_what_another_encodes_is_read(lists: list[Fields], huffman: bool, sizes: list[int]) -> None:
    encoder, decoder = reference.Encoder(), Decoder(LIST)
    for fields, size in zip(lists, sizes, strict=False):
        if size % 3 == 0:
            encoder.header_table_size = size
        assert decoder.decode(encoder.encode(fields, huffman=huffman)) == fields


@given(blocks=st.lists(st.binary(max_size=60), max_size=8))
def test_bytes_of_any_kind_are_read_as_the_other_decoder_reads_them(blocks: list[bytes]) -> None:
    decoder, other = Decoder(LIST), reference.Decoder(LIST)
    for block in blocks:
        try:
            wanted = [(bytes(name), bytes(value)) for name, value in other.decode(block, raw=True)]
        except Exception:
            wanted = None
        try:
            found = decoder.decode(block)
        except HpackError:
            assert wanted is None or 0x80 in block or 0xFF in block  # that one reads integers of any length
            return
        assert found == wanted
