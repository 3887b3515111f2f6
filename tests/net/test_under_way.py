"""What is under way is seen to shrink as the other end reads."""

from __future__ import annotations

import socket
from typing import Any

from sidecar.net.under_way import bytes_under_way


class Transport:
    def __init__(self, sock: object, waiting: int) -> None:
        self._sock, self._waiting = sock, waiting

    def get_write_buffer_size(self) -> int:
        return self._waiting

    def get_extra_info(self, name: str) -> object:
        return self._sock if name == "socket" else None


def under_way(sock: object, waiting: int = 0) -> int:
    transport: Any = Transport(sock, waiting)
    return bytes_under_way(transport)


def test_both_buffers_count_and_reading_empties_them() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as ours,
        listener.accept()[0] as theirs,
    ):
        assert under_way(ours) == 0
        assert under_way(ours, waiting=7) == 7
        ours.setblocking(False)
        sent = 0
        try:
            while True:
                sent += ours.send(bytes(65536))
        except BlockingIOError:
            before = under_way(ours)
        assert 0 < before <= sent
        theirs.settimeout(5)
        while sent:
            sent -= len(theirs.recv(1 << 20))
        assert under_way(ours) < before


def test_without_a_socket_the_event_loop_s_own_buffer_is_all_there_is() -> None:
    assert under_way(None, waiting=5) == 5
    with socket.socket() as closed:
        pass
    assert under_way(closed, waiting=5) == 5
