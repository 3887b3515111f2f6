from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy.h2 import frames
from sidecar.proxy.h2.frame_reader import FrameReader
from sidecar.proxy.h2.frames import (
    CONTINUATION,
    DATA,
    ENHANCE_YOUR_CALM,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ConnectionFault,
    frame,
)

Frame = tuple[int, int, bytes, bool]


def read(*chunks: bytes, max_block: int = 1000) -> list[Frame]:
    """Type, stream, payload and end of each; parts of DATA are put together."""
    reader = FrameReader(max_block)
    found: list[Frame] = []
    for chunk in chunks:
        reader.feed(chunk)
        while reader.next():
            found.append((reader.kind, reader.stream_id, reader.payload, reader.end))
    return found


def fault(data: bytes) -> int:
    with pytest.raises(ConnectionFault) as caught:
        read(data)
    return caught.value.code


MIXED = [
    frame(SETTINGS, 0, 0, b"\0\3\0\0\0\1"),
    frame(HEADERS, 0x1, 1, b"ab"),
    frame(CONTINUATION, 0, 1, b""),
    frame(CONTINUATION, 0x4, 1, b"cd"),
    frame(HEADERS, 0x2C, 3, b"\1\0\0\0\0\x10xyz\0"),
    frame(DATA, 0x9, 3, b"\2body\0\0"),
    frame(PING, 0, 0, b"12345678"),
    frame(0x55, 0xFF, 9, b"unknown"),
]
READ: list[Frame] = [
    (SETTINGS, 0, b"\0\3\0\0\0\1", False),
    (HEADERS, 1, b"abcd", True),
    (HEADERS, 3, b"xyz", False),
    (DATA, 3, b"body", True),
]


@given(st.lists(st.integers(1, 30), max_size=40))
def test_frames_are_cut_alike_however_they_come(cuts: list[int]) -> None:
    data = b"".join(MIXED)
    chunks = []
    for cut in cuts:
        chunks.append(data[:cut])
        data = data[cut:]
    found = read(*chunks, data)
    assert found[: len(READ)] == READ
    assert [one[:3] for one in found[len(READ) :]] == [(PING, 0, b"12345678"), (0x55, 9, b"unknown")]


def test_data_does_not_wait_for_the_rest_of_its_frame() -> None:
    data = frame(DATA, 0x1, 1, b"hello world")
    assert read(data[:9], data[9:14], data[14:]) == [(DATA, 1, b"hello", False), (DATA, 1, b" world", True)]
    assert read(data[:12] + b"", data[12:]) == [(DATA, 1, b"hel", False), (DATA, 1, b"lo world", True)]
    assert read(frame(DATA, 1, 1, b"")) == [(DATA, 1, b"", True)]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frames.frame_header(16385, DATA, 0, 1), FRAME_SIZE_ERROR),
        (frames.frame_header(16385, HEADERS, 0, 1), FRAME_SIZE_ERROR),
        (frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
        (frame(HEADERS, 4, 0, b"x"), PROTOCOL_ERROR),
        (frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL_ERROR),
        (frame(RST_STREAM, 0, 0, bytes(4)), PROTOCOL_ERROR),
        (frame(SETTINGS, 0, 1, b""), PROTOCOL_ERROR),
        (frame(PING, 0, 1, bytes(8)), PROTOCOL_ERROR),
        (frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL_ERROR),
        (frame(CONTINUATION, 4, 1, b""), PROTOCOL_ERROR),
        (frame(PUSH_PROMISE, 4, 1, bytes(4)), PROTOCOL_ERROR),
        (frame(PRIORITY, 0, 1, bytes(4)), FRAME_SIZE_ERROR),
        (frame(RST_STREAM, 0, 1, bytes(3)), FRAME_SIZE_ERROR),
        (frame(RST_STREAM, 0, 1, bytes(5)), FRAME_SIZE_ERROR),
        (frame(PING, 0, 0, bytes(6)), FRAME_SIZE_ERROR),
        (frame(WINDOW_UPDATE, 0, 0, bytes(3)), FRAME_SIZE_ERROR),
        (frame(GOAWAY, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
        (frame(SETTINGS, 1, 0, bytes(6)), FRAME_SIZE_ERROR),
        (frame(DATA, 8, 1, b""), FRAME_SIZE_ERROR),
        (frame(DATA, 8, 1, b"\x05abc"), PROTOCOL_ERROR),
        (frame(HEADERS, 0xC, 1, b"\x05abc"), PROTOCOL_ERROR),
        (frame(HEADERS, 0x24, 1, b"\0\0\0\0"), FRAME_SIZE_ERROR),
        (frame(HEADERS, 0x24, 1, b"\x80\0\0\1\x10abc"), PROTOCOL_ERROR),
        (frame(HEADERS, 0, 1, b"a") + frame(DATA, 0, 1, b"b"), PROTOCOL_ERROR),
        (frame(HEADERS, 0, 1, b"a") + frame(HEADERS, 4, 1, b"b"), PROTOCOL_ERROR),
        (frame(HEADERS, 0, 1, b"a") + frame(CONTINUATION, 4, 3, b"b"), PROTOCOL_ERROR),
        (frame(HEADERS, 0, 1, b"a") + frame(0x55, 0, 1, b"b"), PROTOCOL_ERROR),
        (
            frame(HEADERS, 0, 1, b"a") + frame(CONTINUATION, 4, 1, b"b") + frame(CONTINUATION, 4, 1, b"c"),
            PROTOCOL_ERROR,
        ),
        (frame(HEADERS, 0, 1, b"a") + frame(CONTINUATION, 0, 1, b"b") * 33, ENHANCE_YOUR_CALM),
        (frame(HEADERS, 0, 1, b"a") + frame(CONTINUATION, 4, 1, b"b" * 1000), ENHANCE_YOUR_CALM),
    ],
)
def test_frames_that_are_wrong_in_any_state(data: bytes, code: int) -> None:
    assert fault(data) == code


def test_a_header_block_at_its_limits() -> None:
    block = (
        frame(HEADERS, 0, 1, b"a") + frame(CONTINUATION, 0, 1, b"b" * 31) * 31 + frame(CONTINUATION, 4, 1, b"c" * 38)
    )
    assert [(kind, len(payload)) for kind, _, payload, _ in read(block)] == [(HEADERS, 1000)]


def test_a_frame_that_is_wrong_is_refused_before_its_payload_came() -> None:
    assert fault(frames.frame_header(16000, PING, 0, 0)) == FRAME_SIZE_ERROR
