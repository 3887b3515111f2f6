"""Log lines: one JSON object a line, whatever is logged."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.telemetry.logs import JsonFormatter, json_line, set_up


def record(message: str, *args: Any, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("sidecar.test", logging.INFO, __file__, 1, message, args, more.pop("exc_info", None))
    made.__dict__.update(more)
    return made


def formatted(message: str, *args: Any, **more: Any) -> dict[str, Any]:
    line = JsonFormatter().format(record(message, *args, **more))
    assert "\n" not in line
    entry: dict[str, Any] = json.loads(line)
    return entry


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger; it and ours are put back as they were."""
    root, ours = logging.getLogger(), logging.getLogger("sidecar")
    handlers, levels, raising = root.handlers[:], (root.level, ours.level), logging.raiseExceptions
    yield root
    root.handlers[:], logging.raiseExceptions = handlers, raising
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def test_a_line_is_time_level_event_logger_and_fields() -> None:
    entry = formatted("draining", created=1_700_000_000.25, fields={"delay_s": 1.0, "services": ["a"], "route": None})
    assert list(entry.items()) == [
        ("time", "2023-11-14T22:13:20.250Z"),
        ("level", "info"),
        ("event", "draining"),
        ("logger", "sidecar.test"),
        ("delay_s", 1.0),
        ("services", ["a"]),
        ("route", None),
    ]


def test_a_message_takes_its_arguments() -> None:
    assert formatted("breaker %s after %d", "open", 3)["event"] == "breaker open after 3"


def test_an_exception_is_a_member_of_its_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        entry = formatted("failed", exc_info=sys.exc_info())
    assert entry["event"] == "failed"
    assert entry["exception"].startswith("Traceback (most recent call last):\n")
    assert entry["exception"].endswith("ValueError: two\nlines")


def test_a_line_end_in_a_message_cannot_begin_a_line_of_its_own() -> None:
    text = 'x\n{"level":"error","event":"forged"}\r\n'
    assert formatted("got %s", text)["event"] == f"got {text}"
    assert formatted("got", fields={"detail": text})["detail"] == text


def test_values_that_json_does_not_know_are_written_as_text() -> None:
    class Endpoint:
        def __str__(self) -> str:
            return "10.0.0.7:3002"

    assert formatted("got", fields={"endpoint": Endpoint(), "error": OSError("gone")}) | {"time": ""} == {
        "time": "",
        "level": "info",
        "event": "got",
        "logger": "sidecar.test",
        "endpoint": "10.0.0.7:3002",
        "error": "gone",
    }


def test_a_name_that_is_not_utf_8_is_logged_too() -> None:
    name = os.fsdecode(b"caf\xe9\x7f.yaml")
    assert formatted("cannot read %s", name, fields={"error": OSError(name)})["event"] == f"cannot read {name}"


@given(st.dictionaries(st.text(max_size=5), st.text() | st.integers() | st.none(), max_size=4))
def test_any_text_comes_back_and_no_control_character_goes_out(entry: dict[str, Any]) -> None:
    line = json_line(entry)
    assert json.loads(line) == entry
    assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in line.decode())


@given(st.text(st.characters(min_codepoint=0, max_codepoint=0xFF) | st.sampled_from("\ud800\u2028\U0001f600")))
def test_control_characters_are_escaped_beside_any_others(text: str) -> None:
    line = json_line({"event": text})
    assert json.loads(line) == {"event": text}
    assert not any(byte < 0x20 or byte == 0x7F for byte in line)
    assert not any("\x80" <= character <= "\x9f" for character in line.decode())


def test_what_is_set_up_writes_lines_of_that_level_and_above(root_logger: logging.Logger) -> None:
    lines: list[bytes] = []
    set_up("info", lines.append)
    log = logging.getLogger("sidecar.test")
    log.debug("not this")
    log.info("ready", extra={"fields": {"services": 3}})
    log.warning("careful")
    assert all(line.endswith(b"\n") for line in lines)
    entries = [json.loads(line) for line in lines]
    assert [(entry["level"], entry["event"]) for entry in entries] == [("info", "ready"), ("warning", "careful")]
    assert entries[0]["services"] == 3


def test_setting_up_again_does_not_write_lines_twice(root_logger: logging.Logger) -> None:
    first: list[bytes] = []
    second: list[bytes] = []
    set_up("debug", first.append)
    set_up("debug", second.append)
    logging.getLogger("sidecar.test").debug("once")
    assert (len(first), len(second)) == (0, 1)
