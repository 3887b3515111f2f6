"""The client of the admin API: what it sends, and what it says when a call fails."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from sidecar.cli.admin_client import AdminClient, AdminError
from tests.cli.fake_admin import FakeAdmin, Refuse, event, problem
from tests.support.upstream import RefusedPort


def failure(url: str, token: str | None = None) -> str:
    with pytest.raises(AdminError) as raised:
        AdminClient(url, token, timeout_s=0.5).get("services")
    assert raised.value.exit_code == 1
    return raised.value.message


def test_a_query_and_a_name_are_encoded() -> None:
    with FakeAdmin({"GET /services/a b/c": {}}) as admin:
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


def test_nobody_listens() -> None:
    port = RefusedPort()
    url = f"http://{port.authority}"
    assert failure(url).startswith(f"nobody listens at {url}: is the sidecar running?")
    port.stop()


def test_a_name_that_nobody_has() -> None:
    assert "is the name of no host" in failure("http://nobody.invalid:1")


def test_a_token_that_is_wanted_or_wrong() -> None:
    with FakeAdmin(token="s3cret") as admin:
        assert "wants a token: --token-file" in failure(admin.url)
        assert "does not take this token" in failure(admin.url, "other")
        assert AdminClient(admin.url, "s3cret").get("services")


def test_a_problem_is_told_with_its_errors() -> None:
    error = {"file": "a.yaml", "line": 3, "column": 1, "key": "services.x", "message": "unknown key"}
    with FakeAdmin({"GET /services": Refuse(422, "rejected", "the file is bad", errors=[error])}) as admin:
        assert failure(admin.url) == "the file is bad\na.yaml:3: services.x: unknown key"


def test_an_answer_that_is_no_json_is_of_somebody_else() -> None:
    with FakeAdmin({"GET /services": b"<html>"}) as admin:
        assert failure(admin.url) == f"what answers at {admin.url} is not a sidecar's admin listener"


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
