"""What the ports of the fakes share; tests/testing/test_server.py and test_grpc_server.py use it on the wire."""

from __future__ import annotations

import socket

import pytest

from sidecar.testing.errors import FakeError
from sidecar.testing.sockets import MOST_OF_TRACEBACK, bound, told


def test_a_bound_socket_listens_nowhere_yet_and_keeps_its_port() -> None:
    with bound(0) as first:
        port = first.getsockname()[1]
        assert first.getsockname()[0] == "127.0.0.1"
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
    with bound(port) as again:
        assert again.getsockname()[1] == port


def fail(depth: int = 0) -> None:
    if depth:
        fail(depth - 1)
    raise ValueError("no seat left")


def caught(depth: int = 0) -> Exception:
    try:
        fail(depth)
    except ValueError as error:
        return error
    raise AssertionError


def test_a_failure_is_told_without_the_frames_of_its_caller() -> None:
    words = told(caught(), "elsewhere.py")
    assert words.startswith("Traceback")
    assert words.endswith("ValueError: no seat left")
    assert "fail(depth)" not in told(caught(), __file__)
    assert len(told(caught(20), "elsewhere.py").splitlines()) <= MOST_OF_TRACEBACK * 3


def test_what_explains_itself_has_no_traceback() -> None:
    assert told(FakeError("a status must be a number"), "elsewhere.py") == "a status must be a number"
