"""An admin API that says what it is told to, by http.server in a thread: the commands are tested against it.

Its answers have the shapes of `sidecar.admin.answers`; tests/cli/test_fake_admin.py holds them to that.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

T0 = "2026-11-23T01:02:03.456Z"
LATER = "2126-11-23T01:02:03.456Z"


def leaf(value: Any, origin: str = "default", line: int | None = None) -> dict[str, Any]:
    return {"value": value, "origin": origin, "line": line}


BREAKER = {
    "state": "closed", "mode": "enforce", "since": T0, "forced": None, "forced_until": None, "retry_after_s": 0.0
}  # fmt: skip
BREAKER_DETAIL = BREAKER | {
    "window": {"successes": 10, "failures": 2, "seconds": 10.0}, "opens": 1, "rejects": 3, "next_probe": None
}  # fmt: skip
RATES = {"requests_per_s": 12.3, "success_rate": 99.5, "p50_ms": 3.1, "p99_ms": 12.0, "retries_per_s": 0.1}
BUDGET = {"balance": 12.0, "ratio": 0.2, "min_per_second": 10.0, "spent": 7, "denied": 0}
COUNTS = {
    "in_flight": 4, "requests": 1234, "failures": 5, "retries": 7, "fallbacks": 0,
    "reasons": {"reset": 3, "status": 2}, "recent_reasons": {},
    "last_failure": {"at": T0, "reason": "reset", "detail": "10.0.0.7:3002: the connection broke", "request_id": "id"},
}  # fmt: skip
ENDPOINT = {
    "address": "10.0.0.7:3002", "healthy": True, "known": True, "ejected": False, "ejected_until": None,
    "drained": False, "forced_until": None, "available": True, "skipped_until": None, "weight": 1, "priority": 0,
    "active": 2, "idle": 1, "requests": 400, "failures": 3, "share": 33.3, "latency_ms": 3.2, "ejections": 0,
    "reasons": {"ok": 397, "reset": 3},
}  # fmt: skip
SHARES = [{"available": True, "share": 60.0}, {"available": True, "share": 40.0}, {"available": False, "share": None}]
SUMMARY = {"total": 3, "available": 2, "healthy": 2, "ejected": 1, "panic": False, "shares": SHARES}
POLICY = {
    "timeout": {"attempt": leaf("2s", "service", 12), "request": leaf("15s")},
    "retry": {"on": leaf(["reset", 503]), "budget": {"ratio": leaf(0.2)}},
    "preserve_host": leaf(value=False),
}


def service(name: str = "venue", **changed: Any) -> dict[str, Any]:
    return {
        "name": name, "source": "static", "protocol": "http1", "grpc": False, "grpc_statuses": {},
        "breaker": BREAKER, "endpoints": SUMMARY, "rates": RATES, "budget": BUDGET,
        **COUNTS, **changed,
    }  # fmt: skip


def detail(name: str = "venue", **changed: Any) -> dict[str, Any]:
    rest = {"t": [], "requests_per_s": [], "success_rate": [], "p50_ms": [], "p99_ms": [], "retries_per_s": []}
    return {
        **service(name), "breaker": BREAKER_DETAIL, "endpoint_summary": SUMMARY, "endpoints": [ENDPOINT],
        "routes": [], "policy": POLICY, "discovery": {"kind": "static", "last_success": None, "problem": None},
        "history": {**rest, "in_flight": []}, **changed,
    }  # fmt: skip


def services(*entries: dict[str, Any], **changed: Any) -> dict[str, Any]:
    found = list(entries) or [service(), service("payment")]
    brief = {"result": "ok", "at": T0, "errors": 0, "warnings": 0}
    return {"generation": 3, "draining": False, "reload": brief, "services": found} | changed


def event(number: int, text: str = "breaker open", name: str | None = "venue") -> dict[str, Any]:
    head = {"id": number, "time": T0, "kind": "breaker", "service": name}
    return head | {"text": text, "level": "info", "fields": {}}


def reload_report(**changed: Any) -> dict[str, Any]:
    report = {"result": "ok", "at": T0, "trigger": "api", "generation": 4, "errors": [], "warnings": [], "changed": []}
    return report | changed


def explanation(**changed: Any) -> dict[str, Any]:
    return {
        "service": "venue", "route": "", "by": "path", "upstream_target": "/events/42", "problem": None,
        "policy": POLICY, "breaker": {**BREAKER_DETAIL, "route": "", "would": "admit"},
        "balancer": {
            "kind": "round_robin", "would_pick": "10.0.0.7:3002",
            "candidates": [{"address": "10.0.0.7:3002", "available": True, "why": "its turn"}],
        },
        "retry": None, "fallback": [], "deadline_s": 15.0, "words": ["The path names venue."],
    } | changed  # fmt: skip


def problem(status: int, reason: str, detail: str, **more: Any) -> dict[str, Any]:
    return {"type": "about:blank", "title": "Problem", "status": status, "detail": detail, "reason": reason} | more


class Refuse(Exception):
    """What a route raises to answer with a problem."""

    def __init__(self, status: int, reason: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.problem = problem(status, reason, detail, **more)


@dataclass
class Asked:
    """A request that the fake got; `body` is its JSON."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any = None


@dataclass
class FakeAdmin:
    """Answers from `answers`, by "METHOD /path": a value, or a function of the Asked one. Use as a context manager."""

    answers: dict[str, Any] = field(default_factory=dict)
    token: str | None = None
    stream: list[dict[str, Any]] = field(default_factory=list)
    """Events that it sends to whoever follows; then it ends the stream."""
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        usual: dict[str, Any] = {
            "GET /services": services(),
            "GET /services/venue": detail(),
            "GET /services/payment": detail("payment"),
            "GET /config": {"config": {}, "reload": reload_report()},
            "GET /events": {"events": [event(1), event(2, "breaker closed")]},
            "GET /explain": explanation(),
            "POST /services/venue/breaker": BREAKER_DETAIL | {"forced": "open", "forced_until": LATER},
            "POST /services/venue/endpoints/10.0.0.7:3002": ENDPOINT | {"drained": True, "forced_until": LATER},
            "POST /log": {"level": "debug", "access": "errors", "until": LATER},
            "POST /reload": reload_report(changed=["services.venue.timeout.attempt"]),
            "POST /drain": {"draining": True, "delay_s": 1.0, "timeout_s": 20.0},
        }
        self.answers = usual | self.answers

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeAdmin:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                fake.answer(self)

            def do_POST(self) -> None:
                fake.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """One request."""
        parts = urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(length)) if length else None
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        headers = {name.lower(): value for name, value in handler.headers.items()}
        asked = Asked(handler.command, unquote(parts.path), query, headers, body)
        self.asked.append(asked)
        if headers.get("accept") == "text/event-stream":
            self._send_stream(handler)
            return
        try:
            status, content = 200, self._content(asked)
        except Refuse as refused:
            status, content = refused.problem["status"], refused.problem
        kind = "application/json" if status < 300 else "application/problem+json"
        self._send(handler, status, kind, content if isinstance(content, bytes) else json.dumps(content).encode())

    def _content(self, asked: Asked) -> Any:
        if self.token is not None and asked.headers.get("authorization") != f"Bearer {self.token}":
            raise Refuse(401, "unauthorized", "a token is wanted")
        found = self.answers.get(f"{asked.method} {asked.path}")
        if found is None:
            raise Refuse(404, "not_found", "nothing has this name")
        found = found(asked) if callable(found) else found
        if isinstance(found, Exception):
            raise found
        return found

    def _send_stream(self, handler: BaseHTTPRequestHandler) -> None:
        lines = [": hello\n\n"]
        for one in self.stream:
            head = f"id: {one['id']}\nevent: {one['kind']}" if "id" in one else "event: lost"
            lines.append(f"{head}\ndata: {json.dumps(one)}\n\n")
        self._send(handler, 200, "text/event-stream", "".join(lines).encode())

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, status: int, kind: str, content: bytes) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)
