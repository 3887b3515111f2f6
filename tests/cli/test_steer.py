"""The commands that change something: what each sends, and what it says."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cli.command import fine, sidecar
from tests.cli.fake_admin import BREAKER_DETAIL, ENDPOINT, FakeAdmin, Refuse, reload_report


def in_minutes(minutes: float) -> str:
    moment = datetime.now(UTC) + timedelta(minutes=minutes, seconds=-0.3)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def said(admin: FakeAdmin, *arguments: str) -> str:
    return fine(sidecar(*arguments, admin=admin)).partition(", until")[0].rstrip("\n")


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        (["open"], {"state": "open", "for": "5m"}),
        (["closed", "--for", "1.5h"], {"state": "closed", "for": "1.5h"}),
        (["open", "--route", "POST /reports"], {"state": "open", "for": "5m", "route": "POST /reports"}),
        (["auto", "--for", "9m"], {"state": "auto"}),
    ],
)
def test_what_a_breaker_is_sent(arguments: list[str], body: Any) -> None:
    with FakeAdmin() as admin:
        fine(sidecar("breaker", "venue", *arguments, admin=admin))
        assert admin.asked[-1].body == body


def test_a_breaker_that_is_forced_and_one_that_is_not() -> None:
    forced = BREAKER_DETAIL | {"forced": "open", "state": "open", "forced_until": in_minutes(5)}
    with FakeAdmin({"POST /services/venue/breaker": forced}) as admin:
        assert said(admin, "breaker", "venue", "open") == "venue: breaker forced open for 5m"
    with FakeAdmin({"POST /services/venue/breaker": BREAKER_DETAIL | {"state": "half_open"}}) as admin:
        assert said(admin, "breaker", "venue", "auto") == "venue: breaker decides for itself again; it is half-open"


def test_an_endpoint() -> None:
    path = "POST /services/venue/endpoints/10.0.0.7:3002"
    drained = ENDPOINT | {"drained": True, "forced_until": in_minutes(10)}
    with FakeAdmin({path: drained}) as admin:
        assert said(admin, "endpoint", "venue", "10.0.0.7:3002", "drain") == "venue: 10.0.0.7:3002 drained for 10m"
        assert admin.asked[-1].body == {"action": "drain", "for": "10m"}
    with FakeAdmin({path: ENDPOINT}) as admin:
        assert (
            said(admin, "endpoint", "venue", "10.0.0.7:3002", "restore")
            == "venue: 10.0.0.7:3002 restored, it is available"
        )
        assert admin.asked[-1].body == {"action": "restore"}


def test_an_endpoint_that_has_to_stay_or_is_not_there() -> None:
    refused = Refuse(409, "last_endpoint", "venue would have no endpoint left")
    with FakeAdmin({"POST /services/venue/endpoints/10.0.0.7:3002": refused}) as admin:
        result = sidecar("endpoint", "venue", "10.0.0.7:3002", "eject", admin=admin)
        assert (result.exit_code, result.stderr) == (1, "Error: venue would have no endpoint left\n")
        result = sidecar("endpoint", "venue", "10.0.0.9:1", "eject", admin=admin)
        assert (result.exit_code, result.stderr) == (1, "Error: nothing has this name\n")
        result = sidecar("endpoint", "vanue", "10.0.0.7:3002", "eject", admin=admin)
        assert "did you mean venue?" in result.stderr


def test_the_log() -> None:
    with FakeAdmin({"POST /log": {"level": "debug", "access": "all", "until": in_minutes(2)}}) as admin:
        assert said(admin, "log", "debug", "--access", "all", "--for", "2m") == "log level debug, access all for 2m"
        assert admin.asked[-1].body == {"level": "debug", "access": "all", "for": "2m"}
        assert sidecar("log", admin=admin).exit_code == 2


def test_a_reload() -> None:
    changed = reload_report(changed=["log.level"], warnings=["listen.admin stays 127.0.0.1:15000"])
    with FakeAdmin({"POST /reload": changed}) as admin:
        assert fine(sidecar("reload", admin=admin)).splitlines() == [
            "reloaded: 1 key changed",
            "  log.level",
            "warning: listen.admin stays 127.0.0.1:15000",
        ]
    with FakeAdmin({"POST /reload": reload_report(result="unchanged")}) as admin:
        assert said(admin, "reload") == "reloaded: nothing changed"


def test_a_reload_of_a_bad_file() -> None:
    error = {"file": "a.yaml", "line": 3, "column": 1, "key": "services.x", "message": "unknown key"}
    with FakeAdmin({"POST /reload": Refuse(422, "rejected", "the last good one stays", errors=[error])}) as admin:
        result = sidecar("reload", "--json", admin=admin)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["errors"] == [error]
    assert result.stderr == "Error: the last good one stays\na.yaml:3: services.x: unknown key\n"


def test_a_drain_asks_first() -> None:
    with FakeAdmin() as admin:
        result = sidecar("drain", admin=admin)
        assert result.exit_code == 1
        assert admin.asked == []
        assert "is draining" in fine(sidecar("drain", "--yes", admin=admin))


@pytest.mark.parametrize(
    "arguments",
    [
        ["breaker", "venue", "open"],
        ["endpoint", "venue", "10.0.0.7:3002", "drain"],
        ["log", "debug"],
        ["reload"],
        ["drain", "--yes"],
    ],
)
def test_json_is_the_answer_itself(arguments: list[str]) -> None:
    with FakeAdmin() as admin:
        printed = json.loads(fine(sidecar(*arguments, "--json", admin=admin)))
        asked = admin.asked[-1]
        assert printed == admin.answers[f"POST {asked.path}"]
