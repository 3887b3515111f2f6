"""Steps for a scripted upstream: everything that an upstream can do right or wrong, by name.

Each function here returns a step; a step handles one request (`tests.support.upstream.Turn`). Unless its name says
otherwise, it reads the whole request first.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from http import HTTPStatus

from tests.support.message import chunked, head_bytes
from tests.support.upstream import Step, Turn

Pairs = Iterable[tuple[str, str]]


def response_head(status: int, headers: Pairs = (), *, version: str = "HTTP/1.1") -> bytes:
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Whatever"
    return head_bytes(f"{version} {status} {phrase}", headers)


def answer(status: int = 200, body: bytes = b"ok", headers: Pairs = ()) -> Step:
    """A plain answer with Content-Length. HEAD gets only the head; 204 and 304 have no body and no length."""
    bodiless = status in (204, 304)
    head = response_head(status, [*headers, *([] if bodiless else [("Content-Length", str(len(body)))])])

    def step(turn: Turn) -> None:
        request = turn.read()
        turn.send(head if bodiless or request.method == "HEAD" else head + body)

    return step


def echo(headers: Pairs = ()) -> Step:
    """Answers with `<method> <target>\\n` and the request's body."""

    def step(turn: Turn) -> None:
        request = turn.read()
        answer(200, f"{request.method} {request.target}\n".encode("latin-1") + request.body, headers)(turn)

    return step


def answer_chunked(*pieces: bytes, headers: Pairs = (), trailers: Pairs = ()) -> Step:
    return raw(response_head(200, [*headers, ("Transfer-Encoding", "chunked")]) + chunked(*pieces, trailers=trailers))


def raw(*data: bytes) -> Step:
    """Reads the request, then sends exactly these bytes and keeps the connection."""

    def step(turn: Turn) -> None:
        turn.read()
        for piece in data:
            turn.send(piece)

    return step


def then(*in_turn: Step) -> Step:
    """Several steps, one after the other, for one request."""

    def all_of_them(turn: Turn) -> None:
        for step in in_turn:
            step(turn)

    return all_of_them


def then_close(step: Step) -> Step:
    """An orderly close after `step`."""
    return then(step, close)


def then_reset(step: Step) -> Step:
    """A reset after `step`."""
    return then(step, reset)


def then_held(step: Step, after: Step) -> Step:
    """`step`, then `after` once the test has opened the gate."""
    return then(step, Turn.wait_for_gate, after)


def held(step: Step) -> Step:
    """`step` once the test has opened the gate. Before that, the request is read and counts as a hit."""
    return then_held(read_request, step)


def read_request(turn: Turn) -> None:
    """Reads the whole request and does nothing."""
    turn.read()


def half_close(turn: Turn) -> None:
    turn.half_close()


def reset(turn: Turn) -> None:
    turn.reset()


def close(turn: Turn) -> None:
    turn.close()


def close_unread(turn: Turn) -> None:
    """Closes while the request is in the kernel's buffer, unread. It counts as a hit nevertheless."""
    turn.connection.stream.more()
    turn.read_head()
    turn.reset()


def silence(turn: Turn) -> None:
    """Never answers, until the daemon disconnects."""
    turn.read()
    turn.wait_closed()


def drip_head(turn: Turn) -> None:
    """Sends a head byte by byte, but never its end."""
    turn.read()
    turn.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        turn.send(b"x")
        time.sleep(0.02)


def stalled_body(turn: Turn) -> None:
    """Sends half a body with Content-Length, then nothing until the daemon disconnects."""
    turn.read()
    turn.send(response_head(200, [("Content-Length", "10")]) + b"half-")
    turn.wait_closed()


def close_on_reuse(first: Step) -> Step:
    """Answers the first request of a connection; reads the second one and closes."""

    def step(turn: Turn) -> None:
        if turn.connection.served == 0:
            first(turn)
        else:
            turn.read()
            turn.close()

    return step


def interim(*heads: bytes, final: Step) -> Step:
    """Sends these 1xx heads, then continues with `final`. Before, it reads only the request's head."""

    def step(turn: Turn) -> None:
        turn.read_head()
        for head in heads:
            turn.send(head)
        final(turn)

    return step


def answer_early(status: int = 200, body: bytes = b"early", headers: Pairs = ()) -> Step:
    """Answers as soon as the head has arrived, then reads the body, if more of it arrives."""
    whole = response_head(status, [*headers, ("Content-Length", str(len(body)))]) + body

    def step(turn: Turn) -> None:
        turn.read_head()
        turn.send(whole)
        turn.read()

    return step
