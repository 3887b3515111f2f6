"""The fuzzer of the HTTP/2 engine finds no fault in it, and sees those that an engine could have."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from sidecar.proxy.h2.hpack import Decoder
from sidecar.proxy.h2.stream import H2Stream
from sidecar.proxy.h2.writer import FrameWriter
from tools import fuzz_h2
from tools.fuzz_h2 import End, User


def run(conversations: int = 1_000) -> tuple[int, list[str]]:
    return fuzz_h2.fuzz(Random(1), lambda count: count < conversations)


def test_the_engine_has_no_fault() -> None:
    assert run(3_000) == (3_000, [])


def test_the_conversations_are_mostly_about_something(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: dict[str, int] = {}

    def counting(name: str, hears: Any) -> Any:
        def counted(self: User, *rest: Any) -> None:
            heard[name] = heard.get(name, 0) + 1
            hears(self, *rest)

        return counted

    for name in ("head_received", "data_received", "trailers_received", "stream_lost", "stream_writable"):
        monkeypatch.setattr(User, name, counting(name, getattr(User, name)))
    run()
    assert len(heard) == 5
    assert heard["head_received"] > 2_000
    assert min(heard.values()) > 50, heard


def test_an_exception_that_leaves_the_engine_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: End) -> None:
        raise KeyError("x")

    monkeypatch.setattr(End, "resume_writing", fails)
    assert "KeyError left the engine" in run()[1][0]


def test_an_exception_that_is_only_logged_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: User, *_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(User, "trailers_received", fails)
    assert "KeyError" in run()[1][0]


def test_what_is_left_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrameWriter, "forget", lambda self, sender: None)
    assert "left: " in run()[1][0]


def test_what_is_heard_after_the_end_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = H2Stream.lose

    def says_it_twice(self: H2Stream, code: int, unprocessed: bool, why: str) -> None:
        user = self.user
        right(self, code, unprocessed, why)
        if user is not None:
            user.stream_writable()

    monkeypatch.setattr(H2Stream, "lose", says_it_twice)
    assert any("after its stream's end" in one for one in run()[1])


def test_a_block_that_is_read_otherwise_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Decoder.decode
    monkeypatch.setattr(Decoder, "decode", lambda self, block: [*right(self, block), (b"x", b"y")])
    assert any("by hpack as" in one for one in run()[1])


def test_the_exit_code_says_whether_all_went_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuzz_h2.main(["--seconds", "0.2", "--seed", "7"]) == 0
    assert "fuzz_h2: seed 7" in capsys.readouterr().out
    monkeypatch.setattr(FrameWriter, "forget", lambda self, sender: None)
    assert fuzz_h2.main(["--seconds", "0.5", "--seed", "7"]) == 1
