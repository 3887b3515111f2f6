"""The client of the admin API: what it sends, and what it says when a call fails."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from sidecar.cli.admin_client import AdminClient, AdminError
from tests.cli.fake_admin import FakeAdmin, Refuse, detail, event, problem
from tests.support.upstream import RefusedPort


def failure(url: str, token: str | None = None) -> str:
    with pytest.raises(AdminError) as raised:
        AdminClient(url, token, timeout_s=0.5).get("services")
    assert raised.value.exit_code == 1
    return raised.value.message


def test_a_query_and_a_name_are_encoded() -> None:
    with FakeAdmin({"GET /services/a b/c": detail()}) as admin:
        AdminClient(admin.url).get("services", "a b/c", target="/x?y=1&z", host=None)
        assert admin.asked[0].query == {"target": "/x?y=1&z"}


def test_a_change_is_json_without_what_is_not_said() -> None:
    with FakeAdmin() as admin:
        assert AdminClient(admin.url).post("log", body={"level": "debug", "for": None})["level"] == "debug"
        (asked,) = admin.asked
        assert asked.headers["content-type"] == "application/json"
        assert asked.body == {"level": "debug"}


@pytest.mark.parametrize("url", ["127.0.0.1:{port}", "http://127.0.0.1:{port}/"])
def test_ways_to_write_a_url(url: str) -> None:
    with FakeAdmin() as admin:
        assert AdminClient(url.format(port=admin.url.rpartition(":")[2])).get("services")


@pytest.mark.parametrize("url", ["", "ftp://a", "http://", "http://a:b", "http://a?b", "http://a:99999"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        AdminClient(url)


def test_a_server_that_does_not_listen() -> None:
    with RefusedPort() as port:
        url = f"http://{port.authority}"
        assert failure(url).startswith(f"nothing listens at {url}. Is the sidecar running?")


def test_a_name_that_nobody_has() -> None:
    assert "cannot be found; --admin URL" in failure("http://nobody.invalid:1")


def test_a_token_that_is_wanted_or_wrong() -> None:
    with FakeAdmin(token="s3cret") as admin:
        assert "needs a token: --token-file" in failure(admin.url)
        assert "does not accept this token" in failure(admin.url, "other")
        assert AdminClient(admin.url, "s3cret").get("services")


def test_a_problem_is_told_with_its_errors() -> None:
    error = {"file": "a.yaml", "line": 3, "column": 1, "key": "services.x", "message": "unknown key"}
    with FakeAdmin({"GET /services": Refuse(422, "rejected", "the file is bad", errors=[error])}) as admin:
        assert failure(admin.url) == "the file is bad\na.yaml:3: services.x: unknown key"


def test_an_answer_that_is_no_json_is_of_somebody_else() -> None:
    with FakeAdmin({"GET /services": b"<html>"}) as admin:
        assert failure(admin.url) == f"the server at {admin.url} is not a sidecar's admin listener"


def test_silence_ends_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        began = time.monotonic()
        assert "no answer" in failure(f"http://127.0.0.1:{deaf.getsockname()[1]}")
        assert time.monotonic() - began < 3


def test_one_that_speaks_no_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def gibberish() -> None:
            with server.accept()[0] as connection:
                connection.recv(1000)
                connection.sendall(b"hello\r\n\r\n")

        thread = threading.Thread(target=gibberish)
        thread.start()
        assert "is not a sidecar's admin listener" in failure(f"http://127.0.0.1:{server.getsockname()[1]}")
        thread.join()


def test_a_stream_of_events_until_it_ends() -> None:
    with FakeAdmin(stream=[event(7), event(8)]) as admin:
        assert [one["id"] for one in AdminClient(admin.url).events(6, "venue")] == [7, 8]
        (asked,) = admin.asked
        assert asked.headers["last-event-id"] == "6"
        assert asked.query == {"service": "venue"}


def test_a_problem_without_a_detail() -> None:
    bare = {key: value for key, value in problem(409, "x", "y").items() if key != "detail"}
    refused = Refuse(409, "x", "y")
    refused.problem = bare
    with FakeAdmin({"GET /services": refused}) as admin:
        assert failure(admin.url) == "Problem"


# What is no sidecar, or no good one.


@pytest.mark.parametrize(
    "answer",
    [
        *([], 5, None, "x", {}, {"services": 5}, {"services": [5]}, {"services": [{}]}, {"other": []}),
        b"[" * 100_000,
        b"\xff",
        b"",
    ],
)
def test_an_answer_without_what_a_sidecar_says_is_of_somebody_else(answer: Any) -> None:
    with FakeAdmin({"GET /services": answer if isinstance(answer, bytes) else json.dumps(answer).encode()}) as admin:
        assert failure(admin.url) == f"the server at {admin.url} is not a sidecar's admin listener"


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.get("services", "a"),
        lambda client: client.get("config"),
        lambda client: client.get("explain"),
        lambda client: client.get("events"),
        lambda client: client.post("services", "a", "breaker", body={}),
        lambda client: client.post("services", "a", "endpoints", "b", body={}),
        lambda client: client.post("log", body={}),
        lambda client: client.post("reload", body={}),
        lambda client: client.post("drain", body={}),
    ],
)
def test_an_empty_object_is_no_answer_to_anything(call: Callable[[AdminClient], Any]) -> None:
    class Empty(FakeAdmin):
        def _content(self, asked: Any) -> Any:
            return {}

    with Empty() as admin, pytest.raises(AdminError, match="is not a sidecar's admin listener"):
        call(AdminClient(admin.url))


@pytest.mark.parametrize("one", [[], 5, {"id": 1}])
def test_a_stream_of_something_else(one: Any) -> None:
    class Odd(FakeAdmin):
        def _send_stream(self, handler: Any) -> None:
            self._send(handler, 200, "text/event-stream", f"data: {json.dumps(one)}\n\n".encode())

    with Odd() as admin, pytest.raises(AdminError, match="is not a sidecar's admin listener"):
        list(AdminClient(admin.url).events(None, None))


@pytest.mark.parametrize("errors", [7, "x", {"a": 1}, [1, None], None])
def test_a_problem_with_odd_errors(errors: Any) -> None:
    with FakeAdmin({"GET /services": Refuse(422, "x", "the file is bad", errors=errors)}) as admin:
        assert failure(admin.url) == "the file is bad"


def test_a_problem_can_do_nothing_to_a_terminal() -> None:
    evil = "\x1b[31mred\x07\n\x9b2J"
    refused = Refuse(422, "x", evil, errors=[{"key": evil, "message": evil}])
    with FakeAdmin({"GET /services": refused}) as admin:
        told = failure(admin.url)
    assert told.splitlines() == ["?[31mred???2J", "?[31mred???2J: ?[31mred???2J"]


@contextmanager
def dripping(head: bytes, drop: bytes) -> Iterator[str]:
    """One that says its head, and then something again and again, for ever."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            with server.accept()[0] as connection, suppress(OSError):
                connection.settimeout(0.05)
                connection.recv(1000)
                connection.sendall(head)
                while True:
                    connection.sendall(drop)
                    with suppress(TimeoutError):
                        if not connection.recv(1000):
                            return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(5)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    ],
)
def test_one_that_drips_has_as_long_as_one_that_is_silent(head: bytes, drop: bytes) -> None:
    began = time.monotonic()
    with dripping(head, drop) as url:
        assert failure(url) == f"no answer from {url} in time"
        assert time.monotonic() - began < 4


def test_a_refusal_of_events_that_drips() -> None:
    head = b"HTTP/1.1 503 X\r\nConnection: close\r\n\r\n"
    with dripping(head, b"x") as url, pytest.raises(AdminError, match="in time"):
        list(AdminClient(url, timeout_s=0.5).events(None, None))
