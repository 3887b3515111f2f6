"""Other HTTP/2 libraries, h2 and ngh2 (nghttp2), behind one face: either end of a connection that carries messages."""

from __future__ import annotations

from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import ngh2

from sidecar.proxy.h2.hpack import Fields


@dataclass
class Message:
    """A request or a response; `trailers` None: it ends without."""

    fields: Fields
    body: list[bytes] = field(default_factory=list)
    trailers: Fields | None = None


@dataclass
class Heard:
    fields: Fields = field(default_factory=list)
    body: bytes = b""
    trailers: Fields | None = None
    ended: bool = False


class Other:
    """Sends a message for each stream, and remembers what it heard of each."""

    def __init__(self, *, client: bool) -> None:
        self.client = client
        self.heard: dict[int, Heard] = {}
        self.to_answer: list[int] = []
        """Streams whose requests have come whole."""
        self.errors: list[str] = []

    def request(self, message: Message) -> int:
        raise NotImplementedError

    def answer(self, stream_id: int, message: Message) -> None:
        raise NotImplementedError

    def receive(self, data: bytes) -> None:
        raise NotImplementedError

    def to_send(self) -> bytes:
        raise NotImplementedError

    def has_ended(self, stream_id: int) -> None:
        self.heard[stream_id].ended = True
        self.to_answer.append(stream_id)


class ByH2(Other):
    def __init__(self, *, client: bool) -> None:
        super().__init__(client=client)
        self.engine = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=client, header_encoding=None, validate_outbound_headers=False)
        )
        self.engine.initiate_connection()
        self.queued: dict[int, tuple[bytes, Fields | None]] = {}

    def request(self, message: Message) -> int:
        stream_id = self.engine.get_next_available_stream_id()
        self.answer(stream_id, message)
        return stream_id

    def answer(self, stream_id: int, message: Message) -> None:
        body = b"".join(message.body)
        bare = not body and message.trailers is None
        self.engine.send_headers(stream_id, message.fields, end_stream=bare)
        if not bare:
            self.queued[stream_id] = (body, message.trailers)

    def receive(self, data: bytes) -> None:
        for event in self.engine.receive_data(data):
            if isinstance(event, h2.events.RequestReceived | h2.events.ResponseReceived):
                self.heard[event.stream_id] = Heard(plain(event.headers))
            elif isinstance(event, h2.events.DataReceived):
                self.heard[event.stream_id].body += event.data
                self.engine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.TrailersReceived):
                self.heard[event.stream_id].trailers = plain(event.headers)
            elif isinstance(event, h2.events.StreamEnded):
                self.has_ended(event.stream_id)
            elif isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
                self.errors.append(repr(event))

    def to_send(self) -> bytes:
        for stream_id, (body, trailers) in list(self.queued.items()):
            while body:
                room = min(self.engine.local_flow_control_window(stream_id), self.engine.max_outbound_frame_size)
                if room <= 0:
                    break
                self.engine.send_data(stream_id, body[:room], pad_length=7 if len(body) < 200 < room else None)
                body = body[room:]
            self.queued[stream_id] = (body, trailers)
            if not body:
                del self.queued[stream_id]
                if trailers is None:
                    self.engine.end_stream(stream_id)
                else:
                    self.engine.send_headers(stream_id, trailers, end_stream=True)
        return self.engine.data_to_send()


class ByNgh2(Other):
    def __init__(self, *, client: bool) -> None:
        super().__init__(client=client)
        self.engine = ngh2.Connection(ngh2.Role.CLIENT if client else ngh2.Role.SERVER)
        self.engine.initiate_connection()

    def request(self, message: Message) -> int:
        stream_id = self.engine.send_request(message.fields, end_stream=is_bare(message))
        self._send_rest(stream_id, message)
        return stream_id

    def answer(self, stream_id: int, message: Message) -> None:
        self.engine.send_response(stream_id, message.fields, end_stream=is_bare(message))
        self._send_rest(stream_id, message)

    def _send_rest(self, stream_id: int, message: Message) -> None:
        if is_bare(message):
            return
        for piece in message.body:
            if piece:
                self.engine.send_data(stream_id, piece)
        if message.trailers is None:
            self.engine.end_stream(stream_id)
        else:
            self.engine.send_trailers(stream_id, message.trailers)

    def receive(self, data: bytes) -> None:
        self.engine.receive_data(data)
        self._events()

    def to_send(self) -> bytes:
        data = self.engine.data_to_send()
        self._events()
        return data

    def _events(self) -> None:
        for event in self.engine.events():
            if isinstance(event, ngh2.RequestReceived | ngh2.ResponseReceived):
                self.heard[event.stream_id] = Heard(plain(event.headers))
                if event.end_stream:
                    self.has_ended(event.stream_id)
            elif isinstance(event, ngh2.DataReceived):
                self.heard[event.stream_id].body += event.data
                if event.end_stream:
                    self.has_ended(event.stream_id)
            elif isinstance(event, ngh2.TrailersReceived):
                self.heard[event.stream_id].trailers = plain(event.headers)
                self.has_ended(event.stream_id)
            elif isinstance(event, ngh2.StreamReset | ngh2.ConnectionClosed | ngh2.GoAwayReceived):
                self.errors.append(repr(event))


def is_bare(message: Message) -> bool:
    return not b"".join(message.body) and message.trailers is None


def plain(fields: object) -> Fields:
    return [(bytes(name), bytes(value)) for name, value in fields]  # type: ignore[attr-defined]
