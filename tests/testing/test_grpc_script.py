"""A gRPC script's answers in turn, what is recorded, and what makes a test fail: as a dialogue, without sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sidecar.testing import grpc_script as grpc_script_module
from sidecar.testing.errors import FakeError
from sidecar.testing.grpc_answers import grpc_answer
from sidecar.testing.grpc_calls import GrpcCall
from sidecar.testing.grpc_script import GrpcScripts, grpc_pattern
from sidecar.testing.script import ServiceScript
from tests.testing.a_grpc_call import a_grpc_call

GET = "/shop.v1.Venue/Get"


@pytest.fixture
def service() -> ServiceScript:
    return ServiceScript("venue", "fake.venue")


@pytest.fixture
def venue(service: ServiceScript) -> GrpcScripts:
    return GrpcScripts(service)


def asked(venue: GrpcScripts, *paths: str) -> list[str]:
    """What the fake does with each of these calls."""
    return [str(venue.take(a_grpc_call(path))[1]) for path in paths or (GET,)]


def test_answers_come_in_turn_and_the_last_one_stays(venue: GrpcScripts) -> None:
    venue.script(GET).fails(times=2).delays(0.1).then(b"x").fails("NOT_FOUND")
    assert asked(venue, *[GET] * 5) == ["UNAVAILABLE", "UNAVAILABLE", "OK after 0.1 s", "NOT_FOUND", "NOT_FOUND"]


def test_every_step_is_a_method(venue: GrpcScripts) -> None:
    def talk(call: GrpcCall, messages: Iterator[bytes]) -> Iterator[bytes]:
        yield from messages

    script = venue.script(GET).resets().hangs().converses(talk).answers(lambda call: b"").then([b"", b""], status=13)
    assert script is venue.script(GET)
    assert asked(venue, *[GET] * 5) == [
        "resets",
        "hangs",
        "converses",
        "a function's answer",
        "INTERNAL after 2 messages",
    ]


def test_the_more_specific_script_answers(venue: GrpcScripts) -> None:
    venue.script("*").fails("UNKNOWN")
    venue.script("/shop.v1.*").fails("ABORTED")
    venue.script("/shop.v1.Venue/{method}").fails("INTERNAL")
    venue.script(GET).then()
    assert asked(venue, GET, "/shop.v1.Venue/List", "/shop.v1.Cart/Get", "/a.B/C") == [
        "OK",
        "INTERNAL",
        "ABORTED",
        "UNKNOWN",
    ]
    assert [call.path_params for call in venue.calls][1] == {"method": "List"}


@pytest.mark.parametrize("path", ["Get", "/Get", "shop.v1.Venue/Get", "/a/b/c", "//Get", "/a.B/", f"{GET}?x=1", "/*/x"])
def test_what_is_no_path_of_grpc(path: str) -> None:
    with pytest.raises(FakeError):
        grpc_pattern(path)


def test_what_the_scripts_claim(venue: GrpcScripts) -> None:
    for path in (GET, "/shop.v1.Venue/List", "/shop.v1.Cart/*", "/shop.v2.*", "*", "/{service}/Get"):
        venue.script(path)
    assert venue.claims() == ["shop.v1.Cart", "shop.v1.Venue"]


def test_a_conversation_is_taken_before_its_messages(venue: GrpcScripts) -> None:
    def talk(call: GrpcCall, messages: Iterator[bytes]) -> Iterator[bytes]:
        yield from messages

    venue.script(GET).fails().converses(talk)
    assert venue.begin(a_grpc_call()) is None
    assert asked(venue) == ["UNAVAILABLE"]
    begun = venue.begin(a_grpc_call())
    assert begun is not None
    assert (begun[0].answered, begun[1].made_by) == ("converses", talk)
    assert venue.begin(a_grpc_call("/a.B/C")) is None
    assert len(venue.calls) == 2


async def test_what_cannot_converse(venue: GrpcScripts) -> None:
    async def asynchronous(call: GrpcCall, messages: object) -> None: ...

    for function in (asynchronous, lambda call, messages: [], b"x"):
        with pytest.raises(FakeError, match=r"\.converses\(\) takes a generator function"):
            venue.script(GET).converses(function)  # type: ignore[arg-type]
    with pytest.raises(FakeError, match=r"\.answers\(\) takes a function"):
        venue.script(GET).answers(b"x")  # type: ignore[arg-type]
    with pytest.raises(FakeError, match="is no error"):
        venue.script(GET).fails(0)
    with pytest.raises(FakeError, match="times must be 1 or more"):
        venue.script(GET).then(times=0)
    assert venue.not_given() == []


def test_a_call_without_a_script_fails_the_test(venue: GrpcScripts, service: ServiceScript) -> None:
    venue.script("/shop.v1.Venue/Gets").then()
    call, given = venue.take(a_grpc_call())
    assert given == grpc_answer(status="UNIMPLEMENTED", details=given.details)
    assert given.details == 'nothing is scripted for gRPC /shop.v1.Venue/Get of the fake "venue"'
    assert call.answered.startswith("UNIMPLEMENTED")
    (problem,) = service.problems()
    assert 'fake.venue.grpc("/shop.v1.Venue/Get").then(b"...")' in problem
    assert "did you mean gRPC /shop.v1.Venue/Gets?" in problem
    service.fails_unexpected = False
    venue.take(a_grpc_call("/a.B/C"))
    assert service.problems() == [problem]


def test_a_call_that_ended_early_is_recorded(venue: GrpcScripts) -> None:
    venue.script(GET).then()
    venue.gave_up(a_grpc_call(GET, b"first"))
    assert [call.answered for call in venue.calls] == ["nothing: the call ended before its last message"]
    assert venue.not_given() == [f"gRPC {GET}"]


def test_counts_by_message_and_metadata(venue: GrpcScripts) -> None:
    script = venue.script(GET).then()
    for call in (a_grpc_call(GET, b"1", metadata={"user": "a"}), a_grpc_call(GET, b"2"), a_grpc_call(GET, b"2")):
        venue.take(call)
    script.assert_called()
    script.assert_called(times=3)
    script.assert_called(times=2, message=b"2")
    script.assert_called(times=1, metadata={"user": "a"})
    venue.script("/a.B/C").assert_not_called()
    with pytest.raises(AssertionError, match="was called 3 times, expected once"):
        script.assert_called(times=1)
    with pytest.raises(AssertionError, match="expected 0 times"):
        script.assert_not_called()
    with pytest.raises(AssertionError, match=r"with message=b'3' was called 0 times(.|\n)*The messages of the other"):
        script.assert_called(message=b"3")
    with pytest.raises(AssertionError, match=r"with user: 'b' was called 0 times(.|\n)*user: \['a'\]"):
        script.assert_called(metadata={"user": "b"})
    assert repr(script) == "<script of venue: gRPC /shop.v1.Venue/Get, called 3 times>"


def test_a_script_can_be_written_anew(venue: GrpcScripts) -> None:
    venue.script(GET).fails().clear().then()
    assert asked(venue) == ["OK"]


def test_calls_and_messages_are_bounded(
    venue: GrpcScripts, service: ServiceScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_script_module, "MAX_CALLS", 3)
    monkeypatch.setattr(grpc_script_module, "MAX_MESSAGES", 4)
    venue.script(GET).then()
    for _ in range(3):
        venue.take(a_grpc_call(GET, b"xx"))
    assert [list(call.messages) for call in venue.calls] == [[b"xx"], [b"xx"], []]
    assert "MiB of messages: later ones are not kept" in service.problems()[0]
    venue.take(a_grpc_call(GET))
    assert len(venue.calls) == 3
    assert "called more than 3 times" in service.problems()[1]
