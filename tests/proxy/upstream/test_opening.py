"""Opening a connection: what it tells, when, and that nothing is left of one that is given up."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

import pytest
import uvloop

from sidecar.config.schema import EndpointSpec, Url
from sidecar.policy.settings import TlsSettings
from sidecar.proxy.upstream.opening import CANCELLED, Opening, Openings, words
from sidecar.runtime.endpoint import Endpoint
from tests.proxy.fakes import Dial, ManualLoop, Wire


class Protocol:
    """Hears of the connection."""

    def __init__(self) -> None:
        self.transport: Any = None

    def connection_made(self, transport: object) -> None:
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None: ...


class Opener:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.heard = asyncio.Event()

    def opening_ended(self, opening: Opening, reason: str, detail: str) -> None:
        self.told.append((reason, detail))
        self.heard.set()


def endpoint(port: int = 3002) -> Endpoint:
    return Endpoint(EndpointSpec(url=Url("http", "127.0.0.1", port)), "127.0.0.1")


class Bench:
    def __init__(self, network: Callable[[Dial], None] = Dial.hang) -> None:
        self.loop = ManualLoop()
        self.loop.network = network
        self.openings = Openings(cast("Any", self.loop))
        self.opener, self.protocol = Opener(), Protocol()
        self.opening = Opening(self.openings, self.opener, self.protocol, 1.0)
        self.opening.begin(endpoint(), TlsSettings())
        (self.dial,) = self.loop.dials


@pytest.mark.parametrize(
    ("network", "told"),
    [(Dial.accept, ("", "")), (Dial.refuse, ("connect_failure", "connection refused"))],
)
def test_what_is_known_at_once_is_told_later(network: Callable[[Dial], None], told: tuple[str, str]) -> None:
    bench = Bench(network)
    assert bench.opener.told == []
    bench.loop.settle()
    assert bench.opener.told == [told]
    assert len(bench.openings) == 0
    bench.loop.advance(10.0)
    assert bench.opener.told == [told]


@pytest.mark.parametrize(
    ("end", "told"),
    [(Dial.accept, ("", "")), (Dial.refuse, ("connect_failure", "connection refused"))],
)
def test_what_takes_a_while(end: Callable[[Dial], None], told: tuple[str, str]) -> None:
    bench = Bench()
    bench.loop.advance(0.99)
    assert (bench.opener.told, len(bench.openings)) == ([], 1)
    end(bench.dial)
    bench.loop.advance(10.0)
    assert (bench.opener.told, len(bench.openings)) == ([told], 0)
    assert not bench.dial.cancelled


def test_its_time_is_over() -> None:
    bench = Bench()
    bench.loop.advance(1.01)
    assert bench.opener.told == [("connect_timeout", "no connection within 1 s")]
    assert bench.dial.cancelled
    assert len(bench.openings) == 0


def test_its_time_is_over_just_as_the_connection_came_up() -> None:
    bench = Bench()
    bench.dial.come_up()
    bench.loop.advance(1.01)
    assert [reason for reason, _ in bench.opener.told] == ["connect_timeout"]
    assert isinstance(bench.protocol.transport, Wire)
    assert not bench.protocol.transport.open


@pytest.mark.parametrize("network", [Dial.hang, Dial.accept, Dial.refuse])
def test_all_are_cancelled_at_the_end_of_the_proxy(network: Callable[[Dial], None]) -> None:
    bench = Bench(network)
    bench.openings.close()
    bench.loop.settle()
    assert bench.opener.told == [(CANCELLED, "")]
    assert len(bench.openings) == 0
    bench.opening.cancel()
    assert bench.opener.told == [(CANCELLED, "")]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), ("connect_failure", "connection refused")),
        (OSError(errno.EHOSTUNREACH, "x"), ("connect_failure", "no route to host")),
        (OSError("odd"), ("connect_failure", "connection failed")),
        (OSError(errno.EMFILE, "x"), ("overloaded", "too many open files")),
        (OSError(errno.EADDRNOTAVAIL, "x"), ("overloaded", "cannot assign requested address")),
        (UnicodeError("label too long"), ("connect_failure", "the connection could not be opened: label too long")),
    ],
)
def test_failures_in_words(error: Exception, told: tuple[str, str]) -> None:
    assert words(error) == told


CERTIFICATE = " (which client certificate it gets is tls.cert_file)"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("WRONG_VERSION_NUMBER", "TLS failed: WRONG_VERSION_NUMBER"),
        (None, "TLS failed: no shared protocol"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "the service refused TLS: protocol version"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", f"the service refused TLS: handshake failure{CERTIFICATE}"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", f"the service refused TLS: certificate required{CERTIFICATE}"),
        ("TLSV1_ALERT_UNKNOWN_CA", f"the service refused TLS: unknown ca{CERTIFICATE}"),
    ],
)
def test_tls_that_failed(reason: str | None, told: str) -> None:
    error = ssl.SSLError(1, "it failed")
    error.reason = reason  # type: ignore[assignment]
    assert words(error) == ("connect_failure", told)


def test_a_certificate_that_is_not_trusted() -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_message = "self-signed certificate"
    assert words(error) == ("connect_failure", "the certificate is not trusted: self-signed certificate")


def test_what_nobody_expects_is_a_failure_too_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def break_off(dial: Dial) -> None:
        dial.outcome.set_exception(UnicodeError("label too long"))

    bench = Bench(break_off)
    bench.loop.settle()
    assert [reason for reason, _ in bench.opener.told] == ["connect_failure"]
    assert "label too long" in caplog.text


def test_certificate_files_that_are_no_good_end_it_later() -> None:
    loop, opener = ManualLoop(), Opener()
    openings = Openings(cast("Any", loop))
    safe = Endpoint(EndpointSpec(url=Url("https", "127.0.0.1", 1)), "127.0.0.1")
    Opening(openings, opener, Protocol(), 1.0).begin(safe, TlsSettings(ca_file="/nowhere/ca.pem"))
    assert opener.told == []
    assert len(openings) == 1
    loop.settle()
    problem = "tls.ca_file /nowhere/ca.pem cannot be read: no such file or directory"
    assert opener.told == [("connect_failure", problem)]
    assert (len(openings), loop.dials) == (0, [])


# On the event loop of the daemon.


def on_uvloop(scene: Callable[[Openings], Any]) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        unexpected: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: unexpected.append(context))
        openings = Openings(loop)
        await scene(openings)
        assert len(openings) == 0
        assert unexpected == []

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def told(opener: Opener) -> tuple[str, str]:
    await opener.heard.wait()
    (found,) = opener.told
    return found


def test_a_real_connection() -> None:
    async def scene(openings: Openings) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            opener, protocol = Opener(), Protocol()
            Opening(openings, opener, protocol, 5.0).begin(endpoint(server.getsockname()[1]), TlsSettings())
            assert await told(opener) == ("", "")
            with server.accept()[0] as accepted:
                protocol.transport.write(b"hello")
                assert accepted.recv(5) == b"hello"
            protocol.transport.abort()

    on_uvloop(scene)


def test_a_real_refusal() -> None:
    async def scene(openings: Openings) -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            opener = Opener()
            Opening(openings, opener, Protocol(), 5.0).begin(endpoint(bound.getsockname()[1]), TlsSettings())
            assert await told(opener) == ("connect_failure", "connection refused")

    on_uvloop(scene)


def test_a_real_connection_that_is_cancelled_at_once() -> None:
    async def scene(openings: Openings) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            opener = Opener()
            Opening(openings, opener, Protocol(), 5.0).begin(endpoint(server.getsockname()[1]), TlsSettings())
            openings.close()
            assert opener.told == [(CANCELLED, "")]
            server.settimeout(5.0)
            with server.accept()[0] as accepted:
                await asyncio.sleep(0.01)
                accepted.settimeout(5.0)
                assert accepted.recv(1) == b""

    on_uvloop(scene)
