"""The fakes on the wire: what a client without a sidecar sees of each answer."""

from __future__ import annotations

import asyncio
import http.client
import inspect
import socket
import threading
import time
from collections.abc import Coroutine, Iterator

import pytest

from sidecar.testing import server as server_module
from sidecar.testing.answers import answer
from sidecar.testing.calls import Call
from sidecar.testing.paths import ANY, pattern
from sidecar.testing.script import Script, ServiceScript
from sidecar.testing.server import FakeServer, Listener
from tests.support.eventually import eventually
from tests.testing.asking import ask


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.close()


class Venue:
    """One fake with a port."""

    def __init__(self, server: FakeServer) -> None:
        self.script = ServiceScript("venue", "fake.venue")
        self.listener: Listener = server.listen(self.script)

    def any(self, path: str = "*") -> Script:
        return self.script.script(pattern(ANY, path))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.port}"


@pytest.fixture
def venue(server: FakeServer) -> Iterator[Venue]:
    venue = Venue(server)
    yield venue
    server.close_all([venue.listener])


def test_a_call_is_recorded_as_it_came(venue: Venue) -> None:
    venue.any().then(201, json={"id": 1}, headers=[("Set-Cookie", "a=1"), ("X-Kind", "b")])
    before = time.monotonic()
    answered = ask(venue.url + "/a%20b?x=1&x=2", "POST", b'{"n": 3}', {"X-Mine": "yes"})
    assert (answered.status, answered.json()) == (201, {"id": 1})
    assert answered.headers["content-type"] == "application/json"
    assert answered.headers["x-kind"] == "b"
    (call,) = venue.script.calls
    assert (call.service, call.method, call.path) == ("venue", "POST", "/a%20b")
    assert call.query.getall("x") == ["1", "2"]
    assert call.headers["x-mine"] == "yes"
    assert call.json() == {"n": 3}
    assert before <= call.at <= time.monotonic()


def test_a_chunked_body_is_put_together_and_a_compressed_one_is_left(venue: Venue) -> None:
    venue.any().then()
    connection = http.client.HTTPConnection("127.0.0.1", venue.listener.port, timeout=5)
    connection.request("PUT", "/", iter([b"ab", b"cd"]), {"Content-Encoding": "gzip"}, encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
    assert venue.script.calls[0].body == b"abcd"


def test_head_and_204_have_no_body(venue: Venue) -> None:
    venue.any("/head").then(json={"id": 1})
    venue.any("/none").then(204)
    head = ask(venue.url + "/head", "HEAD")
    assert (head.body, head.headers["content-length"]) == (b"", "8")
    assert ask(venue.url + "/none").body == b""


def test_a_delay(venue: Venue) -> None:
    venue.any().delays(0.2).then(json=1)
    before = time.monotonic()
    assert ask(venue.url).json() == 1
    assert time.monotonic() - before >= 0.2


def test_a_delay_with_a_clock_that_stands_still(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    venue.any().delays(0.2).then(json=1)
    before = time.monotonic()
    with monkeypatch.context() as frozen:
        frozen.setattr(time, "monotonic", lambda: before)
        assert ask(venue.url).json() == 1
    assert time.monotonic() - before >= 0.19


def test_a_reset_is_a_reset(venue: Venue) -> None:
    venue.any().resets()
    with pytest.raises(ConnectionResetError) as reset:
        ask(venue.url, "POST", b"x")
    assert not isinstance(reset.value, http.client.RemoteDisconnected)
    assert venue.script.calls[0].body == b"x"


def test_a_close_is_an_end_without_a_word(venue: Venue) -> None:
    venue.any().closes()
    with pytest.raises(http.client.RemoteDisconnected):
        ask(venue.url)


def test_a_truncated_body_ends_before_its_length(venue: Venue) -> None:
    venue.any().truncates('{"id": ', headers={"Content-Type": "application/json"})
    with pytest.raises(http.client.IncompleteRead) as cut:
        ask(venue.url)
    assert cut.value.partial == b'{"id": '


def test_silence_until_the_client_leaves(venue: Venue) -> None:
    venue.any().hangs()
    with pytest.raises(TimeoutError):
        ask(venue.url, timeout=0.2)


def test_silence_is_bounded(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HANG_S", 0.05)
    venue.any().hangs()
    assert ask(venue.url).status == 504


def test_no_connection_is_kept_for_the_next_request(venue: Venue) -> None:
    venue.any().then(json=1).fails(404).drips([b"a"]).answers(lambda _: "x")
    for _ in range(4):
        with socket.create_connection(("127.0.0.1", venue.listener.port), timeout=5) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: venue\r\n\r\n")
            received = b"".join(iter(lambda client=client: client.recv(65536), b""))  # type: ignore[misc]
        assert b"\r\nConnection: close\r\n" in received


def test_a_body_comes_in_pieces(venue: Venue) -> None:
    venue.any().drips(["data: 1\n\n", b"data: 2\n\n"], every=0.2, headers={"Content-Type": "text/event-stream"})
    connection = http.client.HTTPConnection("127.0.0.1", venue.listener.port, timeout=5)
    before = time.monotonic()
    connection.request("GET", "/")
    response = connection.getresponse()
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.headers["content-type"] == "text/event-stream"
    assert response.read1() == b"data: 1\n\n"
    assert response.read() == b"data: 2\n\n"
    assert time.monotonic() - before >= 0.2
    connection.close()


def test_a_head_for_what_has_a_body_in_pieces_or_a_cut_one(venue: Venue) -> None:
    venue.any().drips([b"a", b"b"]).truncates(b"{")
    assert [ask(venue.url, "HEAD").body for _ in range(2)] == [b"", b""]


def test_down_refuses_and_cuts_and_up_is_the_same_port(server: FakeServer, venue: Venue) -> None:
    venue.any().then()
    port = venue.listener.port
    with socket.create_connection(("127.0.0.1", port), timeout=5) as idle:
        assert ask(venue.url).status == 200
        for _ in range(2):  # twice is no harm
            server.down(venue.listener)
        with pytest.raises(ConnectionResetError):
            idle.recv(1)
    with pytest.raises(ConnectionRefusedError):
        ask(venue.url)
    with pytest.raises(OSError, match="in use"), socket.socket() as other:
        other.bind(("127.0.0.1", port))
    for _ in range(2):
        server.up(venue.listener)
    assert venue.listener.port == port
    assert ask(venue.url).status == 200


def test_after_the_end_nobody_is_there(server: FakeServer) -> None:
    one, other = Venue(server), Venue(server)
    server.down(other.listener)
    server.close_all([one.listener, other.listener])
    for venue in (one, other):
        with pytest.raises(ConnectionRefusedError):
            ask(venue.url)


def test_a_function_answers(venue: Venue) -> None:
    venue.any("/events/{id}").answers(lambda call: answer(202, json={"id": call.path_params["id"]}))
    answered = ask(venue.url + "/events/7")
    assert (answered.status, answered.json()) == (202, {"id": "7"})


def test_a_function_may_wait_while_others_are_answered(venue: Venue) -> None:
    go = threading.Event()

    def wait(_: Call) -> str:
        go.wait(5)
        return "waited"

    venue.any("/slow").answers(wait)
    venue.any("/fast").then()
    bodies: list[bytes] = []
    slow = threading.Thread(target=lambda: bodies.append(ask(venue.url + "/slow").body))
    slow.start()
    eventually(lambda: len(venue.script.calls) == 1)
    assert ask(venue.url + "/fast").status == 200
    assert bodies == []
    go.set()
    slow.join(5)
    assert bodies == [b"waited"]


def test_an_async_function_answers(venue: Venue) -> None:
    async def seat(call: Call) -> object:
        await asyncio.sleep(0.01)
        return {"seat": call.path_params["seat"]}

    venue.any("/seats/{seat}").answers(seat)
    assert ask(venue.url + "/seats/A7").json() == {"seat": "A7"}
    assert venue.script.problems() == []


def test_an_async_function_that_fails(venue: Venue) -> None:
    async def fail(call: Call) -> object:
        raise KeyError(call.path)

    venue.any().answers(fail)
    assert ask(venue.url + "/x").status == 500
    assert venue.script.problems()[0].endswith("KeyError: '/x'")


def test_a_coroutine_that_nobody_waits_for_any_more(venue: Venue) -> None:
    """Is closed: it would warn that it was never awaited."""
    came, go = threading.Event(), threading.Event()
    made: list[Coroutine[object, object, object]] = []

    async def late() -> object:
        raise AssertionError

    def make(_: Call) -> object:
        came.set()
        go.wait(5)
        made.append(late())
        return made[0]

    venue.any().answers(make)
    caller = http.client.HTTPConnection("127.0.0.1", venue.listener.port, timeout=5)
    caller.request("GET", "/")
    assert came.wait(5)
    caller.close()
    go.set()
    eventually(lambda: bool(made) and inspect.getcoroutinestate(made[0]) == inspect.CORO_CLOSED)


async def test_a_coroutine_that_was_there_as_the_caller_went() -> None:
    """Its connection is lost after the function has returned it, and before it is awaited."""
    made: list[Coroutine[object, object, object]] = []

    async def late() -> object:
        raise AssertionError

    def make() -> object:
        made.append(late())
        return made[0]

    loop = asyncio.get_running_loop()
    answering = loop.create_task(Listener(ServiceScript("lost", "fake.lost"), loop)._in_a_thread(make))
    await asyncio.sleep(0)
    for thread in threading.enumerate():
        if thread.name == "fake lost":
            thread.join(5)
    answering.get_loop().call_soon(answering.cancel)  # after what the thread has put there
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert inspect.getcoroutinestate(made[0]) == inspect.CORO_CLOSED


def test_a_function_that_fails_is_a_500_and_a_problem(venue: Venue) -> None:
    venue.any().answers(lambda call: call.json()["amount"])
    answered = ask(venue.url, "POST", b"{}")
    assert answered.status == 500
    (problem,) = venue.script.problems()
    assert problem.startswith("venue: the function that answers POST / failed:")
    assert problem.endswith("KeyError: 'amount'")
    assert "testing/server.py" not in problem


def test_a_function_that_returns_what_is_no_answer(venue: Venue) -> None:
    venue.any().answers(lambda _: object())
    assert ask(venue.url).status == 500
    (problem,) = venue.script.problems()
    assert "has no JSON form" in problem
    assert "Traceback" not in problem


def test_bodies_are_kept_up_to_a_bound_and_read_beyond(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_BODY", 10)
    monkeypatch.setattr(server_module, "MAX_BODIES", 14)
    venue.any().then()
    for size in (10, 11, 3):
        assert ask(venue.url, "POST", b"x" * size).status == 200
    assert [(len(call.kept_body), call.body_size) for call in venue.script.calls] == [(10, 10), (4, 11), (0, 3)]
    assert [call.body_cut for call in venue.script.calls] == [False, True, True]


def test_a_large_head_is_no_problem(venue: Venue) -> None:
    venue.any().then()
    headers = {"Cookie": "x" * 30_000} | {f"X-Header-{number}": "y" for number in range(90)}
    assert ask(venue.url, headers=headers).status == 200


def test_the_end_cuts_what_is_under_way_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    server = FakeServer()
    venue = Venue(server)
    venue.any().hangs()
    outcomes: list[type[BaseException]] = []

    def wait() -> None:
        try:
            ask(venue.url)
        except OSError as error:
            outcomes.append(type(error))

    client = threading.Thread(target=wait)
    client.start()
    eventually(lambda: len(venue.script.calls) == 1)
    server.close_all([venue.listener])
    client.join(5)
    assert outcomes == [ConnectionResetError]
    server.close()
    assert set(threading.enumerate()) <= before
