"""`python -m benchmarks.never_twice`: how often upstreams get a request when they fail, for each fault and each method.

A request whose method is not idempotent must reach the upstreams once at most, whatever happens to it. For each fault
the table has the number of copies that upstreams got, and what the app was told. It is Markdown, one table for each
build; those of two builds should be equal. The exit code is 1 if a request arrived twice that must not, or if the
tables differ. docs/reliability.md explains it. Linux only, as upstreams listen on addresses such as 127.10.0.1.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks.differential.answers import head
from benchmarks.differential.apps import Player
from benchmarks.differential.daemons import Build
from benchmarks.differential.scripts import Answer, Op, Scene, Script, Step, tagged
from benchmarks.differential.upstreams import Upstreams
from benchmarks.ports import free_ports

ADDRESS: Final = "127.10.0.1"
OTHER: Final = "127.11.0.1"
LARGE: Final = b"x" * 100_000
"""Over `retry.max_body`."""

OK: Final = Answer((("write", head(200, [b"Content-Length: 2"]) + b"ok"),))


@dataclass(frozen=True)
class Kind:
    """A column: how the app asks. `once` if no second copy may arrive."""

    name: str
    method: str
    once: bool
    fields: tuple[bytes, ...] = ()
    body: bytes = b""
    service: str = "venue"


KINDS: Final = (
    Kind("GET", "GET", once=False),
    Kind("PUT", "PUT", once=False, body=b"{}"),
    Kind("PUT, 100 kB", "PUT", once=False, body=LARGE),
    Kind("POST", "POST", once=True, body=b"{}"),
    Kind("PATCH", "PATCH", once=True, body=b"{}"),
    Kind("POST, 100 kB", "POST", once=True, body=LARGE),
    Kind("POST, with a fallback", "POST", once=True, body=b"{}", service="covered"),
    Kind("POST, Idempotency-Key", "POST", once=False, fields=(b"Idempotency-Key: 1",), body=b"{}"),
)


@dataclass(frozen=True)
class Fault:
    """A row: what the upstream does with each copy. `kept` if the connection has served a request before."""

    name: str
    ops: tuple[Op, ...]
    at_head: bool = False
    kept: bool = False


def _says(status: int, *fields: bytes) -> tuple[Op, ...]:
    return (("write", head(status, [*fields, b"Content-Length: 2"]) + b"no"),)


_LATER: Final[Op] = ("wait", 0.1)
"""Longer than the time in which a kept connection may turn out to have been closed before."""

FAULTS: Final = (
    Fault("closes", (_LATER, ("close", None))),
    Fault("resets", (_LATER, ("reset", None))),
    Fault("closes at the head", (("close", None),), at_head=True),
    Fault("resets at the head", (("reset", None),), at_head=True),
    Fault("closes a kept connection at once", (("close", None),), kept=True),
    Fault("resets a kept connection at once", (("reset", None),), kept=True),
    Fault("closes a kept connection later", (_LATER, ("close", None)), kept=True),
    Fault("half a head, then closes", (("write", b"HTTP/1.1 200 OK\r\nContent-"), _LATER, ("close", None))),
    Fault("half a head, then resets", (("write", b"HTTP/1.1 200 OK\r\nContent-"), _LATER, ("reset", None))),
    Fault("an interim answer, then closes", (("write", b"HTTP/1.1 103 Early Hints\r\n\r\n"), _LATER, ("close", None))),
    Fault("is silent", (("hang", None),)),
    Fault("is no HTTP", (("write", b"SSH-2.0-OpenSSH_9.2p1\r\n"), _LATER, ("close", None))),
    Fault("500", _says(500)),
    Fault("502", _says(502)),
    Fault("503", _says(503)),
    Fault("503, Retry-After: 0", _says(503, b"Retry-After: 0")),
    Fault("503 before the body", _says(503), at_head=True),
    Fault("504", _says(504)),
    Fault(
        "half a body, then closes", (("write", head(200, [b"Content-Length: 9"]) + b"half"), _LATER, ("close", None))
    ),
)


def configuration(port: int) -> dict[str, Any]:
    """Retries as by default, but quick and with no limit to their number in all; nothing refuses a request."""
    policy = {
        "timeout": {"attempt": "400ms"},
        "retry": {"backoff": {"base": "1ms", "max": "2ms"}, "budget": {"ratio": 1, "min_per_second": 1000}},
        "breaker": {"mode": "off"},
        "outlier": "off",
    }
    endpoints = [f"http://{ADDRESS}:{port}"]
    fallback = [{"service": "other", "methods": ["GET", "POST"]}]
    return {
        "log": {"level": "error", "access": "off"},
        "drain": {"delay": "0s", "timeout": "1s"},
        "defaults": policy,
        "services": {
            "venue": {"endpoints": endpoints},
            "covered": {"endpoints": endpoints, "fallback": fallback},
            "other": {"endpoints": [f"http://{OTHER}:{port}"]},
        },
    }


def scene(number: int, fault: Fault, kind: Kind) -> Scene:
    """One cell: a request, on a connection to the upstream that is new or has served one before."""
    lines = [b"%b /%b/x HTTP/1.1" % (kind.method.encode(), kind.service.encode()), b"Host: localhost"]
    first = b"\r\n".join([b"GET /%b/x HTTP/1.1" % kind.service.encode(), *lines[1:], tagged(number), b"\r\n"])
    length = [b"Content-Length: %d" % len(kind.body)] if kind.body else []
    data = b"\r\n".join([*lines, tagged(number + 1), *kind.fields, *length, b"\r\n"]) + kind.body
    scripts = (Script(number, (OK,)), Script(number + 1, (Answer(fault.ops, at_head=fault.at_head),)))
    before: list[Step] = [("send", 1, first), ("answer", 1, "GET")] if fault.kept else []
    steps = (("new", 1), *before, ("send", 1, data), ("answer", 1, kind.method))
    return Scene(fault.name, steps, scripts)


_STATUS: Final = re.compile(rb"HTTP/1\.1 ([2-5]\d\d)")
_REASON: Final = re.compile(rb"\r\nx-sidecar-reason: (\w+)")


def told(what: str, data: bytes) -> str:
    """What the app got, in short."""
    status, reason = _STATUS.search(data), _REASON.search(data)
    words = [status[1].decode() if status is not None else "nothing"]
    words += [reason[1].decode()] if reason is not None else []
    return " ".join(words if what == "answer" else [*words, "cut"])


async def table(command: str, faults: Sequence[Fault] = FAULTS) -> tuple[list[str], list[str]]:
    """The lines of a build's table, and what arrived twice though it must not."""
    ports = free_ports(4)
    start = next(port for port in ports if port + 1 in ports and port + 2 in ports)
    upstreams = Upstreams(next(port for port in ports if not start <= port <= start + 2))
    await upstreams.listen([ADDRESS, OTHER])
    lines = ["| the upstream | " + " | ".join(kind.name for kind in KINDS) + " |", "|---" * (len(KINDS) + 1) + "|"]
    wrong = []
    async with AsyncExitStack() as stack:
        stack.push_async_callback(upstreams.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sidecar-twice-")))
        build = stack.enter_context(Build(command, configuration(upstreams.port), start, folder))
        await asyncio.to_thread(build.wait_ready)
        number = 0
        for fault in faults:
            cells = [fault.name]
            for kind in KINDS:
                number += 2
                player = Player(upstreams, start, "o")
                events, runs = await player.play(scene(number, fault, kind))
                what, _, data = next(event for event in reversed(events) if event[0] in ("answer", "part"))
                copies = len(runs[1].copies)
                cells.append(f"{copies}, {told(what, data)}")
                if kind.once and copies > 1:
                    wrong.append(f"{fault.name}: {kind.name} arrived {copies} times")
                await player.end()
            lines.append("| " + " | ".join(cells) + " |")
    return lines, wrong


def main(arguments: list[str] | None = None) -> int:
    """Prints the tables. Returns 1 if a request arrived twice that must not, or if the tables differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.never_twice", description=__doc__.partition("\n\n")[2])
    parser.add_argument("sidecar", nargs="*", help="commands of builds (default: .venv/bin/sidecar)")
    options = parser.parse_args(arguments)
    tables = []
    wrong: list[str] = []
    for command in options.sidecar or [".venv/bin/sidecar"]:
        lines, found = uvloop.run(table(command))
        tables.append(lines)
        wrong += found
        print(f"\n### {command}\n\n" + "\n".join(lines), flush=True)
    for one in wrong:
        print(f"WRONG: {one}")
    differing = any(lines != tables[0] for lines in tables)
    if len(tables) > 1:
        print("\nThe tables differ." if differing else "\nThe tables are equal.")
    return 1 if wrong or differing else 0


if __name__ == "__main__":
    sys.exit(main())
