"""The app of deploy/compose.yaml: it calls other services by name, at the sidecar beside it, and does nothing else.

Whatever is asked of it at port 8000 it asks the sidecar, and hands the answer back: `/venue/events/42` comes from the
service `venue`. It also calls both services a few times a second by itself, so that the dashboard shows something.
It has no addresses, no retries and no breaker: those are the sidecar's.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SIDECAR = ("localhost", 15001)
CALLS = (
    ("GET", "/venue/events/42"),
    ("GET", "/payment/cards"),
    ("GET", "/venue/events/7"),
    ("POST", "/payment/charges"),
)
PAUSE_S = 0.2
BROKEN = (OSError, http.client.HTTPException)


def call(method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """Status, the headers worth handing on, body."""
    connection = http.client.HTTPConnection(*SIDECAR, timeout=20)
    try:
        connection.request(method, path, body or None)
        answer = connection.getresponse()
        found = {name: answer.getheader(name) for name in ("Content-Type", "X-Sidecar-Reason", "Retry-After")}
        return answer.status, {name: value for name, value in found.items() if value}, answer.read()
    finally:
        connection.close()


class Handler(BaseHTTPRequestHandler):
    """One request of a user, one call of the app."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            status, headers, content = call(self.command, self.path, body)
        except BROKEN as error:
            status, headers = 502, {"Content-Type": "text/plain"}
            content = f"no answer from the sidecar: {error}\n".encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing: the sidecar logs what went wrong."""


def keep_calling() -> None:
    for method, path in itertools.cycle(CALLS):
        with contextlib.suppress(*BROKEN):  # the sidecar starts after the app, and ends before it
            call(method, path)
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    # The first process of a container has no default for SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    threading.Thread(target=keep_calling, daemon=True).start()
    server = ThreadingHTTPServer(("0.0.0.0", 8000), Handler)
    server.daemon_threads = True
    server.serve_forever()
