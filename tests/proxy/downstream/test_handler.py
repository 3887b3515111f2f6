"""How a request's life is driven: resumed by events, ended by exceptions, told as ended exactly once."""

from __future__ import annotations

from typing import cast

import pytest

from sidecar.proxy.downstream.handler import Disconnected, Handler, event
from sidecar.proxy.downstream.stream import DownstreamStream
from sidecar.proxy.http1.head_syntax import BadRequest


class Connection:
    ended = 0

    def handler_ended(self) -> None:
        self.ended += 1


class Scripted(Handler):
    """Waits twice and keeps what it was told."""

    def __init__(self) -> None:
        self.connection = Connection()
        self.stream = cast(DownstreamStream, self.connection)
        self.events: list[object] = []
        self.failures: list[Exception] = []

    async def _live(self) -> None:
        for _ in range(2):
            try:
                self.events.append(await event())
            except (Disconnected, BadRequest) as error:
                self.events.append(error)
                return

    def _crashed(self, error: Exception) -> None:
        self.failures.append(error)
        self._ended()


def test_events_come_where_it_waits_and_the_connection_hears_of_the_end_once() -> None:
    handler = Scripted()
    handler.start()
    handler.resume("first")
    assert handler.connection.ended == 0
    handler.resume("second")
    assert handler.events == ["first", "second"]
    assert handler.connection.ended == 1
    handler.resume("nobody waits any more")
    handler.disconnected("nor does this reach anyone")
    assert handler.events == ["first", "second"]
    assert handler.connection.ended == 1


def test_a_disconnect_and_a_refusal_end_the_waiting() -> None:
    gone = Scripted()
    gone.start()
    gone.disconnected("the app closed the connection")
    assert isinstance(gone.events[0], Disconnected)
    refused = Scripted()
    refused.start()
    refusal = BadRequest(400, "a chunk is malformed")
    refused.refused(refusal)
    assert refused.events == [refusal]
    assert (gone.connection.ended, refused.connection.ended) == (1, 1)


@pytest.mark.parametrize("how", ["resume", "interrupt"])
def test_what_nobody_expected_is_a_crash_and_still_an_end(how: str) -> None:
    class Broken(Scripted):
        async def _live(self) -> None:
            try:
                await event()
            finally:
                raise RuntimeError("a defect")

    handler = Broken()
    handler.start()
    if how == "resume":
        handler.resume(None)
    else:
        handler.disconnected("gone")
    assert [str(one) for one in handler.failures] == ["a defect"]
    assert handler.connection.ended == 1
