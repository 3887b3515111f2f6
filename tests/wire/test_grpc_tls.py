"""gRPC to services behind TLS: a private CA, another name, a client certificate; calls and health checks, and renewal.

The server is grpcio's, in this process; the daemon is a real one.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.certificate import Authority, put
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.tls_upstream import TlsUpstream

NAME = "shop.internal"


class Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """An echo, and a health check that passes."""

    def service(self, details: Any) -> Any:
        if details.method == "/grpc.health.v1.Health/Check":
            return grpc.unary_unary_rpc_method_handler(lambda _, __: b"\x08\x01")
        return grpc.unary_unary_rpc_method_handler(lambda request, _: request)


@contextmanager
def serving(authority: Authority, clients: Authority) -> Iterator[int]:
    """The port of a server that is `shop.internal` and demands certificates of its clients."""
    issued = authority.issue(NAME)
    credentials = grpc.ssl_server_credentials([(issued.key, issued.chain)], clients.pem, require_client_auth=True)
    server = grpc.server(ThreadPoolExecutor(2), handlers=[Handlers()])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def configuration(port: int, tls: str) -> str:
    return (
        f"services:\n  shop:\n    url: https://127.0.0.1:{port}\n    protocol: h2\n    grpc: [test.*]\n"
        f"    tls: {{{tls}}}\n    health: {{grpc: {{service: ''}}, interval: 50ms, idle_interval: 50ms}}\n"
        "    outlier: off\n    breaker: {mode: off}\n    limits: {max_connection_age: 100ms}\n"
    )


def call(daemon: Daemon) -> tuple[grpc.StatusCode, str]:
    with grpc.insecure_channel(f"127.0.0.1:{daemon.proxy_port}") as channel:
        try:
            echo = channel.unary_unary("/test.Echo/Unary")
            answer = echo(b"hello", timeout=10)
        except grpc.RpcError as error:
            return error.code(), error.details()
        return grpc.StatusCode.OK, answer.decode()


@pytest.fixture(scope="module")
def authorities() -> tuple[Authority, Authority]:
    """Of the service, and of its clients."""
    return Authority(), Authority()


def test_calls_and_health_checks_with_a_client_certificate_that_is_renewed(
    authorities: tuple[Authority, Authority], tmp_path: Path
) -> None:
    own, clients = authorities
    ca = put(tmp_path / "ca.pem", own.pem)
    cert, key = clients.issue("app").write(tmp_path)
    tls = f"ca_file: {ca}, server_name: {NAME}, cert_file: {cert}, key_file: {key}"
    with serving(own, clients) as port, Daemon(configuration(port, tls)) as daemon:
        assert call(daemon) == (grpc.StatusCode.OK, "hello")
        eventually(lambda: daemon.metric("sidecar_health_checks_total", service="shop") >= 3)
        assert daemon.metric("sidecar_endpoint_healthy", service="shop") == 1
        clients.issue("app").write(tmp_path)

        def read_again() -> bool:
            assert call(daemon) == (grpc.StatusCode.OK, "hello")
            return any(line["event"] == "TLS files were read again" for line in daemon.log_lines())

        eventually(read_again)
        assert call(daemon) == (grpc.StatusCode.OK, "hello")
        assert daemon.metric("sidecar_endpoint_healthy", service="shop") == 1


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        ("ca_file: {ca}", "the certificate is not trusted: IP address mismatch"),
        (f"server_name: {NAME}", "the certificate is not trusted: unable to get local issuer certificate"),
    ],
    ids=["name", "CA"],
)
def test_a_service_that_is_not_trusted(
    authorities: tuple[Authority, Authority], tmp_path: Path, tls: str, words: str
) -> None:
    own, clients = authorities
    ca = put(tmp_path / "ca.pem", own.pem)
    with serving(own, clients) as port, Daemon(configuration(port, tls.format(ca=ca))) as daemon:
        code, details = call(daemon)
        assert code == grpc.StatusCode.UNAVAILABLE
        assert words in details
        eventually(lambda: daemon.metric("sidecar_endpoint_healthy", service="shop") == 0)


def test_a_service_that_wants_a_certificate_and_gets_none(
    authorities: tuple[Authority, Authority], tmp_path: Path
) -> None:
    """With TLS 1.3 it says so after the handshake. (grpcio's own server closes without a word.)"""
    own, clients = authorities
    tls = f"ca_file: {put(tmp_path / 'ca.pem', own.pem)}, server_name: {NAME}"
    context = own.serving(NAME, clients=clients)
    context.set_alpn_protocols(["h2"])
    with TlsUpstream(context) as upstream, Daemon(configuration(upstream.port, tls)) as daemon:
        code, details = call(daemon)
        assert code == grpc.StatusCode.UNAVAILABLE
        assert "the service refused TLS: certificate required" in details
        eventually(lambda: daemon.metric("sidecar_endpoint_healthy", service="shop") == 0)
