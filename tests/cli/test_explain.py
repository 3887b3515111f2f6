"""`sidecar explain`: what a running sidecar says, shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sidecar.cli import admin_client, config_file
from tests.cli.command import fine, sidecar
from tests.cli.fake_admin import BREAKER_DETAIL, FakeAdmin, explanation


def test_the_story_the_facts_and_the_policy() -> None:
    with FakeAdmin() as admin:
        said = fine(sidecar("explain", "GET", "/venue/events/42", "--host", "venue-service", admin=admin))
        assert admin.asked[0].query == {"method": "GET", "target": "/venue/events/42", "host": "venue-service"}
    assert said.splitlines() == [
        "The path names venue.",
        "",
        "service          venue, found by path",
        "route            none: the service's own policy",
        "upstream target  /events/42",
        "deadline         15s",
        "breaker          closed, admits it",
        "balancer         round_robin, picks 10.0.0.7:3002",
        "  endpoint       10.0.0.7:3002: its turn",
        "",
        "policy              set by            value",
        "timeout.attempt     service, line 12  2s",
        "timeout.request     default           15s",
        "retry.on            default           [reset, 503]",
        "retry.budget.ratio  default           0.2",
        "preserve_host       default           false",
    ]


def test_what_would_be_refused() -> None:
    breaker = {**BREAKER_DETAIL, "state": "open", "route": "", "would": "refuse", "retry_after_s": 12.0}
    answer = explanation(breaker=breaker, route="POST /reports", fallback=["stale 5m"], deadline_s=0.25)
    with FakeAdmin({"GET /explain": answer}) as admin:
        lines = fine(sidecar("explain", "POST", "/venue/reports", admin=admin)).splitlines()
    assert "breaker          open, refuses it for 12s" in lines
    assert "route            POST /reports" in lines
    assert "fallback         stale 5m" in lines
    assert "deadline         250 ms" in lines


def test_no_service_is_a_problem_in_words_and_nothing_else() -> None:
    nothing = dict.fromkeys(explanation())
    problem = {"status": 404, "reason": "unknown_service", "detail": "no service of that name is configured"}
    answer = nothing | {"problem": problem, "words": ["The app would get 404."], "fallback": []}
    with FakeAdmin({"GET /explain": answer}) as admin:
        assert fine(sidecar("explain", "GET", "/nobody", admin=admin)) == "The app would get 404.\n"
        assert json.loads(fine(sidecar("explain", "GET", "/nobody", "--json", admin=admin))) == answer


@pytest.mark.parametrize(
    ("method", "target", "message"),
    [("get", "/venue", "upper case"), ("GET", "/a b", "request line"), ("GET", "", "request line")],
)
def test_what_can_be_no_request_is_wrong_usage(method: str, target: str, message: str) -> None:
    result = sidecar("explain", method, target)
    assert result.exit_code == 2
    assert message in result.stderr


def test_by_a_file_alone_nothing_is_called(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text('services: {venue: {url: "http://venue", timeout: {attempt: 2s}}}')
    with FakeAdmin() as admin:
        said = fine(sidecar("explain", "GET", "/venue/x", "--config", str(path), admin=admin))
        assert admin.asked == []
    assert "upstream target  /x" in said
    assert "timeout.attempt                     service, line 1  2s" in said


@pytest.fixture
def no_sidecar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody listens at the default address, and the one place for a file is this path."""
    path = tmp_path / "sidecar.yaml"
    monkeypatch.setattr(config_file, "DEFAULT_CONFIGS", (path,))

    def refuse(client: admin_client.AdminClient, *_: object, **__: object) -> None:
        raise admin_client.NothingListens(f"nothing listens at {client.url}")

    monkeypatch.setattr(admin_client.AdminClient, "get", refuse)
    return path


def test_without_a_sidecar_the_file_answers_and_stderr_says_so(no_sidecar: Path) -> None:
    no_sidecar.write_text('services: {venue: {url: "http://venue"}}')
    result = sidecar("explain", "GET", "/venue/x")
    assert result.exit_code == 0
    assert "upstream target  /x" in result.stdout
    assert result.stderr == f"no sidecar listens at http://127.0.0.1:15000; this is what {no_sidecar} says\n"
    assert json.loads(sidecar("explain", "GET", "/venue/x", "--json").stdout)["upstream_target"] == "/x"


def test_a_sidecar_that_somebody_chose_is_not_replaced_by_the_file(no_sidecar: Path) -> None:
    no_sidecar.write_text('services: {venue: {url: "http://venue"}}')
    for chosen in (
        sidecar("explain", "GET", "/venue/x", "--admin", "http://127.0.0.1:15000"),
        sidecar("explain", "GET", "/venue/x", env={"SIDECAR_ADMIN": "http://127.0.0.1:15000"}),
    ):
        assert (chosen.exit_code, chosen.stdout) == (1, "")
        assert "nothing listens at" in chosen.stderr


def test_without_a_sidecar_and_a_file_the_call_has_failed(no_sidecar: Path) -> None:
    result = sidecar("explain", "GET", "/venue/x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "nothing listens at" in result.stderr
    no_sidecar.mkdir()
    assert sidecar("explain", "GET", "/venue/x").exit_code == 2


def test_a_call_of_grpc() -> None:
    with FakeAdmin() as admin:
        fine(sidecar("explain", "--grpc", "/shop.v1.Venue/Get", "--service", "shop", admin=admin))
        fine(sidecar("explain", "--grpc", "/shop.v1.Venue/Get", "--host", "shop", admin=admin))
        assert [one.query for one in admin.asked] == [
            {"grpc": "true", "target": "/shop.v1.Venue/Get", "service": "shop"},
            {"grpc": "true", "target": "/shop.v1.Venue/Get", "host": "shop"},
        ]


def test_a_call_of_grpc_by_a_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text('services: {shop: {url: "h2c://shop", grpc: [shop.v1.*]}, menu: {url: "grpc://menu"}}')
    said = fine(sidecar("explain", "--grpc", "/shop.v1.Venue/Get", "--config", str(path)))
    assert "The service in the path is one that 'shop' claims (services.shop.grpc)." in said
    assert "\ndeadline" not in said
    said = fine(sidecar("explain", "--grpc", "/shop.v1.Venue/Get", "--service", "menu", "--config", str(path)))
    assert "The metadata x-sidecar-service selects 'menu'" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "METHOD TARGET, or --grpc"),
        (("GET",), "METHOD TARGET, or --grpc"),
        (("GET", "/x", "--grpc", "/a.B/C"), "instead of METHOD and TARGET"),
        (("GET", "/x", "--service", "shop"), "--service is for --grpc"),
        (("--grpc", "a.B/C"), "expected a method of gRPC"),
        (("--grpc", "/a.B"), "expected a method of gRPC"),
    ],
)
def test_what_is_no_question(arguments: tuple[str, ...], message: str) -> None:
    result = sidecar("explain", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
