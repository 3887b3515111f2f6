"""Upstreams behind https: verified, and an end that nobody announced is no clean one."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.certificate import make_certificate
from tests.support.client import ask
from tests.support.daemon import Daemon
from tests.support.problem import assert_problem


class TlsUpstream:
    """Answers `/whole` by length, and all else until the connection's end: announced by close_notify for `/clean`."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _serve(self, accepted: socket.socket) -> None:
        accepted.settimeout(10)
        try:
            tls = self._context.wrap_socket(accepted, server_side=True)
        except (ssl.SSLError, OSError):
            accepted.close()
            return
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


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, TlsUpstream]]:
    context, authority = make_certificate(tmp_path_factory.mktemp("tls"))
    upstream = TlsUpstream(context)
    with pytest.MonkeyPatch.context() as patches:
        patches.setenv("SSL_CERT_FILE", str(authority))
        config = f"services: {{secure: {{url: 'https://127.0.0.1:{upstream.port}'}}}}\n"
        with Daemon(config) as daemon:
            yield daemon, upstream
    upstream.stop()


def test_calls_over_tls(served: tuple[Daemon, TlsUpstream]) -> None:
    daemon, _ = served
    for _ in range(3):
        response = ask(daemon.proxy_port, "GET", "/secure/whole")
        assert (response.status, response.body) == (200, b"hello")


def test_body_whose_end_is_announced_is_whole(served: tuple[Daemon, TlsUpstream]) -> None:
    daemon, _ = served
    response = ask(daemon.proxy_port, "GET", "/secure/clean")
    assert (response.status, response.body, response.end) == (200, b"hello", "whole")


def test_body_whose_end_is_not_announced_is_cut_for_the_app_too(served: tuple[Daemon, TlsUpstream]) -> None:
    """RFC 9112, section 9.8: anyone on the way can close a TCP connection."""
    daemon, _ = served
    response = ask(daemon.proxy_port, "GET", "/secure/cut")
    assert (response.status, response.body) == (200, b"hello")
    assert response.end != "whole"


def test_untrusted_certificate_is_a_connect_failure(tmp_path: Path) -> None:
    context, _ = make_certificate(tmp_path)
    upstream = TlsUpstream(context)
    with Daemon(f"services: {{secure: {{url: 'https://127.0.0.1:{upstream.port}'}}}}\n") as daemon:
        response = ask(daemon.proxy_port, "GET", "/secure/whole")
        assert "certificate" in assert_problem(response, 503, "connect_failure", "secure")["detail"]
    upstream.stop()
