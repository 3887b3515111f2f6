"""A script's answers in turn, what is recorded, and what makes a test fail: told as a dialogue, without sockets."""

from __future__ import annotations

import pytest

from sidecar.testing import script as script_module
from sidecar.testing.answers import Answer
from sidecar.testing.errors import FakeError
from sidecar.testing.paths import ANY, pattern
from sidecar.testing.script import Script, ServiceScript
from tests.testing.a_call import a_call


@pytest.fixture
def venue() -> ServiceScript:
    return ServiceScript("venue", "fake.venue")


def get(venue: ServiceScript, path: str = "/events/1") -> Script:
    return venue.script(pattern("GET", path))


def asked(venue: ServiceScript, *lines: str) -> list[str]:
    """What the fake does with each of these requests."""
    return [str(venue.take(a_call(line))[1]) for line in lines or ("GET /events/1",)]


def test_answers_come_in_turn_and_the_last_one_stays(venue: ServiceScript) -> None:
    get(venue).fails(status=503, times=2).then(json={"id": 1}).then(status=404)
    assert asked(venue, *["GET /events/1"] * 5) == ["503", "503", "200", "404", "404"]


def test_a_single_answer_stays_whatever_its_times(venue: ServiceScript) -> None:
    get(venue).fails(times=2)
    assert asked(venue, *["GET /events/1"] * 3) == ["503", "503", "503"]


def test_statements_add_to_the_same_script(venue: ServiceScript) -> None:
    get(venue).fails()
    get(venue).then()
    assert get(venue) is get(venue)
    assert asked(venue, "GET /events/1", "GET /events/1") == ["503", "200"]


def test_an_answer_that_was_added_later_follows_the_last_one(venue: ServiceScript) -> None:
    get(venue).then(times=2)
    assert asked(venue, *["GET /events/1"] * 4) == ["200"] * 4
    get(venue).fails().then(201)
    assert asked(venue, *["GET /events/1"] * 3) == ["503", "201", "201"]


def test_one_that_was_not_given_as_often_as_was_said_goes_on(venue: ServiceScript) -> None:
    get(venue).then(times=2)
    assert asked(venue) == ["200"]
    get(venue).fails()
    assert asked(venue, *["GET /events/1"] * 2) == ["200", "503"]


def test_what_answers_get_answers_head(venue: ServiceScript) -> None:
    get(venue).then(201)
    venue.script(pattern(ANY, "*")).then(202)
    assert asked(venue, "HEAD /events/1", "HEAD /other") == ["201", "202"]
    venue.script(pattern("HEAD", "/events/*")).then(204)
    assert asked(venue, "HEAD /events/1", "GET /events/1") == ["204", "201"]
    get(venue).assert_called(times=1)
    assert asked(venue, "POST /events/1") == ["202"]


def test_get_is_not_answered_by_what_answers_head(venue: ServiceScript) -> None:
    venue.script(pattern("HEAD", "/events/1")).then(201)
    assert asked(venue) == ["501"]


def test_scripts_that_never_answered(venue: ServiceScript) -> None:
    get(venue).fails(times=2).then()
    get(venue, "/other").then()
    get(venue, "/looked/at").assert_not_called()
    assert venue.not_given() == ["GET /events/1", "GET /other"]
    asked(venue, "GET /events/1")
    assert venue.not_given() == ["GET /other"]


def test_assert_called_with_a_body_and_headers(venue: ServiceScript) -> None:
    script = venue.script(pattern("POST", "/charges"))
    script.then()
    for call in (
        a_call("POST /charges", json={"amount": 3}, headers={"Idempotency-Key": "k"}),
        a_call("POST /charges", body=b"amount=3"),
    ):
        venue.take(call)
    script.assert_called(times=1, json={"amount": 3})
    script.assert_called(times=1, json={"amount": 3}, headers={"idempotency-key": "k"})
    script.assert_called(times=0, json={"amount": 3}, headers={"idempotency-key": "K"})
    script.assert_called(times=0, json=None)
    with pytest.raises(AssertionError) as failed:
        script.assert_called(json={"amount": 4})
    words = str(failed.value)
    assert "POST /charges with json={'amount': 4} was called 0 times, expected at least once" in words
    assert "  POST /charges: b'{\"amount\": 3}'" in words
    with pytest.raises(AssertionError, match="with x-mine: 1 with Idempotency-Key: other was called 0 times") as failed:
        script.assert_called(headers={"x-mine": "1", "Idempotency-Key": "other"})
    assert "  POST /charges: x-mine: (none), Idempotency-Key: k\n" in str(failed.value)
    with pytest.raises(FakeError, match="has no JSON form"):
        script.assert_called(json=object())


def test_clear_begins_anew(venue: ServiceScript) -> None:
    get(venue).fails().clear().then(status=201)
    assert asked(venue) == ["201"]


def test_every_way_to_fail(venue: ServiceScript) -> None:
    get(venue).resets().closes().truncates(b"{").hangs().answers(lambda call: call.path)
    assert asked(venue, *["GET /events/1"] * 5) == [
        "resets",
        "closes",
        "200, truncated",
        "hangs",
        "a function's answer",
    ]


def test_a_delay_is_of_the_next_answer(venue: ServiceScript) -> None:
    get(venue).delays(0.3).then(status=201).then(status=202)
    assert asked(venue, "GET /events/1", "GET /events/1") == ["201 after 0.3 s", "202"]


def test_a_delay_without_an_answer_is_of_an_empty_one_or_that_before_it(venue: ServiceScript) -> None:
    get(venue).delays(0.3)
    assert asked(venue, "GET /events/1", "GET /events/1") == ["200 after 0.3 s", "200 after 0.3 s"]
    get(venue).clear().then(status=201).delays(0.3)
    assert asked(venue, "GET /events/1", "GET /events/1") == ["201", "201 after 0.3 s"]


def test_a_delay_may_be_of_several_answers(venue: ServiceScript) -> None:
    get(venue).delays(0.3, times=2).fails().then()
    assert asked(venue, *["GET /events/1"] * 3) == ["503 after 0.3 s", "503 after 0.3 s", "200"]


def test_the_script_that_says_more_answers(venue: ServiceScript) -> None:
    venue.script(pattern(ANY, "*")).then(status=204)
    get(venue, "/events/{id}").then(status=201)
    get(venue, "/events/1").then(status=202)
    assert asked(venue, "GET /events/1", "GET /events/2", "DELETE /events/2") == ["202", "201", "204"]


def test_values_of_the_path_are_there_for_whoever_answers(venue: ServiceScript) -> None:
    get(venue, "/events/{id}").then()
    call, _ = venue.take(a_call("GET /events/7"))
    assert (call.path_params, call.answered) == ({"id": "7"}, "200")
    assert venue.calls == [call]


def test_a_script_counts_the_calls_of_its_path_whoever_answered(venue: ServiceScript) -> None:
    get(venue, "/events/*").then()
    asked(venue, "GET /events/1", "GET /events/2")
    assert [call.path for call in get(venue).calls] == ["/events/1"]
    assert len(get(venue, "/events/*").calls) == 2


def test_looking_at_calls_scripts_nothing(venue: ServiceScript) -> None:
    assert get(venue).calls == []
    assert asked(venue) == ["501"]


def test_an_unscripted_request_says_how_to_script_it_and_fails_the_test(venue: ServiceScript) -> None:
    get(venue, "/event/{id}").then()
    _, given = venue.take(a_call("GET /events/1"))
    (problem,) = venue.problems()
    assert given.status == 501
    assert given.body.decode() == problem + "\n"
    assert problem.splitlines() == [
        'nothing is scripted for GET /events/1 of the fake "venue"',
        '  script it: fake.venue.get("/events/1").then(json={...})',
        "  scripted are: GET /event/{id}; did you mean GET /event/{id}?",
    ]


def test_an_unusual_method_is_scripted_otherwise(venue: ServiceScript) -> None:
    asked(venue, "PROPFIND /a")
    assert 'fake.venue.request("PROPFIND", "/a").then' in venue.problems()[0]


def test_the_same_unscripted_request_is_told_once(venue: ServiceScript) -> None:
    asked(venue, *["GET /events/1"] * 3)
    (problem,) = venue.problems()
    assert problem.endswith("(this happened 3 times)")


def test_unscripted_requests_may_be_allowed(venue: ServiceScript) -> None:
    venue.fails_unexpected = False
    assert asked(venue) == ["501"]
    assert venue.problems() == []


def test_answers_never_asked_for_are_no_problem(venue: ServiceScript) -> None:
    get(venue).fails(times=9).then()
    assert venue.problems() == []


def test_assert_called(venue: ServiceScript) -> None:
    get(venue).then()
    get(venue, "/other").assert_not_called()
    asked(venue, "GET /events/1", "GET /events/1")
    get(venue).assert_called()
    get(venue).assert_called(times=2)
    with pytest.raises(AssertionError) as failed:
        get(venue).assert_called(times=3)
    assert str(failed.value).splitlines() == [
        "venue: GET /events/1 was called 2 times, expected 3 times. All calls of this service:",
        "-> 1. GET /events/1: 200 (+0.000 s)",
        "-> 2. GET /events/1: 200 (+0.000 s)",
    ]
    with pytest.raises(AssertionError, match="was called 2 times, expected 0 times"):
        get(venue).assert_not_called()
    with pytest.raises(AssertionError, match="GET /other was called 0 times, expected at least once"):
        get(venue, "/other").assert_called()


def test_calls_are_bounded(venue: ServiceScript, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script_module, "MAX_CALLS", 3)
    get(venue).then()
    asked(venue, *["GET /events/1"] * 3)
    assert venue.problems() == []
    assert asked(venue) == ["200"]
    assert len(venue.calls) == 3
    assert "more than 3 times" in venue.problems()[0]


def test_kinds_of_problems_are_bounded(venue: ServiceScript) -> None:
    for number in range(script_module.MAX_KINDS_OF_PROBLEM + 5):
        venue.problem(f"number {number}")
    assert len(venue.problems()) == script_module.MAX_KINDS_OF_PROBLEM


def test_what_is_no_failure_is_refused(venue: ServiceScript) -> None:
    with pytest.raises(FakeError, match=r"200 is not an error status: \.then\(status=200\)"):
        get(venue).fails(200)


def test_a_function_is_needed(venue: ServiceScript) -> None:
    with pytest.raises(FakeError, match=r"use \.then\(json=\.\.\.\)"):
        get(venue).answers({"id": 1})  # type: ignore[arg-type]


def test_repr_says_what_it_is_for(venue: ServiceScript) -> None:
    get(venue).then()
    asked(venue)
    assert repr(get(venue)) == "<script of venue: GET /events/1, called once>"
    assert isinstance(get(venue).then(), Script)
    assert isinstance(venue.take(a_call())[1], Answer)
