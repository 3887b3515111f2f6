"""`python -m benchmarks.heads`: the cost of reading a request's head and writing it anew for an upstream.

Two ways are compared, on heads of several sizes. Ours: llhttp checks the syntax without a Python callback, one regular
expression finds the fields that matter, and everything else stays slices of the received bytes. The other: llhttp with
a callback for each field, which is the intended use of httptools. It does only what a typical head needs: it leaves out
the hop-by-hop fields, replaces Host, and adds two fields. The best of several batches counts, because a disturbance can
only make a batch slower.

The imported modules are the sources. For the compiled ones, run the file by its path from another folder, with the
Python into which the package is installed: `cd /tmp && .../.venv/bin/python .../benchmarks/heads.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time
from typing import Final

from httptools import HttpRequestParser

from sidecar.proxy.http1 import request_head
from sidecar.proxy.http1.request_head import parse_request

FIELDS: Final = (
    b"Host: localhost:15001",
    b"User-Agent: python-httpx/0.28.1",
    b"Accept: application/json",
    b"Accept-Encoding: gzip, deflate, br",
    b"Connection: keep-alive",
    b"Authorization: Bearer " + b"e" * 155,
    b"X-Request-Id: 7f3a1c1e-6f1e-4a55-9a1e-2f1c1e6f1e4a",
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    b"X-Tenant: acme",
    b"Cookie: session=abcdef0123456789; theme=dark",
)
"""The fields of a typical call inside a cluster. Larger heads have an app's own fields after them."""
SIZES: Final = (10, 20, 40, 100)

TARGET: Final = b"/events/42?page=2"
HOST: Final = b"10.0.0.7:3002"
MORE: Final = b"\r\nX-Forwarded-Prefix: /venue\r\nx-envoy-attempt-count: 1"
HOP_BY_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"}
)


def head(fields: int) -> bytes:
    """A head with this many fields, and at least those of FIELDS."""
    own = [b"X-Field-%d: some value of an app, %d" % (at, at) for at in range(fields - len(FIELDS))]
    return b"\r\n".join([b"GET /venue/events/42?page=2 HTTP/1.1", *FIELDS, *own, b"", b""])


def by_slices(head: bytes) -> bytes:
    return parse_request(head).bytes_for(TARGET, HOST, MORE)


class _Callbacks:
    """The object that llhttp calls for each field."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))


def by_callbacks(head: bytes) -> bytes:
    found = _Callbacks()
    parser = HttpRequestParser(found)
    parser.feed_data(head)
    pieces = [parser.get_method(), b" ", TARGET, b" HTTP/1.1"]
    for name, value in found.fields:
        lower = name.lower()
        if lower not in HOP_BY_HOP:
            pieces += (b"\r\n", name, b": ", HOST if lower == b"host" else value)
    return b"".join((*pieces, MORE, b"\r\n\r\n"))


def cost_us(way: Callable[[bytes], bytes], head: bytes, batches: int, heads: int) -> float:
    """Microseconds of CPU time for each head, in the best batch."""
    best = float("inf")
    for _ in range(batches):
        began = thread_time()
        for _ in range(heads):
            way(head)
        best = min(best, thread_time() - began)
    return best / heads * 1e6


def main(batches: int = 100, heads: int = 500) -> None:
    how = "interpreted" if str(request_head.__file__).endswith(".py") else "compiled"
    print(f"| us of CPU a head | {' | '.join(f'{size} fields' for size in SIZES)} |")
    print(f"|---|{'---:|' * len(SIZES)}")
    for name, way in {f"slices ({how})": by_slices, "a callback for each field": by_callbacks}.items():
        costs = [cost_us(way, head(size), batches, heads) for size in SIZES]
        print(f"| {name} | {' | '.join(f'{cost:.1f}' for cost in costs)} |")


if __name__ == "__main__":
    main()
