"""A service behind https, which runs in threads."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from types import TracebackType


class TlsUpstream:
    """Answers `/whole` by length, and all else until the connection's end: announced by close_notify for `/clean`.

    `context` may be replaced: new connections get the new one.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.accepted = 0
        """Connections so far."""
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _serve(self, accepted: socket.socket) -> None:
        accepted.settimeout(10)
        raw = accepted.dup()  # `wrap_socket` closes the other one if it fails
        raw.settimeout(10)
        try:
            tls = self.context.wrap_socket(accepted, server_side=True)
        except (ssl.SSLError, OSError):
            # The alert gets through for sure only if nothing is left unread when the connection closes.
            with raw, suppress(OSError):
                while raw.recv(65536):
                    pass
            return
        raw.close()
        with tls, suppress(OSError):
            self._answer(tls)

    def _answer(self, tls: ssl.SSLSocket) -> None:
        while head := tls.recv(65536):
            if head.startswith(b"GET /whole"):
                tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
                continue
            tls.sendall(b"HTTP/1.1 200 OK\r\n\r\nhello")
            if head.startswith(b"GET /clean"):
                tls.unwrap()
            return  # without a word: FIN alone

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __enter__(self) -> TlsUpstream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
