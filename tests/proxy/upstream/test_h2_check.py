"""Health checks over HTTP/2: gRPC's protocol against a real grpcio server and against odd ones, and a GET."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamEnded
from h2.exceptions import ProtocolError

from sidecar.health.active import Checks
from sidecar.policy.settings import GrpcHealthSettings, HealthSettings
from sidecar.proxy.upstream.h2_check import _field_1, _request, ask
from tests.support.certificate import Authority
from tests.support.tls_upstream import TlsUpstream

SERVING, NOT_SERVING, SERVICE_UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"
GRPC = HealthSettings(grpc=GrpcHealthSettings())
HEAD = [(b":status", b"200"), (b"content-type", b"application/grpc")]


@dataclass
class Server:
    port: int
    address: str = "127.0.0.1"
    server_name: str = "venue-service"
    authority: bytes = b"venue-service:50051"
    h2: bool = True
    tls: bool = False


class Health(grpc.GenericRpcHandler):  # type: ignore[misc]
    """`grpc.health.v1.Health`, whose answers are bytes: by what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[bytes, bytes | grpc.StatusCode] = {b"": SERVING}
        self.metadata: dict[str, str] = {}

    def service(self, details: Any) -> Any:
        if details.method != "/grpc.health.v1.Health/Check" or not self.answers:
            return None
        self.metadata = dict(details.invocation_metadata)
        return grpc.unary_unary_rpc_method_handler(self.check)

    def check(self, request: bytes, context: Any) -> bytes:
        answer = self.answers.get(request, grpc.StatusCode.NOT_FOUND)
        if isinstance(answer, grpc.StatusCode):
            context.abort(answer, "as the test says")
            raise AssertionError
        return answer


@pytest.fixture(scope="module")
def grpc_server() -> Iterator[tuple[Health, int]]:
    health = Health()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[health])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield health, port
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("answers", "settings", "verdict"),
    [
        ({b"": SERVING}, GRPC, "ok"),
        ({b"": NOT_SERVING}, GRPC, "not_serving"),
        ({b"": b""}, GRPC, "not_serving"),
        ({b"": SERVICE_UNKNOWN}, GRPC, "service_unknown"),
        ({b"\x0a\x0dshop.v1.Venue": SERVING}, HealthSettings(grpc=GrpcHealthSettings(service="shop.v1.Venue")), "ok"),
        ({b"": SERVING}, HealthSettings(grpc=GrpcHealthSettings(service="shop.v1.Other")), "service_unknown"),
        ({}, GRPC, "no_health_service"),
        ({b"": grpc.StatusCode.UNAVAILABLE}, GRPC, "status UNAVAILABLE"),
        ({b"": b"\xff\xff"}, GRPC, "bad_response"),
    ],
)
async def test_what_a_grpcio_server_says(
    grpc_server: tuple[Health, int], answers: dict[bytes, bytes], settings: HealthSettings, verdict: str
) -> None:
    health, port = grpc_server
    health.answers = dict(answers)
    assert await ask(Server(port), settings, None) == verdict


async def test_the_request_has_what_a_server_may_want(grpc_server: tuple[Health, int]) -> None:
    health, port = grpc_server
    health.answers = {b"": SERVING}
    settings = HealthSettings(grpc=GrpcHealthSettings(), headers={"x-own": "yes"})
    assert await ask(Server(port), settings, None) == "ok"
    assert health.metadata["x-own"] == "yes"
    assert health.metadata["user-agent"].startswith("sidecar-health/")


Script = Callable[[H2Connection, int], None]


async def against(script: Script, settings: HealthSettings, *, raw: bytes = b"") -> str:
    """The verdict on a server that does as `script` says when it has the request; `raw` is sent before all else."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None, validate_outbound_headers=False))
        h2.initiate_connection()
        if not raw:
            writer.write(h2.data_to_send())
        with suppress(ProtocolError):  # the package takes nothing more after its own GOAWAY
            while data := await reader.read(65536):
                if raw:
                    writer.write(raw)
                    break
                for event in h2.receive_data(data):
                    if isinstance(event, RequestReceived):
                        asked.append(dict(event.headers))
                    if isinstance(event, StreamEnded) and event.stream_id is not None:
                        script(h2, event.stream_id)
                writer.write(h2.data_to_send())
        writer.close()
        await writer.wait_closed()
        over.set()

    over = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(5):
            verdict = await ask(Server(port), settings, None)
            await over.wait()
            return verdict
    finally:
        server.close()


asked: list[dict[bytes, bytes]] = []


def says(head: list[tuple[bytes, bytes]], data: bytes | None = None, trailers: Any = None) -> Script:
    def script(h2: H2Connection, stream: int) -> None:
        h2.send_headers(stream, head, end_stream=data is None and trailers is None)
        if data is not None:
            h2.send_data(stream, data, end_stream=trailers is None)
        if trailers is not None:
            h2.send_headers(stream, trailers, end_stream=True)

    return script


OK = [(b"grpc-status", b"0")]
MESSAGE = b"\x00\x00\x00\x00\x02" + SERVING


@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        (says(HEAD, MESSAGE, OK), "ok"),
        (says([*HEAD, (b"grpc-status", b"12")]), "no_health_service"),
        (says([(b":status", b"404")], b"what?"), "no_health_service"),
        (says([(b":status", b"503")]), "status UNAVAILABLE"),
        (says([*HEAD, (b"x-envoy-immediate-health-check-fail", b"")], MESSAGE, OK), "immediate_fail"),
        (says(HEAD, MESSAGE), "bad_response"),
        (says(HEAD, MESSAGE, [(b"x-no-status", b"1")]), "status UNKNOWN"),
        (says(HEAD, b"\x01" + MESSAGE[1:], OK), "bad_response"),
        (says(HEAD, MESSAGE[:-1], OK), "bad_response"),
        (says(HEAD, b"", OK), "bad_response"),
        (lambda h2, stream: h2.reset_stream(stream, 2), "reset"),
        (lambda h2, stream: h2.close_connection(last_stream_id=0), "reset"),
    ],
)
async def test_what_other_servers_say(script: Script, verdict: str) -> None:
    assert await against(script, GRPC) == verdict


@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        (says([(b":status", b"204")]), "ok"),
        (says([(b":status", b"200")], b"fine"), "ok"),
        (says([(b":status", b"200")], b"fine", [(b"x-checksum", b"1")]), "ok"),
        (says([(b":status", b"503")]), "status 503"),
        (says([(b":status", b"200"), (b"x-envoy-immediate-health-check-fail", b"")]), "immediate_fail"),
    ],
)
async def test_a_path_is_asked_with_get(script: Script, verdict: str) -> None:
    asked.clear()
    assert await against(script, HealthSettings(path="/healthz?full=1", headers={"Host": "other"})) == verdict
    assert (asked[0][b":method"], asked[0][b":path"], asked[0][b":authority"]) == (b"GET", b"/healthz?full=1", b"other")


async def test_a_server_of_http1_is_told_apart() -> None:
    assert await against(says([]), GRPC, raw=b"HTTP/1.1 400 Bad Request\r\n\r\n") == "reset"


async def test_nobody_listens() -> None:
    with pytest.raises(OSError, match="Connect"):
        await ask(Server(1), GRPC, None)


@pytest.mark.parametrize(
    ("message", "number"),
    [
        (b"", 0),
        (b"\x08\x01", 1),
        (b"\x12\x02hi\x08\x02", 2),
        (b"\x11" + bytes(8) + b"\x15" + bytes(4) + b"\x08\x03", 3),
        (b"\x08\x81\x01", 129),
        (b"\x10\x05", 0),
    ],
)
def test_the_number_of_a_message(message: bytes, number: int) -> None:
    assert _field_1(message) == number


@pytest.mark.parametrize("message", [b"\x08", b"\x0b", b"\x12\x05hi", b"\x08" + b"\xff" * 11, b"\x15\x00"])
def test_what_is_no_message(message: bytes) -> None:
    with pytest.raises(IndexError):
        _field_1(message)


def test_a_long_name_has_a_length_of_two_bytes() -> None:
    assert _request("a" * 200) == b"\x0a\xc8\x01" + b"a" * 200


def trusting(authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.trusted_by(context)
    context.set_alpn_protocols(["h2"])
    return context


async def test_over_tls() -> None:
    authority = Authority()
    issued = authority.issue("venue-service")
    server = grpc.server(ThreadPoolExecutor(2), handlers=[Health()])
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(issued.key, issued.chain)]))
    server.start()
    try:
        assert await ask(Server(port), GRPC, trusting(authority)) == "ok"
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(Server(port), GRPC, trusting(authority), "another-service")
    finally:
        await asyncio.to_thread(server.stop(None).wait)


async def test_over_tls_the_server_has_to_choose_http2() -> None:
    authority = Authority()
    server = TlsUpstream(authority.serving("venue-service"))
    assert await ask(Server(server.port), GRPC, trusting(authority)) == "bad_response"
    server.stop()


async def test_checks_ask_endpoints_of_http2_over_http2(grpc_server: tuple[Health, int]) -> None:
    health, port = grpc_server
    health.answers = {b"": NOT_SERVING}
    result = await Checks(over_h2=ask).check(Server(port), GRPC)
    assert (result.ok, result.reason) == (False, "not_serving")
