"""Random requests of an app: heads and bodies, valid and not."""

from __future__ import annotations

from random import Random
from typing import Final

METHODS: Final = ("GET",) * 9 + ("POST",) * 5 + ("PUT", "DELETE", "HEAD", "HEAD", "OPTIONS", "PATCH")
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
IDEMPOTENT: Final = SAFE | {"PUT", "DELETE"}

PATHS: Final = (
    "/k0",
    "/k1",
    "/k1/deep",
    "/k2?user=7&x=1",
    "/a/b/../c",
    "/",
    "",
    "/%7Ek?q=%20",
    "/k0?sid=1",
    "//x",
    "/k;p=1",
)

FIELDS: Final = (
    b"User-Agent: axios/1.12.2",
    b"Accept: application/json, text/plain, */*",
    b"Accept-Encoding: gzip, br",
    b"Authorization: Bearer ttt",
    b"Authorization: Bearer uuu",
    b"Cookie: sid=1; theme=dark",
    b"Cookie: sid=2",
    b"X-User: ann",
    b"X-User: bob",
    b"x-tenant: acme",
    b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    b"traceparent: nonsense",
    b"tracestate: a=b",
    b"b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1",
    b"x-datadog-trace-id: 1",
    b"X-Forwarded-For: 10.0.0.1",
    b"X-Forwarded-Prefix: /outer",
    b"X-Forwarded-Proto: https",
    b"Forwarded: for=10.0.0.1",
    b"Via: 1.1 somebody",
    b"x-sidecar-loop: sidecar-of-somebody-else",
    b"x-envoy-attempt-count: 1",
    b"x-envoy-attempt-count: 2",
    b"x-envoy-upstream-rq-timeout-ms: 60000",
    b"x-envoy-expected-rq-timeout-ms: 5000",
    b"x-envoy-upstream-rq-timeout-ms: soon",
    b"Idempotency-Key: 12",
    b"Connection: X-Hop\r\nX-Hop: gone",
    b"Connection: keep-alive, X-User",
    b"Keep-Alive: timeout=5",
    b"Proxy-Authorization: Basic x",
    b"Proxy-Connection: keep-alive",
    b"TE: trailers",
    b"Upgrade: h2c\r\nConnection: Upgrade",
    b"Pragma: no-cache",
    b"X-Empty:",
    b"X-Spaces:  padded \t ",
    b"X-Latin: caf\xe9",
    b"Content-Type: application/json",
    b'If-None-Match: "abc"',
    b"Range: bytes=0-1",
    b"Priority: u=1",
    b"X-Long: " + b"v" * 700,
)

BAD_FIELDS: Final = (
    b"Host: second",
    b"X-Folded: one\r\n two",
    b"X Space: 1",
    b"X-Space : 1",
    b"X-Bare: a\nb: c",
    b"X-Nul: a\x00",
    b"X-Cr: a\rb",
    b": nameless",
    b"nocolon",
    b"Connection: Host",
    b"Connection: content-length",
    b"Connection: x-envoy-attempt-count",
    b"Connection: authorization",
    b"Connection: ,, (bad)",
    b"Content-Length: 5",
    b"Content-Length: -1",
    b"Content-Length: 1, 1",
    b"Content-Length: 0x1",
    b"Content-Length:",
    b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: chunked, gzip",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3",
    b"Expect: something",
    b"Expect: 100-continue\r\nExpect: 100-continue",
    b"Upgrade: websocket\r\nConnection: Upgrade",
    b"X-Big: " + b"v" * 33_000,
)

BAD_LINES: Final = (
    b"GET  /@ HTTP/1.1",
    b"GET /@",
    b"GET /@ HTTP/2.0",
    b"GET /@ HTTP/1.2",
    b"get /@ HTTP/1.1",
    b"G\x00T /@ HTTP/1.1",
    b"GET /@#frag HTTP/1.1",
    b"GET /@\x80 HTTP/1.1",
    b"GET /@ http/1.1",
    b" GET /@ HTTP/1.1",
    b"BREW /@ HTTP/1.1",
    b"PROPFIND /@ HTTP/1.1",
    b"CONNECT host:80 HTTP/1.1",
    b"GET http://user@host/@ HTTP/1.1",
    b"GET http://unknown.example/@ HTTP/1.1",
    b"GET https://unknown.example/@ HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"GET * HTTP/1.1",
    b"GET @ HTTP/1.1",
    b"GET /nobody/x HTTP/1.1",
    b"GET /_aggregate/none HTTP/1.1",
    b"GET /_x HTTP/1.1",
    b"PRI * HTTP/2.0",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /@ HTTP/1.1 extra",
)


def framed(rng: Random, method: str, *, chunked_share: float = 0.3) -> tuple[list[bytes], bytes]:
    """The fields and bytes of a body that fits the method."""
    wants = method in {"POST", "PUT", "PATCH"} or rng.random() < 0.04
    if not wants:
        return ([b"Content-Length: 0"], b"") if rng.random() < 0.05 else ([], b"")
    body = rng.choice((b"", b"x", b'{"a": 1}', b"y" * 100, b"z" * 1500))
    if rng.random() < 0.05:
        body = rng.choice((b"u" * 20_000, b"v" * 66_000, b"w" * 150_000))
    if rng.random() < chunked_share:
        return [rng.choice((b"Transfer-Encoding: chunked", b"transfer-encoding:  CHUNKED "))], chunked(rng, body)
    return [rng.choice((b"Content-Length: %d", b"content-length:%d", b"Content-Length: 0%d")) % len(body)], body


def chunked(rng: Random, body: bytes) -> bytes:
    out, at = b"", 0
    while at < len(body):
        piece = body[at : at + rng.choice((1, 7, 100, 4000, 70_000))]
        at += len(piece)
        out += b"%x" % len(piece) + rng.choice((b"", b"", b"", b";x=1", b' ; y="z"')) + b"\r\n" + piece + b"\r\n"
        if len(out) > 40_000:
            out += b"%x\r\n" % len(body[at:]) + body[at:] + b"\r\n" if body[at:] else b""
            break
    trailers = rng.choice((b"", b"", b"", b"X-Sum: 1\r\n", b"Authorization: x\r\nX-T: 2\r\n", b"Content-Length: 9\r\n"))
    return out + b"0\r\n" + trailers + b"\r\n"


def broken_chunks(rng: Random) -> bytes:
    return rng.choice(
        (
            b"5\r\nhello0\r\n\r\n",
            b"g\r\nhello\r\n0\r\n\r\n",
            b"-5\r\nhello\r\n0\r\n\r\n",
            b"5\nhello\r\n0\r\n\r\n",
            b"fffffffffffffffff\r\nhello\r\n",
            b"5\r\nhello\r\n0\r\nbad trailer\r\n\r\n",
            b"5\r\nhello\r\n0\r\n: x\r\n\r\n",
            b"\r\n\r\n",
            b"5 \r\nhello\r\n0\r\n\r\n",
            b"5;" + b"e" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
            b"0\r\nX-T: " + b"t" * 70_000 + b"\r\n\r\n",
        )
    )


def fields(rng: Random) -> list[bytes]:
    """Some header fields, none of them wrong."""
    share = rng.random()
    if share < 0.3:
        return list(FIELDS[:3])
    return rng.sample(FIELDS, rng.randrange(1, 7)) if share < 0.9 else rng.sample(FIELDS, 15)
