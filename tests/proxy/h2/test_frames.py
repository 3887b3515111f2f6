from __future__ import annotations

import pytest
from hyperframe.frame import Frame, GoAwayFrame, SettingsFrame

from sidecar.proxy.h2 import frames
from sidecar.proxy.h2.frames import ConnectionFault


def parsed(data: bytes) -> Frame:
    frame, size = Frame.parse_frame_header(memoryview(data[:9]))
    frame.parse_body(memoryview(data[9 : 9 + size]))
    assert len(data) == 9 + size
    return frame


def test_frames_are_read_by_another_library() -> None:
    goaway = parsed(frames.goaway(7, frames.PROTOCOL_ERROR, "why" * 100))
    assert isinstance(goaway, GoAwayFrame)
    assert (goaway.last_stream_id, goaway.error_code, len(goaway.additional_data)) == (7, 1, 100)
    settings = parsed(frames.settings([(frames.INITIAL_WINDOW_SIZE, 1 << 18)]))
    assert isinstance(settings, SettingsFrame)
    assert settings.settings == {4: 1 << 18}
    assert parsed(frames.window_update(5, 99)).window_increment == 99  # type: ignore[attr-defined]
    assert parsed(frames.rst_stream(5, frames.CANCEL)).error_code == 8  # type: ignore[attr-defined]
    largest = frames.frame_header(frames.MAX_FRAME, frames.CONTINUATION, 255, frames.MAX_ID)
    assert largest == b"\x00\x40\x00\x09\xff\x7f\xff\xff\xff"


def pairs(*found: tuple[int, int]) -> bytes:
    return frames.settings(list(found))[9:]


@pytest.mark.parametrize(
    ("key", "good", "bad", "code"),
    [
        (frames.ENABLE_PUSH, 1, 2, frames.PROTOCOL_ERROR),
        (frames.INITIAL_WINDOW_SIZE, 2**31 - 1, 2**31, frames.FLOW_CONTROL_ERROR),
        (frames.MAX_FRAME_SIZE, 16384, 16383, frames.PROTOCOL_ERROR),
        (frames.MAX_FRAME_SIZE, 16777215, 16777216, frames.PROTOCOL_ERROR),
    ],
)
def test_settings_at_and_beyond_their_bounds(key: int, good: int, bad: int, code: int) -> None:
    assert frames.read_settings(pairs((key, good)), from_server=False) == [(key, good)]
    with pytest.raises(ConnectionFault) as caught:
        frames.read_settings(pairs((key, bad)), from_server=False)
    assert caught.value.code == code


def test_a_server_does_not_enable_push() -> None:
    assert frames.read_settings(pairs((frames.ENABLE_PUSH, 0)), from_server=True)
    with pytest.raises(ConnectionFault):
        frames.read_settings(pairs((frames.ENABLE_PUSH, 1)), from_server=True)


def test_unknown_settings_are_ignored_and_their_number_is_bounded() -> None:
    assert frames.read_settings(pairs((0x55, 1), (3, 9), (0, 0)), from_server=False) == [(3, 9)]
    with pytest.raises(ConnectionFault) as caught:
        frames.read_settings(pairs((0x55, 1)) * 65, from_server=False)
    assert caught.value.code == frames.ENHANCE_YOUR_CALM
    with pytest.raises(ConnectionFault) as caught:
        frames.read_settings(b"12345", from_server=False)
    assert caught.value.code == frames.FRAME_SIZE_ERROR


@pytest.mark.parametrize(("payload", "content"), [(b"\0abc", b"abc"), (b"\2abc", b"a"), (b"\3abc", b""), (b"\0", b"")])
def test_padding_is_taken_off(payload: bytes, content: bytes) -> None:
    assert frames.unpadded(payload) == content


@pytest.mark.parametrize("payload", [b"", b"\1", b"\4abc", b"\xff"])
def test_padding_is_not_more_than_the_frame(payload: bytes) -> None:
    with pytest.raises(ConnectionFault):
        frames.unpadded(payload)


def test_codes_have_names() -> None:
    assert frames.code_name(frames.CANCEL) == "CANCEL"
    assert frames.code_name(99) == "error code 99"
