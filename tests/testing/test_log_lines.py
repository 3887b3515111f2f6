"""The sidecar's log in a report, line by line."""

from __future__ import annotations

from datetime import UTC, datetime

from sidecar.testing.log_lines import readable, since, stamp

AT = '{"time":"2026-11-23T05:06:47.386Z","level":"info",'


def test_a_request_is_one_short_line() -> None:
    line = (
        AT + '"event":"request","request_id":"4f","service":"venue","method":"GET","target":"/venue/x","status":200,'
        '"reason":"ok","duration_ms":3.6,"attempts":[{"endpoint":"127.0.0.1:1","reason":"ok","status":200}]}'
    )
    assert readable([line]) == ["05:06:47.386 info GET /venue/x: 200 ok, 3.6 ms [4f]"]


def test_attempts_are_told_where_there_were_several() -> None:
    line = (
        AT + '"event":"request","request_id":"4f","method":"GET","target":"/venue/x","status":502,"reason":"reset",'
        '"detail":"it broke","attempts":[{"reason":"status","status":503},{"reason":"reset","status":null}]}'
    )
    assert readable([line]) == [
        "05:06:47.386 info GET /venue/x: 502 reset, it broke, 2 attempts (status 503, reset) [4f]"
    ]


def test_another_event_has_its_fields() -> None:
    line = AT + '"event":"breaker open","logger":"sidecar","service":"venue"}'
    assert readable([line]) == ["05:06:47.386 info breaker open service=venue"]


def test_what_the_fakes_brought_about_is_left_out() -> None:
    assert readable([AT + '"event":"configuration reloaded","changed":[]}']) == []
    empty = "services (line 2) is empty: every call is answered with 404 (unknown_service)"
    warning = AT + '"event":"the configuration has a warning","detail":"%s"}'
    assert readable([warning % empty]) == []
    assert len(readable([warning % "another one"])) == 1


def test_what_is_no_json_stays() -> None:
    lines = ["Traceback (most recent call last):", "[]", "{}", '{"time": 3, "event": "x"}']
    assert readable(lines) == lines


def test_lines_of_the_test_before_are_left_out_though_they_come_late() -> None:
    text = """\
{"time":"2026-11-23T05:06:47.385Z","event":"late"}
{"time":"2026-11-23T05:06:47.386Z","event":"first"}
Traceback"""
    begin = stamp(datetime(2026, 11, 23, 5, 6, 47, 386_000, UTC).timestamp())
    assert begin == "2026-11-23T05:06:47.386Z"
    assert since(text, begin) == ['{"time":"2026-11-23T05:06:47.386Z","event":"first"}', "Traceback"]
    assert len(since(text, "")) == 3
