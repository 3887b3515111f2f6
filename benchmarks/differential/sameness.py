"""Whether two builds did the same: what may differ (times, ids, chance) is put aside, and the rest is compared."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Any, Final

from benchmarks.differential.apps import Event
from benchmarks.differential.scripts import Episode
from benchmarks.differential.upstreams import Copy, Run, chunked_end

TOLERANCE: Final = 2500
"""How far apart two numbers of milliseconds may be: time that is left, or that is to be waited."""

SPREAD: Final = 0.26
"""By how much of itself a Retry-After may differ: the sidecar spreads it at random."""

_LOOP_NAME: Final = re.compile(rb"sidecar-[0-9a-f]{12}")
_TAG_LETTER: Final = re.compile(rb"(x-r[:=] ?)n", re.IGNORECASE)
_UUID: Final = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_DATE: Final = re.compile(rb"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} 20[2-9]\d \d\d:\d\d:\d\d GMT")
_DURATION: Final = re.compile(rb'"duration_ms":[0-9.e-]+')
_RETRY_JSON: Final = re.compile(rb'"retry_after":([0-9.]+)')
_NUMBERS: Final = re.compile(rb"(?i)(x-envoy-expected-rq-timeout-ms: |retry-after: |\r\nage: )(\d+)")
_SECONDS: Final = re.compile(rb"\d+(?:\.\d+)? (m?s)\b")
_PROBLEM_LENGTH: Final = re.compile(rb"(?i)(content-type: application/(?:problem\+)?json\r\n)content-length: \d+")
_PARTS_LENGTH: Final = re.compile(rb"(?i)content-length: \d+(\r\nCache-Control: no-store)")
_ADDRESS: Final = re.compile(rb"127\.1[0-4]\.\d+\.\d+(?::\d+)?")

LEFT_OUT: Final = (
    "_seconds_sum",
    "_seconds_bucket",
    "_created",
    "_timestamp_seconds",
    "sidecar_retry_budget_balance",
    "sidecar_loop_lag",
    "sidecar_stale_cache",
    "sidecar_config",
    "sidecar_build_info",
    "sidecar_discovery",
    "sidecar_log_lines",
    "sidecar_app_connections",
    "process_",
    "python_",
)
"""Metrics that say how long something took, or how the process does."""

BY_CHANCE: Final = (
    "sidecar_upstream_connections",
    "sidecar_upstream_idle_connections",
    "sidecar_endpoint_active_connections",
    "sidecar_endpoint_healthy",
)
"""Metrics that depend on which endpoint gets a request."""

LARGE: Final = 4096

_AS_LONG: Final = frozenset({"ok", "status", "truncated", "client_disconnect"})
"""Reasons with which the length of what the app got does not depend on how long something took."""

_SERIES: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_SERVICE: Final = re.compile(r'(?:service|aggregate)="([^"]*)"')
_ENDPOINT: Final = re.compile(r'endpoint="([^"]*)"')


_DETAIL: Final = re.compile(rb'"detail":"(?:[^"\\]|\\.)*"')


class Names:
    """How one build's words are made comparable: the endpoints of an episode are named in the order in which it used
    them, or all alike; sentences (`detail`) may be left out."""

    def __init__(self, episode: Episode, *, words: bool = True) -> None:
        self.words = words
        self.has_parts = bool(episode.aggregates)
        self._loose = episode.loose
        self._alike = episode.alike
        self._found: dict[bytes, bytes] = {}

    def seen(self, copies: Iterable[Copy]) -> None:
        """Names the endpoints of these copies."""
        if self._alike:
            for copy in copies:
                self._found.setdefault(copy.endpoint.encode(), b"endpoint-%d" % len(self._found))

    def replace(self, data: bytes) -> bytes:
        """The same with names in place of addresses."""
        if self._loose:
            return _ADDRESS.sub(b"endpoint", data)
        if self._alike:
            return _ADDRESS.sub(lambda found: self._found.get(found[0].split(b":")[0], b"endpoint-x"), data)
        return data


def plain(data: bytes, names: Names, numbers: list[int]) -> bytes:
    """`data` without what may differ. The numbers that may differ a little go to `numbers`."""

    def put_aside(found: re.Match[bytes]) -> bytes:
        numbers.append(int(found[2]) * (1 if found[1].lower().startswith(b"x-envoy") else 1000))
        return found[1] + b"#"

    def seconds(found: re.Match[bytes]) -> bytes:
        numbers.append(int(float(found[1]) * 1000))
        return b'"retry_after":0'

    data = _LOOP_NAME.sub(b"sidecar-loop-name", data)
    data = _TAG_LETTER.sub(rb"\1o", data)
    data = _UUID.sub(b"uuid", data)
    data = _DATE.sub(b"date", data)
    if b"json" in data:
        data = _DURATION.sub(b'"duration_ms":0', data)
        data = _RETRY_JSON.sub(seconds, data)
        data = _PROBLEM_LENGTH.sub(rb"\1Content-Length: #", data)
        data = _PARTS_LENGTH.sub(rb"Content-Length: #\1", data)
        data = _SECONDS.sub(rb"# \1", data)
        if not names.words:
            data = _DETAIL.sub(b'"detail":0', data)
    if b'"fallbacks":' in data or b'"errors":' in data:
        data = _members_sorted(data)
    data = _NUMBERS.sub(put_aside, data)
    return names.replace(data)


def _members_sorted(answer: bytes) -> bytes:
    """An aggregate's answer with its members in alphabetic order: those of `errors` are in the order of their end."""
    head, end, body = answer.partition(b"\r\n\r\n")
    try:
        return head + end + json.dumps(json.loads(body), sort_keys=True).encode()
    except ValueError:
        return answer


def alike(old: bytes, new: bytes, names: tuple[Names, Names]) -> bool:
    """Whether these are the same but for what may differ."""
    if old == new:
        return True
    old_numbers: list[int] = []
    new_numbers: list[int] = []
    old, new = plain(old, names[0], old_numbers), plain(new, names[1], new_numbers)
    if old != new and unchunked(old) != unchunked(new):
        return False
    return len(old_numbers) == len(new_numbers) and all(
        abs(one - other) <= TOLERANCE + SPREAD * max(one, other)
        for one, other in zip(old_numbers, new_numbers, strict=True)
    )


def unchunked(answer: bytes) -> bytes:
    """An answer with its body as one chunk, if each chunk is written as the sidecar writes them: where an upstream's
    body ends with its connection, the size of the chunks is a matter of chance."""
    head_end = answer.find(b"\r\n\r\n") + 4
    while answer.startswith(b"HTTP/1.1 1", 0) and head_end >= 4 and answer[9:12] != b"101":
        answer = answer[head_end:]
        head_end = answer.find(b"\r\n\r\n") + 4
    if head_end < 4 or b"\r\nTransfer-Encoding: chunked" not in answer[:head_end]:
        return answer
    body, joined = answer[head_end:], b""
    if chunked_end(body) != len(body):
        return answer
    at = 0
    while True:
        line_end = body.find(b"\r\n", at)
        line = body[at:line_end]
        if line == b"0":
            return answer[:head_end] + joined + body[at:]
        if not re.fullmatch(rb"[1-9a-f][0-9a-f]*", line):
            return answer
        size = int(line, 16)
        joined += body[line_end + 2 : line_end + 2 + size]
        at = line_end + 2 + size + 2


def events_differ(old: Sequence[Event], new: Sequence[Event], names: tuple[Names, Names]) -> str:
    """What the app saw differently; empty if nothing."""
    for one, other in zip_longest(old, new):
        if one == other:
            continue
        if one is None or other is None or one[:2] != other[:2] or len(one) < 3 or not isinstance(one[2], bytes):
            if one is not None and other is not None and {one[0], other[0]} <= {"answer", "part"}:
                return f"the app got\n  old: {one[0]} {one[2]!r}\n  new: {other[0]} {other[2]!r}"
            return f"the app saw\n  old: {one!r}\n  new: {other!r}"
        if not alike(one[2], other[2], names):
            return f"the app got\n  old: {one[2]!r}\n  new: {other[2]!r}"
    return ""


def runs_differ(old: Sequence[Run], new: Sequence[Run], names: tuple[Names, Names], *, loose: bool) -> str:
    """What the upstreams got differently; empty if nothing."""
    for one, other in zip(old, new, strict=True):
        number = one.script.number
        copies, others = one.copies, other.copies
        if one.script.parts:
            copies, others = sorted(copies, key=_target), sorted(others, key=_target)
        for each, counterpart in zip_longest(copies, others):
            if each is None or counterpart is None:
                heads = [[copy.head for copy in side] for side in (copies, others)]
                return (
                    f"copies of request {number}\n  old: {len(copies)} {heads[0]!r}\n  new: {len(others)} {heads[1]!r}"
                )
            told = _copies_differ(each, counterpart, names, loose=loose or bool(one.script.parts))
            if told:
                return f"request {number}: {told}"
    return ""


def _target(copy: Copy) -> bytes:
    return copy.head.split(b" ", 2)[1]


def _copies_differ(one: Copy, other: Copy, names: tuple[Names, Names], *, loose: bool) -> str:
    if not alike(one.head, other.head, names):
        return f"an upstream got\n  old: {one.head!r}\n  new: {other.head!r}"
    if one.body != other.body and not (one.ended and other.ended and not one.whole and not other.whole):
        return f"an upstream got the body\n  old: {shown(one.body)}\n  new: {shown(other.body)}"
    for what in ("whole", "ended", "tunnel") if loose else ("whole", "ended", "tunnel", "nth"):
        if getattr(one, what) != getattr(other, what):
            return f"an upstream saw {what}\n  old: {getattr(one, what)!r}\n  new: {getattr(other, what)!r}"
    old, new = names[0].replace(one.endpoint.encode()), names[1].replace(other.endpoint.encode())
    return f"the endpoint was\n  old: {old!r}\n  new: {new!r}" if old != new else ""


def shown(data: bytes) -> str:
    return f"{data[:200]!r}{'...' if len(data) > 200 else ''} ({len(data)} bytes)"


def twice(runs: Iterable[Run]) -> str:
    """Which request with an effect reached an upstream more than once; empty if none did."""
    for run in runs:
        if run.script.once and len(run.copies) > 1:
            return (
                f"request {run.script.number} was sent {len(run.copies)} times: {[copy.head for copy in run.copies]!r}"
            )
    return ""


# Metrics and log lines, by service.


def series_by_service(text: str, names: Callable[[str], Names | None]) -> dict[str, Counter[str]]:
    """The values of a scrape that may be compared, by service."""
    found: dict[str, Counter[str]] = {}
    for line in text.splitlines():
        series = _SERIES.match(line)
        if series is None or any(part in series[1] for part in LEFT_OUT):
            continue
        name, labels, value = series[1], series[2] or "", float(series[3])
        service = _SERVICE.search(labels)
        owner = service[1] if service is not None else ""
        renamed = names(owner)
        if renamed is not None:
            changed = renamed.replace(labels.encode()).decode()
            if changed != labels and (renamed.replace(b"127.10.0.1") == b"endpoint") and name in BY_CHANCE:
                continue
            labels = changed
        if renamed is not None and name in BY_CHANCE and renamed.replace(b"127.10.0.1") == b"endpoint":
            continue
        found.setdefault(owner, Counter())[f"{name}{{{labels}}}"] += value  # type: ignore[assignment]
    return found


def log_lines(
    lines: Iterable[str], names: Callable[[str], Names | None], *, words: bool = True
) -> dict[str, list[str]]:
    """The lines of requests and WebSockets that may be compared, by service."""
    found: dict[str, list[str]] = {}
    for line in lines:
        entry = json.loads(line)
        if entry.get("event") not in ("request", "websocket") and entry.get("level") not in ("error", "warning"):
            continue
        service = entry.get("service", "") or entry.get("aggregate", "")
        renamed = names(service)
        text = json.dumps(_without_times(entry), sort_keys=True).encode()
        text = _SECONDS.sub(rb"# \1", _UUID.sub(b"uuid", text))
        if renamed is not None:
            text = renamed.replace(text)
            if renamed.has_parts:
                text = re.sub(rb'"bytes_sent": \d+', b'"bytes_sent": #', text)  # of a part: with its framing or without
        if not words:
            text = re.sub(rb'"detail": "(?:[^"\\]|\\.)*"', b'"detail": #', text)
        found.setdefault(service, []).append(text.decode())
    return found


def _without_times(entry: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in entry.items() if key != "time" and not key.endswith("_ms")}
    if kept.get("reason") not in _AS_LONG or "aggregate" in kept:
        kept.pop("bytes_sent", None)  # an answer of the sidecar has durations in it, which are shorter or longer
        if kept.get("bytes_received", 0) > LARGE:
            kept.pop("bytes_received")  # how much of it came before the answer is a matter of chance
    if "aggregate" in kept and "detail" in kept:
        kept["detail"] = sorted(kept["detail"].split(", "))  # of parts, in the order of their end
    if "attempts" in kept:
        kept["attempts"] = [_without_times(attempt) for attempt in kept["attempts"]]
    return kept


def series_differ(old: Counter[str], new: Counter[str]) -> str:
    """The series whose values differ; empty if none does."""
    differing = [name for name in sorted(old | new) if old.get(name, 0) != new.get(name, 0)]
    differing += [name for name in sorted(set(old) ^ set(new)) if name not in differing]
    return "\n".join(f"  {name} old: {old.get(name)} new: {new.get(name)}" for name in differing)


def lines_differ(old: list[str], new: list[str]) -> str:
    """The first lines of the log that differ; empty if none does. The order counts where nothing ran side by side."""
    left, right = Counter(old), Counter(new)
    missing, added = left - right, right - left
    if not missing and not added:
        return ""
    shown_lines = [f"  only old: {line}" for line in list(missing)[:3]] + [
        f"  only new: {line}" for line in list(added)[:3]
    ]
    return "\n".join(shown_lines)
