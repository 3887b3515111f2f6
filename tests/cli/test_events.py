"""`sidecar events`: the past, and what follows."""

from __future__ import annotations

import json

from tests.cli.command import fine, sidecar
from tests.cli.fake_admin import FakeAdmin, event


def test_the_past_in_lines() -> None:
    fields = {"by": "127.0.0.1", "route": None, "changed": [1, 2, 3, 4], "why": "two words"}
    own = event(2, "debug", None) | {"kind": "operator", "fields": fields}
    with FakeAdmin({"GET /events": {"events": [event(1), own]}}) as admin:
        assert fine(sidecar("events", admin=admin)).splitlines() == [
            "2026-11-23 01:02:03.456Z  breaker    venue: breaker open",
            '2026-11-23 01:02:03.456Z  operator   -: debug  by=127.0.0.1 changed="1, 2, 3 and 1 more" why="two words"',
        ]
        assert admin.asked[0].query == {"limit": "20"}


def test_of_one_service_so_many() -> None:
    with FakeAdmin({"GET /events": {"events": [event(1), event(2, "second")]}}) as admin:
        said = fine(sidecar("events", "--service", "venue", "-n", "1", admin=admin))
        assert said.endswith("venue: second\n")
        assert len(said.splitlines()) == 1
        assert admin.asked[-1].query == {"limit": "1", "service": "venue"}


def test_of_a_service_that_is_not_there() -> None:
    with FakeAdmin() as admin:
        result = sidecar("events", "--service", "vanue", admin=admin)
    assert result.exit_code == 1
    assert "did you mean venue?" in result.stderr


def test_following_goes_on_after_the_past_and_repeats_nothing() -> None:
    stream = [event(2, "breaker closed"), event(3, "third"), event(4, "other", "payment")]
    with FakeAdmin(stream=stream) as admin:
        result = sidecar("events", "--follow", "--service", "venue", admin=admin)
        assert admin.asked[-1].headers["last-event-id"] == "2"
    assert result.exit_code == 1
    assert [line.rpartition(": ")[2] for line in result.stdout.splitlines()] == [
        "breaker open",
        "breaker closed",
        "third",
    ]
    assert result.stderr == f"Error: {admin.url} closed the stream of events\n"


def test_lost_events_are_told_of() -> None:
    with FakeAdmin(stream=[event(3), {"lost": 7}, event(11)]) as admin:
        result = sidecar("events", "--follow", "-n", "0", admin=admin)
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr.startswith("7 events were lost: they came faster than they were read\n")


def test_json() -> None:
    with FakeAdmin(stream=[event(3)]) as admin:
        assert json.loads(fine(sidecar("events", "--json", admin=admin)))["events"] == [
            event(1),
            event(2, "breaker closed"),
        ]
        followed = sidecar("events", "--json", "--follow", admin=admin).stdout.splitlines()
        assert [json.loads(line)["id"] for line in followed] == [1, 2, 3]
        assert sidecar("events", "-n", "0", "--follow", admin=admin).stdout.count("\n") == 1
