"""The other end of an HTTP/2 connection to an endpoint, played by the package `h2` on a wire of `fakes`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset, TrailersReceived
from h2.settings import SettingCodes

from tests.proxy.fakes import Wire

Fields = list[tuple[bytes, bytes]]

GRPC: Fields = [(b":status", b"200"), (b"content-type", b"application/grpc")]
OK: Fields = [(b"grpc-status", b"0")]


class Asked:
    """A request as it came."""

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self.data: list[bytes] = []
        self.trailers: Fields = []
        self.ended = False
        self.reset: int | None = None
        """The code of its RST_STREAM."""

    @property
    def body(self) -> bytes:
        return b"".join(self.data)

    def value(self, name: bytes) -> bytes | None:
        return next((value for found, value in self.fields if found == name), None)


class Peer:
    """A server. What it says is written at once; `asked` is what it was asked, by the number of the stream."""

    def __init__(self, wire: Wire, *, streams: int | None = None, window: int | None = None) -> None:
        self.wire = wire
        config = H2Configuration(client_side=False, header_encoding=None, validate_outbound_headers=False)
        self.h2 = H2Connection(config)
        settings: dict[int, int] = {}
        if streams is not None:
            settings[SettingCodes.MAX_CONCURRENT_STREAMS] = streams
        if window is not None:
            settings[SettingCodes.INITIAL_WINDOW_SIZE] = window
        self.h2.local_settings = type(self.h2.local_settings)(client=False, initial_values=settings or None)
        self.asked: dict[int, Asked] = {}
        self.events: list[Event] = []
        self.gives_back = True
        """Whether it returns what a request's body took of the windows."""

    def begin(self) -> Peer:
        """Its SETTINGS."""
        self.h2.initiate_connection()
        return self.flush()

    def flush(self) -> Peer:
        self.wire.loop.settle()
        data = self.h2.data_to_send()
        if data:
            self.wire.says(data)
        return self

    def read(self) -> Peer:
        """Take what has come."""
        self.wire.loop.settle()
        for event in self.h2.receive_data(self.wire.take()):
            self.events.append(event)
            self._note(event)
        return self.flush()

    def _note(self, event: Any) -> None:
        if isinstance(event, RequestReceived):
            self.asked[event.stream_id] = Asked([(bytes(name), bytes(value)) for name, value in event.headers])
        elif isinstance(event, DataReceived):
            self.asked[event.stream_id].data.append(event.data)
            if self.gives_back and event.flow_controlled_length:
                self.h2.increment_flow_control_window(event.flow_controlled_length)
                if event.stream_ended is None:
                    self.h2.increment_flow_control_window(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, TrailersReceived):
            self.asked[event.stream_id].trailers = [(bytes(name), bytes(value)) for name, value in event.headers]
        elif isinstance(event, StreamEnded):
            self.asked[event.stream_id].ended = True
        elif isinstance(event, StreamReset):
            self.asked[event.stream_id].reset = int(event.error_code)

    @property
    def newest(self) -> int:
        return max(self.asked)

    def head(self, stream: int, fields: Fields = GRPC, *, end: bool = False) -> Peer:
        self.h2.send_headers(stream, fields, end_stream=end)
        return self.flush()

    def data(self, stream: int, data: bytes, *, end: bool = False) -> Peer:
        """In frames of 16 KiB, all at once."""
        pieces = [data[at : at + 16384] for at in range(0, len(data), 16384)] or [b""]
        for piece in pieces[:-1]:
            self.h2.send_data(stream, piece)
        self.h2.send_data(stream, pieces[-1], end_stream=end)
        return self.flush()

    def trailers(self, stream: int, fields: Fields = OK) -> Peer:
        self.h2.send_headers(stream, fields, end_stream=True)
        return self.flush()

    def answer(self, stream: int, data: bytes = b"ok", trailers: Fields = OK) -> Peer:
        """A whole gRPC answer, in one piece."""
        self.h2.send_headers(stream, GRPC)
        self.h2.send_data(stream, data)
        return self.trailers(stream, trailers)

    def reset(self, stream: int, code: int) -> Peer:
        self.h2.reset_stream(stream, code)
        return self.flush()

    def settings(self, **values: int) -> Peer:
        self.h2.update_settings({SettingCodes[name.upper()]: value for name, value in values.items()})
        return self.flush()

    def go_away(self, last: int, code: int = 0) -> Peer:
        """Written by hand: the package says no more after its own."""
        payload = last.to_bytes(4, "big") + code.to_bytes(4, "big")
        self.wire.loop.settle()
        self.wire.says(len(payload).to_bytes(3, "big") + b"\x07\x00" + bytes(4) + payload)
        return self

    def says(self, kinds: Sequence[type[Event]]) -> list[Event]:
        return [event for event in self.events if isinstance(event, tuple(kinds))]
