"""Numbers and values in words, and tables."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.cli import output


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "-"), (0.04, "0.0 ms"), (3.14, "3.1 ms"), (99.9, "99.9 ms"), (100.4, "100 ms"), (1000, "1.0 s")],
)
def test_milliseconds(value: float | None, words: str) -> None:
    assert output.milliseconds(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (-1, "0s"),
        (0, "0s"),
        (0.4, "1s"),
        (59.6, "1m"),
        (60, "1m"),
        (250, "4m 10s"),
        (3600, "1h"),
        (3661, "1h 1m"),
        (86400, "24h"),
    ],
)
def test_seconds(value: float, words: str) -> None:
    assert output.seconds(value) == words


@pytest.mark.parametrize(("value", "words"), [(None, "-"), (100.0, "100%"), (99.5, "99.5%"), (0.0, "0%")])
def test_percent(value: float | None, words: str) -> None:
    assert output.percent(value) == words


@pytest.mark.parametrize(("value", "words"), [(None, "-"), (12.0, "12"), (12.34, "12.3"), (7, "7")])
def test_number(value: float | None, words: str) -> None:
    assert output.number(value) == words


def test_times() -> None:
    assert output.clock("2026-11-23T01:02:03.456Z") == "2026-11-23 01:02:03Z"
    assert output.clock(None) == "-"
    assert output.time_left(None) is None
    assert output.time_left("2020-01-01T00:00:00.000Z") == "0s"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([503, "reset"], "[503, reset]"),
        ({"path": "/a", "methods": ["GET"]}, "{path: /a, methods: [GET]}"),
        (True, "true"),
        ("5s", "5s"),
        (0.2, "0.2"),
        (0.25, "0.25"),
    ],
)
def test_values_as_yaml_has_them(value: Any, words: str) -> None:
    assert output.value_text(value) == words


def test_nothing_from_elsewhere_reaches_the_terminal_as_a_command() -> None:
    assert output.printable("a\x1b[31mb\nc é") == "a?[31mb?c é"


def test_origins() -> None:
    assert output.origin_of({"value": 1, "origin": "default", "line": None}) == "default"
    assert output.origin_of({"value": 1, "origin": "service", "line": 12}) == "service, line 12"


def test_a_table_has_no_blanks_at_the_end_of_a_line_and_is_as_wide_as_it_needs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    output.show(
        output.table(["name", ">count", "text"], [("a", "1", "x" * 200), ("bb", "22", output.styled("y", "red"))])
    )
    assert capsys.readouterr().out.splitlines() == ["name  count  text", f"a         1  {'x' * 200}", "bb       22  y"]


def test_a_table_fits_into_the_columns_that_there_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    output.show(output.table(["name", "text"], [("n" * 30, "x" * 200)]))
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 40
