"""`python -m tools.fuzz_scan`: holds the compiled head scanner (scan.c) against the Python parsers, on mutated heads.

Whatever the scanner takes, the parser has to take too and to read the same: each attribute, and each byte that goes on.
The heads begin as those of `SEEDS` and of the tests, and are mutated a few times. The exit code is 1 where one was read
in two ways.

`--sanitize` builds the scanner with ASan and UBSan, and runs a Python under them: a read outside a head ends it.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import functools
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Final
from unittest import mock

from sidecar.proxy.http1 import request_head, response_head
from sidecar.proxy.http1.head_syntax import BadRequest, BadResponse
from sidecar.proxy.http1.request_head import RequestHead
from sidecar.proxy.http1.response_head import ResponseHead

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = ROOT / "sidecar" / "proxy" / "http1" / "scan.c"
SANITIZERS: Final = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -O1 -g"

REQUEST_ATTRIBUTES: Final = sorted(
    {name for name in RequestHead.__annotations__ if not name.startswith("_")} - {"pieces", "host_at"}
)
RESPONSE_ATTRIBUTES: Final = sorted(
    {name for name in ResponseHead.__annotations__ if not name.startswith("_")} - {"pieces", "location_at"}
)


# The scanner


def build(folder: Path, options: str = "-O2") -> Path:
    """Compile scan.c by itself. Raises CalledProcessError, with what the compiler said on stderr."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    made = folder / f"_scan{sysconfig.get_config_var('EXT_SUFFIX')}"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *shlex.split(options)]
    headers = f"-I{sysconfig.get_path('include')}"
    subprocess.run([*compiler, *flags, headers, str(SOURCE), "-o", str(made)], check=True)
    return made


def load(path: Path) -> ModuleType:
    """The built scanner, under its own name and yet in no place where the sidecar would find it."""
    spec = importlib.util.spec_from_file_location("sidecar.proxy.http1._scan", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def used(scanner: ModuleType) -> Iterator[None]:
    """`parse_request` and `parse_response` have this scanner."""
    with (
        mock.patch.object(request_head, "scan_request", scanner.scan_request),
        mock.patch.object(response_head, "scan_response", scanner.scan_response),
    ):
        yield


# What is compared


def request_view(request: RequestHead) -> dict[str, object]:
    """All that the data path can learn from a request's head, and what it sends on. Uses it up."""
    view: dict[str, object] = {name: getattr(request, name) for name in REQUEST_ATTRIBUTES}
    view["host among the pieces"] = request.pieces[request.host_at] if request.host_at >= 0 else None
    view["authority"] = request.host_sent()
    view["cookies"] = request.values(b"cookie")
    view["sent on"] = request.bytes_for(request.target, b"10.0.0.7:80", b"\r\nX-Forwarded-Prefix: /venue")
    request.drop({b"traceparent", b"tracestate", b"x-a"})
    view["sent on with less"] = request.bytes_for(b"/", b"", b"")
    return view


def response_view(response: ResponseHead) -> dict[str, object]:
    """The same of a response's head."""
    view: dict[str, object] = {name: getattr(response, name) for name in RESPONSE_ATTRIBUTES}
    at = response.location_at
    view["location among the pieces"] = response.pieces[at] if at >= 0 else None
    view["sent on"] = response.bytes_for(b"\r\nConnection: close")
    if at >= 0:
        response.pieces[at] = b"/venue/elsewhere"
        view["sent on with another location"] = response.bytes_for(b"")
    return view


def request_difference(scanner: ModuleType, head: bytes, max_fields: int) -> tuple[bool, str]:
    """Whether the scanner takes the head, and in what the parser disagrees; "" where it does not."""
    if scanner.scan_request(head, max_fields) is None:
        return False, ""
    with used(scanner):
        scanned = request_view(request_head.parse_request(head, max_fields))
    try:
        parsed = request_view(request_head.parse_thoroughly(head, max_fields))
    except BadRequest as refusal:
        return True, f"the parser refuses it: {refusal.detail}"
    return True, _unlike(scanned, parsed)


def response_difference(scanner: ModuleType, head: bytes, method: str, max_fields: int) -> tuple[bool, str]:
    """The same for the head of a response to a request of this method."""
    if scanner.scan_response(head, method == "HEAD", max_fields) is None:
        return False, ""
    with used(scanner):
        scanned = response_view(response_head.parse_response(head, method, max_fields))
    try:
        parsed = response_view(response_head.parse_thoroughly(head, method, max_fields))
    except BadResponse as refusal:
        return True, f"the parser refuses it: {refusal}"
    return True, _unlike(scanned, parsed)


def _unlike(scanned: dict[str, object], parsed: dict[str, object]) -> str:
    unlike = [name for name in scanned.keys() | parsed.keys() if scanned.get(name) != parsed.get(name)]
    return "; ".join(f"{name}: {scanned.get(name)!r}, and by the parser {parsed.get(name)!r}" for name in unlike)


# The heads

SEEDS: Final = """
GET /venue/events/42?page=2 HTTP/1.1
Host: localhost:15001
User-Agent: x/1
Accept: */*
Connection: keep-alive
X-Request-Id: 7f3a
traceparent: 00-0af7-b7ad-01
Cookie: a=b

POST /a HTTP/1.1
Host: venue
Content-Type: application/json
Content-Length: 20
Idempotency-Key: k
x-envoy-attempt-count: 2
x-envoy-expected-rq-timeout-ms: 900
x-sidecar-loop: a1, b2

PUT http://venue:3002/a?b=c HTTP/1.1
Host: venue:3002
Transfer-Encoding: chunked
x-envoy-upstream-rq-timeout-ms: 50
Connection: close
Keep-Alive: timeout=5

OPTIONS / HTTP/1.1
host:a
X-A:
x-a: \t caf\xe9 \t
Expect: 100-continue
Via: 1.1 a
TE: trailers

HTTP/1.1 200 OK
Server: nginx
Date: Mon, 30 Nov 2026 21:00:00 GMT
Content-Type: text/plain
Content-Length: 30
Connection: keep-alive
Vary: Accept-Encoding

HTTP/1.1 302 Found
Location: /a/b?c
Transfer-Encoding: chunked
Connection: close
Set-Cookie: a=b

HTTP/1.1 503 Service Unavailable
Retry-After: 3
x-envoy-attempt-count: 2
x-sidecar-fallback: stale
Keep-Alive: timeout=5
date: x

HTTP/1.1 404 Not Found
x-sidecar-reason: loop
X-Envoy-Immediate-Health-Check-Fail: true

HTTP/1.1 304 Not Modified
ETag: a
Upgrade: h2c
X-A: b
"""

NAMES: Final = tuple(
    name.encode() for name in dict.fromkeys((*request_head.REQUEST_NAMES, *response_head.RESPONSE_NAMES, "date", "x-a"))
)
VALUES: Final = tuple(
    value.encode("latin-1")
    for value in (
        *(
            "",
            " ",
            "\t",
            "a",
            "0",
            "1",
            "2",
            "5",
            "05",
            "+5",
            "-1",
            "0x5",
            "5 ",
            "5,5",
            "1 2",
            "9" * 15,
            "9" * 16,
            "9" * 40,
        ),
        *(
            "close",
            "Close ",
            "keep-alive",
            "Keep-Alive, x-a",
            "upgrade",
            "x-a",
            "host",
            "close, close",
            "a b",
            "chunked",
        ),
        *("Chunked", "chunked ", "gzip, chunked", "chunked, chunked", "identity", "websocket", "h2c", "trailers"),
        *("100-continue", "a.b:80", "a_b:", "[::1]:80", "u@h", "a/b", "a:b", "127.0.0.1", "loop", "/a", "http://a/b"),
        *("\x00", "a\x7fb", "caf\xe9", "a\tb", "a\x0bb", "\xa0", "\xff"),
    )
)
BYTES: Final = (
    tuple(bytes([code]) for code in range(256)) + (b"\r\n",) * 24 + (b"\r", b"\n", b" ", b"\t", b":", b"") * 8
)


@functools.cache
def seeds() -> list[bytes]:
    """SEEDS, which weigh more than all others, and the heads that are written out in the tests."""
    own = [_ended(head.replace("\n", "\r\n").encode("latin-1")) for head in SEEDS.strip().split("\n\n")]
    found: set[bytes] = set()
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                text = node.value if isinstance(node.value, bytes) else node.value.encode("latin-1", "replace")
                if len(text) < 4096 and re.match(rb"[A-Z]+ \S+ HTTP/1\.[01]\r\n|HTTP/1\.[01] \d", text):
                    found.add(_ended(text))
    return sorted(found) + own * (3 * len(found) // len(own))


def _ended(head: bytes) -> bytes:
    """Up to its first empty line, which it gets where there is none."""
    end = head.find(b"\r\n\r\n")
    return head[: end + 4] if end >= 0 else head.rstrip(b"\r\n") + b"\r\n\r\n"


def mutated(head: bytes, random: Random) -> bytes:
    """The head after none to four changes of a line or of a few bytes."""
    for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3, 4))):
        head = random.choice(_MUTATIONS)(head, random)
    return _ended(head)


def _change_bytes(head: bytes, random: Random) -> bytes:
    at = random.randrange(len(head) + 1)
    return head[:at] + random.choice(BYTES) + head[at + random.choice((0, 1, 1, 2)) :]


def _add_field(head: bytes, random: Random) -> bytes:
    lines = head.split(b"\r\n")
    name = random.choice(NAMES)
    name = random.choice((name, name.title(), name.upper(), name + b"s", name[:-1]))
    separator = random.choice((b": ",) * 8 + (b":", b":\t ", b" : ", b" ", b""))
    line = name + separator + random.choice(VALUES) + random.choice((b"",) * 8 + (b" ", b"\t"))
    lines.insert(random.randrange(1, max(len(lines) - 1, 2)), line)
    return b"\r\n".join(lines)


def _change_value(head: bytes, random: Random) -> bytes:
    lines = head.split(b"\r\n")
    at = random.randrange(len(lines))
    name, colon, _ = lines[at].partition(b":")
    lines[at] = name + colon + random.choice((b" ", b"", b"\t")) + random.choice(VALUES)
    return b"\r\n".join(lines)


def _move_line(head: bytes, random: Random) -> bytes:
    """Doubled, dropped or elsewhere."""
    lines = head.split(b"\r\n")
    taken = random.choice(lines)
    if random.random() < 0.5:
        lines.remove(taken)
    if random.random() < 0.7:
        lines.insert(random.randrange(len(lines) + 1), taken)
    return b"\r\n".join(lines)


def _change_case(head: bytes, random: Random) -> bytes:
    at = random.randrange(len(head) + 1)
    until = at + random.randrange(40)
    return head[:at] + random.choice((bytes.lower, bytes.upper, bytes.swapcase))(head[at:until]) + head[until:]


def _change_first_line(head: bytes, random: Random) -> bytes:
    method = random.choice((b"GET", b"HEAD", b"POST", b"PRI", b"get", b"CONNECT", b"SOURCE", b"M-SEARCH"))
    target = random.choice(
        (b"/", b"*", b"/a#b", b"http://a", b"http://a:80/", b"http://u@a/", b"HTTP://a/", b"//a", b"a:80")
    )
    version = random.choice((b"HTTP/1.1",) * 6 + (b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.12"))
    status = random.choice(
        (b"200 OK", b"204 ", b"304", b"100 Continue", b"101 x", b"599 ", b"600 x", b"2000 x", b"20 x")
    )
    line = b" ".join(random.choice(((method, target, version), (version, status))))
    return line + head[head.find(b"\r\n") :]


_MUTATIONS: Final[tuple[Callable[[bytes, Random], bytes], ...]] = (
    *(_change_bytes, _change_bytes, _add_field, _add_field, _change_value, _move_line, _change_case),
    _change_first_line,
)


# The run


def fuzz(
    scanner: ModuleType, random: Random, goes_on: Callable[[int], bool], most: int = 10
) -> tuple[int, int, int, list[str]]:
    """How many heads there were, how many requests and responses were taken of them, and the first differences.

    It is asked before each head whether the run goes on after so many.
    """
    begun = seeds()
    heads = requests = responses = 0
    differences: list[str] = []
    while len(differences) < most and goes_on(heads):
        heads += 1
        head = mutated(random.choice(begun), random)
        fields = random.choice((128,) * 8 + (3, 0))
        method = random.choice(("GET", "GET", "HEAD"))
        request, request_unlike = request_difference(scanner, head, fields)
        response, response_unlike = response_difference(scanner, head, method, fields)
        requests += request
        responses += response
        unlike = request_unlike or response_unlike
        if unlike:
            differences.append(f"{head!r} ({method}, max_fields {fields}): {unlike}")
        part = head[: random.randrange(len(head))]
        part = random.choice((part, part + head, head + part))
        if part.find(b"\r\n\r\n") != len(part) - 4 and (
            scanner.scan_request(part, fields) or scanner.scan_response(part, False, fields)
        ):
            differences.append(f"{part!r} is not one whole head")
    return heads, requests, responses, differences


def under_sanitizers(library: Path, arguments: list[str]) -> int:
    """This command again, in a Python that has the sanitizers' run-time and allocates each object by itself."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    runtime = subprocess.run([*compiler, "-print-file-name=libasan.so"], check=True, capture_output=True, text=True)
    # Python itself never frees what it made at its start, so leaks are not looked for here; test_scan.py counts blocks.
    settings = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1", "PYTHONMALLOC": "malloc"}
    command = [sys.executable, "-m", "tools.fuzz_scan", "--library", str(library), *arguments]
    environment = {**os.environ, **settings, "LD_PRELOAD": runtime.stdout.strip()}
    return subprocess.run(command, check=False, cwd=ROOT, env=environment).returncode


def main(arguments: list[str] | None = None) -> int:
    """0 where all was alike, 1 where not."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz_scan", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long; default %(default)s")
    parser.add_argument("--seed", type=int, default=None, help="of the random changes; default: another each time")
    parser.add_argument("--sanitize", action="store_true", help="with ASan and UBSan")
    parser.add_argument("--library", type=Path, help="a scanner that was built before")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else time.time_ns() % 2**32
    with tempfile.TemporaryDirectory() as folder:
        library = options.library or build(Path(folder), SANITIZERS if options.sanitize else "-O2")
        if options.sanitize:
            return under_sanitizers(library, ["--seconds", str(options.seconds), "--seed", str(seed)])
        print(f"fuzz_scan: seed {seed}, {len(set(seeds()))} heads to begin with", flush=True)
        until = time.monotonic() + options.seconds
        heads, requests, responses, differences = fuzz(
            load(library), Random(seed), lambda heads: bool(heads % 256) or time.monotonic() < until
        )
    for difference in differences:
        print(difference)
    taken = f"{requests} requests and {responses} responses taken"
    print(f"fuzz_scan: {heads} heads, {taken}, {len(differences)} differences")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
