"""Compares the output of commands with the output that a page shows.

A page has commands in `sh` blocks, each followed by a `text` or `json` block if the output is shown, or both in a
`console` block. In the shown output, a line `...` stands for any lines, and `...` within a line for the rest of it.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any, NamedTuple

DIFFERS_EACH_TIME = {"x-sidecar-loop", "x-request-id", "traceparent", "x-envoy-expected-rq-timeout-ms"}


class Block(NamedTuple):
    language: str
    text: str


class Shown(NamedTuple):
    command: str
    output: str | None


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of a page. Each begins at the left margin."""
    found = [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)]
    assert 2 * len(found) == len(re.findall("^ *```", page, re.MULTILINE)), "a block that no test would see"
    return found


def commands_with_output(page: str) -> list[Shown]:
    """The commands in the `sh` blocks of a page, each with the block right after it if that shows an output."""
    found = []
    for block, after in pairwise([*blocks_of(page), Block("", "")]):
        if block.language == "sh":
            output = after.text if after.language in ("text", "json") else None
            found.append(Shown(block.text, output))
    return found


def in_console(page: str) -> list[Shown]:
    """The commands of `console` blocks, without their prompt. A line that ends with a backslash goes on in the next."""
    found = []
    for block in blocks_of(page):
        if block.language == "console":
            for piece in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                command, _, output = piece.partition("\n")
                while command.endswith("\\"):
                    more, _, output = output.partition("\n")
                    command += f"\n{more}"
                found.append(Shown(command, output))
    return found


def comparable(text: str) -> list[str]:
    """Lines without what differs each time: numbers, durations, ids, column widths."""
    lines = []
    for line in text.rstrip("\n").split("\n"):
        line = re.sub(r"\d{4}-\d\d-\d\dT? ?\d\d:\d\d:\d\d(\.\d+)?Z", "TIME", line.rstrip())
        line = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "ID", line)
        line = re.sub(r"^Date: .*", "Date: TIME", line)
        line = re.sub(r"\b\d+(\.\d+)?(ms|s|m|h)\b( \d+(s|m)\b)?", "#", line)
        line = re.sub(r"\d+(\.\d+)?( ms\b| s\b)?", "#", line)
        line = re.sub(r"(?<= )(#%|-)(?= |$)", "#", line)  # a rate, or "-" if there were no requests
        line = line.replace("skipped for #", "available")  # on a slow machine, a skip may end before it is shown
        line = line.replace("half-open", "open, probe in #")  # and so may the time of an open breaker
        lines.append(re.sub(r" +", " ", line))
    return lines


def difference(shown: str, printed: str) -> str | None:
    """None if a command printed what the page shows, apart from numbers; else both texts."""
    pattern = "".join(_pattern(line) for line in comparable(shown))
    text = "\n".join(comparable(printed)) + "\n"
    return None if re.fullmatch(pattern, text) else f"{text}\n--- the page has:\n{shown}"


def _pattern(line: str) -> str:
    if line == "...":
        return r"(?:.*\n)*?"
    return ".*".join(re.escape(part) for part in line.split("...")) + "\n"


def stable(answer: dict[str, Any]) -> dict[str, Any]:
    """A demo service's answer without what differs each time, such as which endpoint answered."""
    text = re.sub(r"127\.0\.0\.1:\d+", "ENDPOINT", json.dumps(answer))
    found: dict[str, Any] = json.loads(text)
    headers = {name: None if name in DIFFERS_EACH_TIME else value for name, value in found["headers"].items()}
    return found | {"headers": headers}
