"""Calls of any form between the engine and other libraries, in both roles, however their bytes are cut."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy.h2.stream import H2Stream
from tests.proxy.h2.others import ByH2, ByNgh2, Heard, Message, Other
from tests.proxy.h2.wire import Connection, Loop, User

Kind = Callable[..., Other]

NAMES = st.sampled_from([b"x-a", b"x-bb", b"accept", b"grpc-timeout", b"authorization", b"user-agent", b"x-long-bin"])
TEXT = st.text("abc/;=,XYZ059 \t~\xe9", max_size=30).map(lambda text: text.encode().strip())
VALUES = st.one_of(TEXT, st.just(b"v" * 3000))
MORE = st.lists(st.tuples(NAMES, VALUES), max_size=6)
BODY = st.lists(st.one_of(st.binary(max_size=30), st.integers(0, 200_000).map(bytes)), max_size=3)
TRAILERS = st.one_of(st.none(), st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=3))
TARGET = st.sampled_from([b"/", b"/shop.v1.Venue/Get", b"/a?b=c"])


def request(target: bytes, more: list[tuple[bytes, bytes]], body: list[bytes], trailers: object) -> Message:
    line = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", target), (b":authority", b"venue")]
    return Message(line + more, body, trailers)  # type: ignore[arg-type]


REQUESTS = st.builds(request, TARGET, MORE, BODY, TRAILERS)
RESPONSES = st.builds(lambda more, *rest: Message([(b":status", b"200"), *more], *rest), MORE, BODY, TRAILERS)
CALLS = st.lists(st.tuples(REQUESTS, RESPONSES), min_size=1, max_size=6)


class Answering(User):
    """Sends `response` once the request has come whole, and more of it when there is room."""

    response: Message

    def data_received(self, data: bytes, size: int, end: bool) -> None:
        super().data_received(data, size, end)
        if end:
            self.answer()

    def head_received(self, fields: list[tuple[bytes, bytes]], end: bool) -> None:
        super().head_received(fields, end)
        if end:
            self.answer()

    def trailers_received(self, fields: list[tuple[bytes, bytes]]) -> None:
        super().trailers_received(fields)
        self.answer()

    def answer(self) -> None:
        assert self.stream is not None
        send(self.stream, self.response)


def send(stream: H2Stream, message: Message) -> None:
    stream.send_head(message.fields, not message.body and message.trailers is None)
    if message.body:
        stream.send_data(message.body, message.trailers is None)
    if message.trailers is not None:
        stream.send_trailers(message.trailers)


def said(user: User) -> Heard:
    heads = [one[1] for one in user.heard if one[0] == "head"]
    assert len(heads) == 1, user.heard
    trailers = [one[1] for one in user.heard if one[0] == "trailers"]
    return Heard(heads[0], user.body, trailers[0] if trailers else None, user.ended)


def wanted(message: Message) -> Heard:
    return Heard(message.fields, b"".join(message.body), message.trailers, True)


def exchange(ours: Connection, other: Other, random: Random, answers: dict[int, Message]) -> None:
    """Until neither has anything to say."""
    while True:
        ours.turns.turn()
        data = ours.wire.taken()
        if data:
            other.receive(data)
        for stream_id in other.to_answer:
            if stream_id in answers:
                other.answer(stream_id, answers[stream_id])
        other.to_answer.clear()
        more = other.to_send()
        if not data and not more:
            return
        at = 0
        while at < len(more):
            size = random.choice([1, 9, 100, 16384, 262_144])
            ours.data_received(more[at : at + size])
            if random.random() < 0.5:
                ours.turns.turn()
            at += size


@pytest.mark.parametrize("kind", [ByH2, ByNgh2])
@given(calls=CALLS, seed=st.integers(0, 1000))
def test_our_server_and_another_client(kind: Kind, calls: list[tuple[Message, Message]], seed: int) -> None:
    server = Connection(client=False, loop=Loop())
    other = kind(client=True)
    responses = iter([response for _, response in calls])

    def made(stream: H2Stream) -> User:
        user = Answering(stream)
        user.response = next(responses)
        return user

    server.new_user = made
    ids = [other.request(message) for message, _ in calls]
    exchange(server, other, Random(seed), {})
    assert other.errors == []
    assert [said(user) for user in server.users] == [wanted(message) for message, _ in calls]
    assert [other.heard[one] for one in ids] == [wanted(message) for _, message in calls]
    assert server.streams == {}
    assert server.is_open


@pytest.mark.parametrize("kind", [ByH2, ByNgh2])
@given(calls=CALLS, seed=st.integers(0, 1000))
def test_our_client_and_another_server(kind: Kind, calls: list[tuple[Message, Message]], seed: int) -> None:
    client = Connection(client=True, loop=Loop())
    other = kind(client=False)
    users: list[User] = []
    answers = {}
    for message, response in calls:
        user = User()
        user.stream = client.open(user)
        assert user.stream is not None
        send(user.stream, message)
        users.append(user)
        answers[user.stream.id] = response
    exchange(client, other, Random(seed), answers)
    assert other.errors == []
    assert [other.heard[one] for one in answers] == [wanted(message) for message, _ in calls]
    assert [said(user) for user in users] == [wanted(message) for _, message in calls]
    assert client.streams == {}
    assert client.is_open
