from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy.h2 import huffman

ROOT = Path(__file__).resolve().parents[3]


def packed(text: bytes, padding: int = 0xFF) -> bytes:
    bits = "".join(f"{code:0{length}b}" for code, length in (huffman.codes()[byte] for byte in text))
    bits += f"{padding:08b}"[: -len(bits) % 8]
    return int(bits, 2).to_bytes(len(bits) // 8, "big") if bits else b""


def decoded(data: bytes) -> bytes:
    return huffman.decode(data, huffman.states())


def test_the_codes_are_those_of_the_appendix() -> None:
    assert huffman.codes() == list(zip(REQUEST_CODES, REQUEST_CODES_LENGTH, strict=True))


@given(st.binary(max_size=200))
def test_strings_of_any_bytes(text: bytes) -> None:
    assert decoded(packed(text)) == text


def test_padding_is_at_most_seven_ones() -> None:
    """RFC 7541, section 5.2."""
    assert decoded(packed(b"0")) == b"0"
    for wrong in (packed(b"0", 0), packed(b"0", 0xDF), packed(b"0") + b"\xff", packed(b"!!!!") + b"\xff"):
        with pytest.raises(huffman.HuffmanError, match="padding"):
            decoded(wrong)


def test_eos_is_no_symbol() -> None:
    for wrong in (b"\xff" * 4, packed(b"0") + b"\xff" * 5):
        with pytest.raises(huffman.HuffmanError, match="EOS"):
            decoded(wrong)


def test_a_sidecar_that_meets_no_http2_makes_no_table() -> None:
    """It is imported with the data path; the tables are made for the first connection."""
    made = (
        "import sidecar.proxy.h2.connection\n"
        "from sidecar.proxy.h2 import huffman, static_table\n"
        "tables = (huffman.states, huffman.codes, static_table.fields, static_table.numbers)\n"
        "print([one.cache_info().currsize for one in tables])"
    )
    run = subprocess.run([sys.executable, "-c", made], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.stdout == "[0, 0, 0, 0]\n", run.stderr
