"""One stream of the app's: a request with its body, the answer's way back, and each way in which it may end."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.config.schema import Match, Route
from sidecar.policy.settings import BreakerSettings, Policy, Timeouts
from sidecar.proxy.downstream.closing import LINGER_S
from sidecar.proxy.downstream.h2_stream import H2DownstreamStream, StreamEvents
from sidecar.proxy.downstream.handler import Dispatcher, Handler
from sidecar.proxy.downstream.registry import MOST_BEGUN
from sidecar.proxy.downstream.stream import DownstreamStream
from sidecar.proxy.h2.frames import CANCEL, INTERNAL_ERROR, NO_ERROR
from sidecar.proxy.h2.response import read_response
from sidecar.proxy.http1.head_syntax import MAX_FIELDS, MAX_HEAD
from sidecar.proxy.http1.request_head import RequestHead
from tests.proxy.fakes import World, ok
from tests.proxy.h2_scene import AppSide
from tests.support.h2_app import Answer

CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
WINDOW = 256 * 1024


def stream_of(side: AppSide, number: int) -> H2DownstreamStream:
    events = side.wire.protocol.streams[number].user
    assert isinstance(events, StreamEvents)
    return events.to


# Requests and answers.


def test_a_request_and_its_answer(world: World) -> None:
    side = AppSide(world)
    answer = side.ask("/venue/a?b", [("x-a", "1"), ("x-a", "2"), ("cookie", "a=b"), ("cookie", "c=d")])
    heard = world.upstream.take()
    assert heard.startswith(b"GET /a?b HTTP/1.1\r\nHost: venue-service:3002\r\n")
    for line in (
        b"\r\nx-a: 1\r\n",
        b"\r\nx-a: 2\r\n",
        b"\r\ncookie: a=b; c=d\r\n",
        b"\r\nX-Forwarded-Prefix: /venue\r\n",
    ):
        assert line in heard
    world.upstream.says(ok(b"body", "X-B: c", "Connection: X-D", "X-D: e"))
    side.news()
    assert (answer.status, answer.body, answer.ended) == (200, b"body", True)
    assert (answer.get("x-b"), answer.get("x-d"), answer.get("connection")) == ("c", None, None)
    assert answer.get("content-length") == "4"
    assert world.reasons() == {(200, "ok"): 1}


def test_many_at_a_time_and_in_any_order(world: World) -> None:
    side = AppSide(world)
    answers = [side.ask(f"/venue/{number}") for number in range(20)]
    for number, upstream in reversed(list(enumerate(world.upstreams))):
        upstream.says(ok(b"%d" % number))
    side.news()
    assert [bytes(answer.body) for answer in answers] == [b"%d" % number for number in range(20)]


@pytest.mark.parametrize("length", [False, True])
def test_a_body_goes_on_as_it_comes(world: World, length: bool) -> None:
    side = AppSide(world)
    number = side.app.ask("/venue/", [("content-length", "10")] if length else (), method="POST", end=False)
    side.talk()
    side.app.say(number, b"hello")
    side.talk()
    heard = world.upstream.take()
    assert heard.endswith(b"\r\n\r\nhello" if length else b"\r\n\r\n5\r\nhello\r\n")
    side.app.say(number, b"world", end=True)
    side.talk()
    assert world.upstream.take() == (b"world" if length else b"5\r\nworld\r\n0\r\n\r\n")
    world.upstream.says(ok())
    side.news()
    assert side.app.answers[number].ended


def test_a_request_s_trailers_go_on_but_for_those_that_would_route(world: World) -> None:
    side = AppSide(world)
    number = side.app.ask("/venue/", method="POST", end=False)
    side.app.say(number, b"a")
    side.app.h2.send_headers(number, [("x-t", "1"), ("authorization", "2"), ("x-sidecar-t", "3")], end_stream=True)
    side.talk()
    assert world.upstream.heard.endswith(b"1\r\na\r\n0\r\nx-t: 1\r\n\r\n")
    world.upstream.says(ok())


def test_an_answer_s_trailers(world: World) -> None:
    side = AppSide(world)
    answer = side.ask()
    world.upstream.says(CHUNKS, b"3\r\nabc\r\n", b"0\r\nX-Sum: 1\r\n\r\n")
    side.news()
    assert (answer.body, answer.trailers, answer.ended) == (b"abc", [("x-sum", "1")], True)


@pytest.mark.parametrize("said", [b"HTTP/1.1 204 No Content\r\n\r\n", ok(b""), b"HTTP/1.1 304 Not Modified\r\n\r\n"])
def test_an_answer_without_a_body_ends_with_its_head(world: World, said: bytes) -> None:
    side = AppSide(world)
    answer = side.ask()
    world.upstream.says(said)
    side.hear()
    assert (answer.ended, answer.body) == (True, b"")


def test_head(world: World) -> None:
    side = AppSide(world)
    answer = side.ask(method="HEAD")
    world.upstream.says(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
    side.news()
    assert (answer.get("content-length"), answer.body, answer.ended) == ("7", b"", True)
    refused = side.ask("/nobody/", method="HEAD")
    assert (refused.status, refused.body, refused.ended) == (404, b"", True)


def test_interim_answers(world: World) -> None:
    side = AppSide(world)
    number = side.app.ask("/venue/", [("expect", "100-continue")], method="POST", end=False)
    side.talk()
    world.upstream.says(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
    side.news()
    assert side.app.answers[number].interim == [100, 103]
    side.app.say(number, b"a", end=True)
    side.talk()
    world.upstream.says(ok())
    side.news()
    assert side.app.answers[number].ended


def test_an_upgrade_is_none_of_http_2_s(world: World) -> None:
    """Connection fields make a request malformed (RFC 9113, section 8.2.2); nothing is asked to be tunnelled."""
    side = AppSide(world)
    side.app.h2.config.validate_outbound_headers = False
    side.app.h2.config.normalize_outbound_headers = False
    answer = side.ask("/venue/", [("upgrade", "websocket")])
    assert answer.reset == 1  # PROTOCOL_ERROR
    assert not world.upstreams


# What the sidecar says itself.


def test_a_problem_is_an_answer(world: World) -> None:
    side = AppSide(world)
    answer = side.ask("/nobody/")
    assert (answer.status, answer.get("content-type"), answer.ended) == (404, "application/problem+json", True)
    assert answer.get("x-sidecar-reason") == "unknown_service"
    assert json.loads(answer.body)["reason"] == "unknown_service"
    assert answer.get("content-length") == str(len(answer.body))
    assert answer.get("connection") is None


def test_a_grpc_call_gets_it_in_a_head_alone(world: World) -> None:
    side = AppSide(world)
    answer = side.call("/nobody.Knows/It")
    assert (answer.status, answer.get("content-type"), answer.ended) == (200, "application/grpc", True)
    assert answer.grpc[0] == 12
    assert answer.get("x-sidecar-reason") == "unknown_service"
    assert not answer.trailers
    assert not answer.body


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ([("x", "a" * (MAX_HEAD - 40))], 431, "listen.max_head"),
        ([(f"x-{number}", "a") for number in range(MAX_FIELDS + 1)], 431, "listen.max_header_fields"),
        ([("host", "other")], 400, "the Host is not the :authority"),
    ],
)
@pytest.mark.parametrize("grpc", [False, True])
def test_heads_that_are_refused_in_words(
    world: World, fields: list[tuple[str, str]], status: int, words: str, grpc: bool
) -> None:
    side = AppSide(world)
    side.app.h2.config.validate_outbound_headers = False
    if grpc:
        answer = side.call(headers=fields)
        assert answer.grpc[0] == 3
        assert words in answer.grpc[1]
    else:
        answer = side.ask("/venue/", fields)
        assert answer.status == status
        assert words in json.loads(answer.body)["detail"]
    assert answer.over
    assert world.live.unrouted.requests == {(status, "bad_request"): 1}
    assert side.ask("/venue/").status == 0  # the connection goes on
    world.upstream.says(ok())


def test_no_connect_on_a_stream(world: World) -> None:
    side = AppSide(world)
    side.app.h2.config.validate_outbound_headers = False
    number = side.app.h2.get_next_available_stream_id()
    side.app.answers[number] = answer = Answer()
    side.app.h2.send_headers(number, [(":method", "CONNECT"), (":authority", "venue:3002")])
    side.talk()
    assert answer.status == 405
    assert "no CONNECT on a stream" in json.loads(answer.body)["detail"]
    assert answer.reset == NO_ERROR


def test_a_refused_request_may_still_be_sending(world: World) -> None:
    """The answer is whole, and the rest is not wanted (RFC 9113, section 8.1)."""
    side = AppSide(world)
    number = side.app.ask("/nobody/", method="POST", end=False)
    side.talk()
    answer = side.app.answers[number]
    assert (answer.status, answer.ended, answer.reset) == (404, True, NO_ERROR)
    side.ask("/venue/")
    world.upstream.says(ok())


def test_an_early_answer_ends_the_upload(world: World) -> None:
    side = AppSide(world)
    number = side.app.ask("/venue/", method="POST", end=False)
    side.app.say(number, b"a")
    side.talk()
    world.upstream.says(ok(b"enough"))
    side.news()
    answer = side.app.answers[number]
    assert (answer.body, answer.ended, answer.reset) == (b"enough", True, NO_ERROR)
    assert not world.upstream.open


def test_a_defect_of_the_dispatcher_is_one_request_s(world: World, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(type(world.core.registry.dispatcher)):  # type: ignore[misc]
        def dispatch(self, *_: Any) -> Any:
            raise ZeroDivisionError

    world.core.registry.dispatcher = Broken(world.core)
    side = AppSide(world)
    answer = side.ask()
    assert (answer.status, answer.get("x-sidecar-reason")) == (500, "internal")
    assert caplog.records[-1].levelname == "ERROR"
    assert side.wire.open


# Flow.


def test_an_upload_waits_for_the_service(world: World) -> None:
    """The window of a stream is given back when the service has taken what came; another stream goes on."""
    side = AppSide(world)
    number = side.app.ask("/venue/slow", method="POST", end=False)
    side.talk()
    slow = world.upstream
    slow.stall()
    for _ in range(16):
        side.app.say(number, b"x" * 16384)
    side.talk()
    window = side.app.h2.local_flow_control_window(number)
    side.app.say(number, b"x" * window)
    side.talk()
    assert side.app.h2.local_flow_control_window(number) < WINDOW // 2
    other = side.ask("/venue/other")
    world.upstream.says(ok())
    side.news()
    assert other.ended
    left = side.app.h2.local_flow_control_window(number)
    slow.flow()
    side.news()
    assert side.app.h2.local_flow_control_window(number) > left
    side.app.reset(number)
    side.talk()
    world.check_at_rest()


def test_a_download_waits_for_the_app(world: World) -> None:
    side = AppSide(world, reads=False, window=65535)
    number = side.app.ask("/venue/big")
    side.talk()
    big = world.upstream
    big.says(CHUNKS)
    said = 0
    while big.reading and said < 100:
        big.says(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
        said += 1
    assert 16 <= said <= 21  # 64 KiB are under way, 256 KiB wait
    side.hear()
    other = side.ask("/nobody/")
    assert other.status == 404  # its head is not held up
    side.app.reads = True
    side.app.read(number)
    while not big.reading:
        before = len(side.app.answers[number].body)
        side.news()
        assert len(side.app.answers[number].body) > before
    big.says(b"0\r\n\r\n")
    side.news()
    answer = side.app.answers[number]
    assert (len(answer.body), answer.ended) == (said * 0x4000, True)


def test_an_app_that_takes_nothing_is_given_up(make_world: Callable[..., World]) -> None:
    world = make_world(Policy(timeout=Timeouts(idle=5.0)))
    side = AppSide(world, reads=False, window=65535)
    number = side.app.ask("/venue/big")
    side.talk()
    world.upstream.says(CHUNKS)
    while world.upstream.reading:
        world.upstream.says(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
    world.pass_time(10.1)
    side.hear()
    assert side.app.answers[number].reset == CANCEL
    assert not world.upstream.open
    world.check_at_rest()


def test_the_rest_of_a_whole_answer_is_looked_after(make_world: Callable[..., World]) -> None:
    """The request is over, and its permits are given back; what the app has not taken waits for `client_idle`."""
    world = make_world(Policy(timeout=Timeouts(client_idle=5.0)))
    side = AppSide(world, reads=False, window=65535)
    side.app.h2.increment_flow_control_window(1 << 20)
    numbers = [side.app.ask(f"/venue/{number}") for number in range(2)]
    side.talk()
    for upstream in world.upstreams:
        upstream.says(ok(b"x" * 100_000))
    assert world.reasons() == {(200, "ok"): 2}
    assert world.service.limit.in_flight == 0
    world.pass_time(4.5)
    side.hear()
    side.app.read(numbers[0])
    side.talk()
    answer = side.app.answers[numbers[0]]
    assert (len(answer.body), answer.ended) == (100_000, True)
    world.pass_time(LINGER_S * 2)
    side.hear()
    assert side.app.answers[numbers[1]].reset == CANCEL
    assert world.core.registry.http2_streams == 0


# Ends.


@pytest.mark.parametrize("phase", ["head", "body", "answer"])
def test_an_app_s_reset_is_that_stream_s_alone(world: World, phase: str) -> None:
    side = AppSide(world)
    other = side.ask("/venue/other")
    first = world.upstream
    number = side.app.ask("/venue/a", method="POST", end=False)
    side.talk()
    second = world.upstream
    if phase == "body":
        side.app.say(number, b"x")
        side.talk()
    if phase == "answer":
        second.says(CHUNKS, b"1\r\nx\r\n")
        side.news()
    side.app.reset(number)
    side.talk()
    assert not second.open
    assert first.open
    code = 200 if phase == "answer" else 499
    assert sum(world.reasons().values()) == 1
    assert list(world.reasons()) in ([(code, "client_disconnect")], [(499, "client_disconnect")])
    first.says(ok())
    side.news()
    assert other.ended
    world.check_at_rest()


def test_an_answer_that_breaks_off_is_reset(world: World) -> None:
    side = AppSide(world)
    answer = side.ask()
    world.upstream.says(CHUNKS, b"3\r\nabc\r\n")
    world.upstream.breaks()
    side.news()
    assert (answer.body, answer.ended, answer.reset) == (b"abc", False, INTERNAL_ERROR)
    assert world.reasons() == {(200, "truncated"): 1}


def test_data_of_another_length_ends_the_stream_alone(world: World) -> None:
    side = AppSide(world)
    number = side.app.ask("/venue/", [("content-length", "3")], method="POST", end=False)
    side.app.say(number, b"abcd", end=True)
    side.talk()
    assert side.app.answers[number].reset == 1
    assert (499, "client_disconnect") in world.reasons()
    assert side.wire.open
    world.check_at_rest()


# Turns of the loop.


def test_no_more_requests_are_begun_in_one_turn_than_over_http_1(world: World) -> None:
    side = AppSide(world)
    numbers = [side.app.ask(f"/nobody{number}/") for number in range(MOST_BEGUN + 10)]
    said = side.app.take()
    side.wire.protocol.data_received(said)
    assert len(world.core.registry.waiting) == 10
    world.settle()
    side.news()
    assert all(side.app.answers[number].status == 404 for number in numbers)


def test_a_request_that_waits_for_its_turn_loses_nothing_of_its_body(world: World) -> None:
    side = AppSide(world)
    for number in range(MOST_BEGUN):
        side.app.ask(f"/nobody{number}/")
    last = side.app.ask("/venue/a", body=b"hello")
    trailing = side.app.ask("/venue/b", method="POST", end=False)
    side.app.say(trailing, b"abc")
    side.app.h2.send_headers(trailing, [("x-t", "1")], end_stream=True)
    side.wire.protocol.data_received(side.app.take())
    assert len(world.core.registry.waiting) == 2
    world.settle()
    heard = [upstream.heard for upstream in world.upstreams]
    assert heard[0].endswith(b"5\r\nhello\r\n0\r\n\r\n")
    assert heard[1].endswith(b"3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n")
    for upstream in world.upstreams:
        upstream.says(ok())
    side.news()
    assert side.app.answers[last].ended
    assert side.app.answers[trailing].ended


@pytest.mark.parametrize("how", ["reset", "leave"])
def test_a_request_that_waits_for_its_turn_may_go(world: World, how: str) -> None:
    side = AppSide(world)
    for number in range(MOST_BEGUN):
        side.app.ask(f"/nobody{number}/")
    last = side.app.ask("/venue/a")
    if how == "reset":
        side.app.reset(last)
    side.wire.protocol.data_received(side.app.take())
    if how == "leave":
        side.wire.protocol.connection_lost(None)
        side.wire.vanish()
    world.settle()
    assert not world.upstreams
    assert world.live.unrouted.requests[499, "client_disconnect"] == 1
    world.check_at_rest()


# What handlers ask.


def test_the_app_s_address_is_its_connection_s(world: World) -> None:
    side = AppSide(world)
    side.ask("/venue/")
    stream = stream_of(side, 1)
    assert stream.peer() is None
    assert stream.plain
    assert "venue" in repr(stream)
    world.upstream.says(ok())


def test_every_stream_has_its_own_deadline(make_world: Callable[..., World]) -> None:
    routes = (Route(match=Match(path="/quick"), policy=Policy(timeout=Timeouts(attempt=0.5, request=0.5))),)
    world = make_world(
        Policy(breaker=BreakerSettings(mode="off"), timeout=Timeouts(attempt=5.0, request=5.0)), routes=routes
    )
    side = AppSide(world)
    quick, slow = side.ask("/venue/quick"), side.ask("/venue/slow")
    world.pass_time(0.6)
    side.news()
    assert (quick.status, slow.status) == (504, 0)
    world.upstreams[1].says(ok())
    side.news()
    assert slow.status == 200


class Played(Handler):
    """A handler whose part the test plays."""

    def __init__(self, stream: DownstreamStream, head: RequestHead) -> None:
        self.stream = stream
        self.head = head
        self.heard: list[str] = []

    def start(self) -> None:
        """Nothing by itself."""

    @property
    def client_idle_s(self) -> float:
        return 5.0

    def disconnected(self, why: str) -> None:
        self.heard.append(why)
        self.stream.handler_ended()

    def pause_download(self) -> None:
        self.heard.append("pause")

    def resume_download(self) -> None:
        self.heard.append("resume")


class Stage(Dispatcher):
    """Answers nothing: what it chose stands in `played`."""

    def __init__(self) -> None:
        self.played: list[Played] = []

    def dispatch(self, stream: DownstreamStream, request: RequestHead) -> Handler:
        self.played.append(Played(stream, request))
        return self.played[-1]


@pytest.fixture
def stage(world: World) -> Stage:
    stage = world.core.registry.dispatcher = Stage()
    return stage


GRPC_HEAD = [(b":status", b"200"), (b"content-type", b"application/grpc")]


def begin(played: Played, *, ended: bool = False) -> None:
    response = read_response(GRPC_HEAD, method="POST", ended=ended)
    played.stream.begin_response(played.head, response, [] if ended else [b"\0\0\0\0\0"])


def test_a_grpc_answer_that_breaks_off_ends_with_a_status(world: World, stage: Stage) -> None:
    side = AppSide(world)
    answer = side.call()
    begin(stage.played[0])
    stage.played[0].stream.cut(14, "gone \u00e9%")
    stage.played[0].stream.handler_ended()
    side.news()
    assert (answer.status, answer.body, answer.ended, answer.reset) == (200, b"\0\0\0\0\0", True, None)
    assert answer.trailers == [("grpc-status", "14"), ("grpc-message", "gone %C3%A9%25")]


def test_an_app_that_does_not_read_is_reset_and_not_told(world: World, stage: Stage) -> None:
    side = AppSide(world, reads=False, window=100)
    answer = side.call()
    played = stage.played[0]
    begin(played)
    played.stream.write_body([b"x" * 300_000])
    assert played.heard == ["pause"]
    assert not played.stream.writable
    assert played.stream.unsent() == 300_005 - 100
    played.stream.cut(13)
    played.stream.handler_ended()
    side.news()
    assert answer.reset == CANCEL
    assert world.core.registry.http2_streams == 0


def test_a_head_alone_stays_one(world: World, stage: Stage) -> None:
    side = AppSide(world)
    answer = side.call()
    begin(stage.played[0], ended=True)
    stage.played[0].stream.end_response()
    stage.played[0].stream.handler_ended()
    side.news()
    assert (answer.ended, answer.body, answer.trailers) == (True, b"", [])


def test_a_handler_that_ends_with_nothing_said_is_an_error(world: World, stage: Stage) -> None:
    side = AppSide(world)
    answer = side.call()
    stage.played[0].stream.handler_ended()
    side.news()
    assert answer.reset == INTERNAL_ERROR


@pytest.mark.parametrize("how", ["reset", "leave"])
def test_the_handler_hears_once_that_the_app_has_gone(world: World, stage: Stage, how: str) -> None:
    side = AppSide(world)
    number = side.app.call()
    side.talk()
    if how == "reset":
        side.app.reset(number)
        side.talk()
        side.wire.breaks()
        assert stage.played[0].heard == ["the app ended the stream: RST_STREAM, CANCEL"]
    else:
        side.wire.breaks()
        assert stage.played[0].heard == ["the app closed the connection"]


def test_the_proxy_s_end_is_not_the_app_s(world: World, stage: Stage) -> None:
    side = AppSide(world)
    side.call()
    side.wire.protocol.abort()
    world.settle()
    assert stage.played[0].heard == ["the sidecar stopped before the answer was complete"]
    assert not side.wire.open


def test_a_stream_refers_to_nothing_once_it_is_over(world: World, stage: Stage) -> None:
    """Where the collector has nothing to find, it takes no time (the prototype spent 9.6% there)."""
    gc.collect()
    gc.disable()
    try:
        side = AppSide(world)
        side.call()
        begin(stage.played[0])
        stage.played[0].stream.end_response([(b"grpc-status", b"0")])
        stage.played[0].stream.handler_ended()
        gone = weakref.ref(stage.played[0])
        side.news()
        stage.played.clear()
        assert gone() is None
    finally:
        gc.enable()
