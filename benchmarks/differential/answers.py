"""Random answers of an upstream: good, odd and broken ones."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from benchmarks.differential.scripts import Answer, Op

PHRASES: Final = {200: b"OK", 404: b"Not Found", 503: b"Service Unavailable"}
OLD_DATE: Final = b"Date: Sun, 06 Nov 1994 08:49:37 GMT"

FIELDS: Final = (
    b"Content-Type: application/json",
    b"content-type: text/html; charset=utf-8",
    b"Cache-Control: no-store",
    b"Cache-Control: max-age=60, public",
    b'ETag: "abc"',
    b"Vary: Accept-Encoding",
    b"Vary: *",
    b"Set-Cookie: a=1; Path=/",
    b"Set-Cookie: b=2",
    b"Server: nginx/1.29",
    b"Via: 1.1 varnish",
    OLD_DATE,
    b"X-Empty:",
    b"X-Spaces:   padded value \t ",
    b"X-Latin: caf\xe9",
    b"X-Request-Id: the-service-s-own",
    b"x-envoy-attempt-count: 7",
    b"x-envoy-upstream-service-time: 12",
    b"x-sidecar-reason: overloaded",
    b"x-sidecar-fallback: stale",
    b"x-envoy-immediate-health-check-fail: no",
    b"Proxy-Authenticate: Basic",
    b"WWW-Authenticate: Bearer",
    b"Keep-Alive: timeout=5",
    b"Proxy-Connection: keep-alive",
    b"Upgrade: h2c",
    b"Trailer: X-Sum",
    b"Connection: X-Hop\r\nX-Hop: gone",
    b"Connection: keep-alive",
    b"TE: trailers",
    b"Age: 3",
    b"Content-Encoding: gzip",
    b"Content-Language: en",
    b'Alt-Svc: h3=":443"',
    b"Strict-Transport-Security: max-age=1",
    b"X-Long: " + b"v" * 900,
    b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)

ODD_FIELDS: Final = (
    b"X-Folded: one\r\n two",
    b"X-Folded: one\r\n\tthree\r\n four",
    b"X-Bare: lf\nX-Next: 1",
    b"X-Space : before the colon",
    b"X-Tab:\tvalue",
    b"no colon here",
    b"X-Nul: a\x00b",
    b"X-Ctl: a\x07b",
    b"X-Cr: a\rb",
    b": no name",
    b"X(Bad): name",
)

LOCATIONS: Final = (
    b"/elsewhere",
    b"/elsewhere?x=1",
    b"/else/where",
    b"/",
    b"//other.example/x",
    b"http://other.example/x",
    b"relative/path",
    b"/@SERVICE@/already",
    b"/@SERVICE@",
    b"http://@ENDPOINT@/here?x=1",
    b"http://app.example:8080/own",
    b"?query",
    b"",
)

LINGER_S: Final = 0.03
"""Until an upstream closes a connection on which the sidecar may wait for more."""

BODIES: Final = (b"", b"ok", b"{}", b'{"id": 42, "name": "Arena"}', b"x" * 150, b"[1, 2, 3]", b"\x00\xff" * 40)


def head(status: int, fields: list[bytes], version: bytes = b"HTTP/1.1", phrase: bytes | None = None) -> bytes:
    """A response head."""
    words = PHRASES.get(status, b"Whatever") if phrase is None else phrase
    lines = [b"%b %03d %b" % (version, status, words), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def chunks(rng: Random, body: bytes) -> bytes:
    """A chunked body, with some of the liberties that the standard leaves."""
    out = b""
    at = 0
    while at < len(body):
        size = rng.choice((1, 3, 10, 100, 5000))
        piece = body[at : at + size]
        at += len(piece)
        line = rng.choice((b"%x", b"%X", b"0%x")) % len(piece)
        out += line + rng.choice((b"", b"", b"", b";a=b", b'; q="z;y"', b" ")) + b"\r\n" + piece + b"\r\n"
    trailers = rng.choice((b"", b"", b"", b"X-Sum: 1\r\n", b"Content-Length: 3\r\nX-T: 1\r\n", b"Authorization: x\r\n"))
    return out + rng.choice((b"0", b"0", b"000", b"0;last")) + b"\r\n" + trailers + b"\r\n"


def some_fields(rng: Random, most: int = 4) -> list[bytes]:
    return rng.sample(FIELDS, rng.randrange(most + 1)) if rng.random() < 0.6 else []


def a_body(rng: Random) -> bytes:
    if rng.random() < 0.04:
        return rng.choice((b"b" * 5000, b"c" * 70_000, b"d" * 200_000))
    return rng.choice(BODIES)


def good(rng: Random, method: str, status: int | None = None, fields: list[bytes] | None = None) -> Answer:
    """An answer that is valid, framed in any way.

    One with a given status may be retried: it is whole at once, since whether a body ends before its connection is
    wanted again would be a matter of chance.
    """
    may_be_retried = status is not None
    if status is None:
        status = rng.choice((200, 200, 200, 200, 201, 202, 203, 206, 299))
    lines = some_fields(rng) if fields is None else fields
    body = rng.choice(BODIES) if may_be_retried else a_body(rng)
    framing = rng.random()
    version = b"HTTP/1.1"
    ends = False
    ops: list[Op] = []
    if rng.random() < 0.03:
        lines = [*lines, b"Connection: close"]
        ends = True
    if method == "HEAD" or status in (204, 304):
        lines = lines if framing < 0.5 or status == 204 else [*lines, b"Content-Length: %d" % len(body)]
        payload = b""
    elif framing < 0.6:
        lines = [*lines, b"Content-Length: %d" % len(body)]
        payload = body
    elif framing < 0.93:
        lines = [*lines, rng.choice((b"Transfer-Encoding: chunked", b"transfer-encoding: Chunked"))]
        payload = chunks(rng, body)
    elif framing < 0.96:
        version = b"HTTP/1.0"
        lines = [*lines, b"Content-Length: %d" % len(body)]
        payload = body
        ends = True
        if rng.random() < 0.5:
            lines = [*lines, b"Connection: keep-alive"]
            ends = False
    else:
        version = rng.choice((b"HTTP/1.1", b"HTTP/1.0"))
        payload = body
        ends = True
    rng.shuffle(lines)
    data = head(status, lines, version)
    if rng.random() < 0.04:
        ops.append(("write", interim(rng)))
        if rng.random() < 0.5:
            ops.append(("wait", 0.002))
    if payload and rng.random() < 0.06 and not may_be_retried:
        cut = rng.randrange(1, len(data) + len(payload))
        whole = data + payload
        ops += [("write", whole[:cut]), ("wait", 0.002), ("write", whole[cut:])]
    else:
        ops.append(("write", data + payload))
    if ends:
        ops.append(("close", None))
    return Answer(tuple(ops))


def interim(rng: Random) -> bytes:
    one = rng.choice(
        (
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n",
            b"HTTP/1.1 102 Processing\r\nX-Interim: 1\r\nConnection: close\r\n\r\n",
            b"HTTP/1.1 199 \r\nContent-Length: 5\r\n\r\n",
        )
    )
    return one * rng.choice((1, 1, 1, 2, 3))


def redirect(rng: Random, service: str, endpoint: str) -> Answer:
    """With a Location of one of the kinds that are rewritten or not."""
    location = rng.choice(LOCATIONS).replace(b"@SERVICE@", service.encode()).replace(b"@ENDPOINT@", endpoint.encode())
    fields = [rng.choice((b"Location: ", b"location:", b"LOCATION:  ")) + location, b"Content-Length: 0"]
    return Answer((("write", head(rng.choice((201, 301, 302, 307, 308)), fields)),))


def failing(rng: Random, method: str) -> Answer:
    """A 5xx or 4xx."""
    status = rng.choice((400, 401, 404, 404, 408, 409, 410, 418, 429, 500, 500, 501, 502, 503, 503, 503, 504, 505, 599))
    fields = some_fields(rng, 2)
    if status in (429, 503) and rng.random() < 0.4:
        fields.append(rng.choice((b"Retry-After: 0", b"Retry-After: 0", b"Retry-After: 90", b"Retry-After: soon")))
    return good(rng, method, status, fields)


def retried(rng: Random, method: str) -> Answer:
    """What the defaults try again."""
    return rng.choice((failing_with, closing, resetting, half_a_head))(rng, method)


def failing_with(rng: Random, method: str) -> Answer:
    return good(rng, method, rng.choice((502, 503, 504)), some_fields(rng, 1))


def closing(rng: Random, method: str) -> Answer:
    return Answer((("wait", _late(rng)), ("close", None)))


def resetting(rng: Random, method: str) -> Answer:
    return Answer((("wait", _late(rng)), ("reset", None)))


def _late(rng: Random) -> float:
    """Mostly later than the 50 ms in which a request on a kept connection is sent again for nothing: on a busy machine
    a connection that breaks at once may be in time or not."""
    return 0.075 if rng.random() < 0.7 else 0.0


def half_a_head(rng: Random, method: str) -> Answer:
    return Answer(
        (("write", b"HTTP/1.1 200 OK\r\nContent-Len"), ("wait", 0.002), (rng.choice(("close", "reset")), None))
    )


def odd(rng: Random, method: str) -> Answer:
    """What not every peer would send, and some would refuse."""
    body = rng.choice(BODIES)
    length = b"Content-Length: %d" % len(body)
    fields = [*some_fields(rng, 2), length]
    kind = rng.randrange(22)
    if kind <= 4:
        fields.insert(rng.randrange(len(fields) + 1), rng.choice(ODD_FIELDS))
        data = head(200, fields) + body
    elif kind == 5:
        data = head(200, fields).replace(b"\r\n", b"\n") + body
    elif kind == 6:
        data = head(200, [length, *fields]) + body
    elif kind == 7:
        data = head(200, [*fields, b"Content-Length: %d" % (len(body) + 1)]) + body
    elif kind == 8:
        data = head(200, [*fields, b"Transfer-Encoding: chunked"]) + chunks(rng, body)
    elif kind == 9:
        coding = rng.choice((b"gzip", b"gzip, chunked", b"chunked, chunked", b"identity", b"chunked, gzip", b""))
        data = head(200, [b"Transfer-Encoding: " + coding]) + chunks(rng, body)
    elif kind == 10:
        value = rng.choice((b"-1", b"+2", b"2a", b"", b"0x2", b"2, 2", b"2,3", b" 2 ", b"99999999999999999999"))
        data = head(200, [b"Content-Length: " + value]) + b"ok"
    elif kind == 11:
        version = rng.choice((b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1", b"HTTQ/1.1", b"ICY"))
        data = head(200, fields, version) + body
    elif kind == 12:
        line = rng.choice(
            (b"HTTP/1.1 200", b"HTTP/1.1  200  OK", b"HTTP/1.1 200\tOK", b"HTTP/1.1 200OK", b"HTTP/1.1 2000 OK")
        )
        data = line + b"\r\n" + length + b"\r\n\r\n" + body
    elif kind == 13:
        data = head(rng.choice((0, 99, 600, 999)), fields) + body
    elif kind == 14:
        data = head(rng.choice((204, 304)), [length]) + body
    elif kind == 15:
        data = (
            head(200, fields) + body + rng.choice((b"\r\n", b"extra", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
        )
    elif kind == 16:
        size = rng.choice((b"g", b"-1", b"", b"0x5", b"5 5", b"fffffffffffffffff", b"5\n"))
        data = head(200, [b"Transfer-Encoding: chunked"]) + size + b"\r\nhello\r\n0\r\n\r\n"
    elif kind == 17:
        data = (
            head(200, [b"Transfer-Encoding: chunked"])
            + b"5\r\nhello"
            + rng.choice((b"\n0\r\n\r\n", b"0\r\n\r\n", b"\r\n0\r\n"))
        )
    elif kind == 18:
        data = head(200, [b"X-Big: " + b"v" * rng.choice((900, 30_000, 33_000, 70_000)), *fields]) + body
    elif kind == 19:
        data = head(200, [*(b"X-N%d: %d" % (n, n) for n in range(rng.choice((20, 126, 140)))), *fields]) + body
    elif kind == 20:
        data = head(101, [b"Upgrade: websocket", b"Connection: Upgrade"]) + b"LEAK"
    else:
        data = rng.choice(
            (b"\x00\x01\x02\r\n\r\n", b"SSH-2.0-OpenSSH_9.2p1\r\n", b"\r\n" + head(200, fields) + body, b"\n\n")
        )
    ops: list[Op] = [("write", data)]
    if kind in (9, 10, 11, 12, 16, 17, 21) or (kind <= 4 and rng.random() < 0.5):
        ops.append(("linger", LINGER_S))
    return Answer(tuple(ops))


def cut_short(rng: Random, method: str) -> Answer:
    """The head is whole, the body is not. The app has seen the head before the end comes."""
    kind = rng.randrange(4)
    if kind == 0:
        data = head(200, [b"Content-Length: 10"]) + b"half-"
    elif kind == 1:
        data = head(200, [b"Transfer-Encoding: chunked"]) + b"5\r\nhalf-\r\n"
    elif kind == 2:
        data = head(200, [b"Transfer-Encoding: chunked"]) + b"a\r\nhalf-"
    else:
        data = head(200, []) + b"half-"
    end = "reset" if kind == 3 else rng.choice(("close", "reset"))
    return Answer((("write", data), ("gate", None), ("wait", 0.002), (end, None)))


SILENT: Final = Answer((("hang", None),))

ANY: Final[tuple[tuple[Callable[[Random, str], Answer], int], ...]] = (
    (good, 70),
    (failing, 14),
    (odd, 8),
    (retried, 8),
)


def any_answers(rng: Random, method: str) -> tuple[Answer, ...]:
    """For one request: mostly one good answer, sometimes failures before it, sometimes something odd."""
    if rng.random() < 0.6:
        return (good(rng, method),)
    makers = [maker for maker, _ in ANY]
    weights = [weight for _, weight in ANY]
    found = [rng.choices(makers, weights)[0](rng, method) for _ in range(rng.choice((1, 1, 2, 3)))]
    if rng.random() < 0.5:
        found.append(good(rng, method))
    return tuple(found)
