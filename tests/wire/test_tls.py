"""Upstreams behind https: verified, shown a certificate of ours where they want one, with files that change under way.
An end that nobody announced is no clean one."""

from __future__ import annotations

import json
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from sidecar.net.pem import ends_of
from tests.support.certificate import DAY, Authority, make_certificate, put
from tests.support.client import ask
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.problem import assert_problem
from tests.support.tls_upstream import TlsUpstream


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


# What `tls` of a service says.


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def service(upstream: TlsUpstream, tls: str, more: str = "") -> str:
    url = f"https://127.0.0.1:{upstream.port}"
    return f"{{url: '{url}', tls: {{{tls}}}, retry: {{max_retries: 0}}, outlier: off{more}}}"


def called(context: ssl.SSLContext, tls: str) -> str:
    """What an app hears of a service with this server and these settings: the status, or reason and words."""
    with TlsUpstream(context) as upstream, Daemon(f"services: {{secure: {service(upstream, tls)}}}\n") as daemon:
        response = ask(daemon.proxy_port, "GET", "/secure/whole")
        if response.status == 200:
            return "200"
        problem = json.loads(response.body)
        return f"{problem['reason']}: {problem['detail']}"


def test_what_is_trusted_and_by_which_name(authority: Authority, tmp_path: Path) -> None:
    trusting = f"ca_file: {put(tmp_path / 'ca.pem', authority.pem)}"
    stranger = f"ca_file: {put(tmp_path / 'stranger.pem', Authority().pem)}"
    untrusted = "the certificate is not trusted"
    named = authority.serving("venue.internal")
    cases = [
        (authority.serving(), trusting, "200"),
        (authority.serving(), stranger, f"{untrusted}: unable to get local issuer certificate"),
        (authority.serving(ends_in=-DAY), trusting, f"{untrusted}: certificate has expired"),
        (authority.serving("10.0.0.7"), trusting, f"{untrusted}: IP address mismatch"),
        (named, trusting, f"{untrusted}: IP address mismatch"),
        (named, f"{trusting}, server_name: venue.internal", "200"),
        (named, f"{trusting}, server_name: event.internal", f"{untrusted}: Hostname mismatch"),
        (authority.serving("10.0.0.7"), f"{trusting}, server_name: 10.0.0.7", "200"),
        (authority.serving("other", ends_in=-DAY), f"{stranger}, verify: off", "200"),
    ]
    for context, tls, outcome in cases:
        assert outcome in called(context, tls), (tls, outcome)


def test_the_name_is_sent_as_sni(authority: Authority, tmp_path: Path) -> None:
    asked: list[str | None] = []
    context = authority.serving("venue.internal", "127.0.0.1")
    context.sni_callback = lambda _, name, __: asked.append(name)
    trusting = f"ca_file: {put(tmp_path / 'ca.pem', authority.pem)}"
    assert called(context, trusting) == "200"
    assert called(context, f"{trusting}, server_name: venue.internal") == "200"
    assert asked == [None, "venue.internal"], "an IP address is no SNI (RFC 6066, section 3)"


def test_the_lowest_version(authority: Authority, tmp_path: Path) -> None:
    trusting = f"ca_file: {put(tmp_path / 'ca.pem', authority.pem)}"
    old, new = authority.serving(), authority.serving()
    old.maximum_version, new.minimum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    assert called(old, f"{trusting}, min_version: 1.2") == "200"
    assert called(new, f"{trusting}, min_version: 1.3") == "200"
    assert called(old, f"{trusting}, min_version: 1.3").startswith("connect_failure: ")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_a_client_certificate_that_is_demanded(authority: Authority, tmp_path: Path, version: ssl.TLSVersion) -> None:
    clients = Authority()
    demanding = authority.serving(clients=clients)
    demanding.minimum_version = demanding.maximum_version = version
    trusting = f"ca_file: {put(tmp_path / 'ca.pem', authority.pem)}"
    cert, key = clients.issue("app").write(tmp_path)
    assert called(demanding, f"{trusting}, cert_file: {cert}, key_file: {key}") == "200"
    # With TLS 1.3 the client's part of the handshake is over, and the request sent, when the service looks at it.
    reason = "connect_failure" if version == ssl.TLSVersion.TLSv1_2 else "reset"
    cert, key = Authority().issue("app").write(tmp_path)
    for more in ("", f", cert_file: {cert}, key_file: {key}"):
        refused = called(demanding, trusting + more)
        assert refused.startswith(f"{reason}: 127.0.0.1:")
        assert "the service refused TLS: " in refused
        assert refused.endswith("(which client certificate it gets is tls.cert_file)")


def test_health_checks_and_checks_use_them_too(authority: Authority, tmp_path: Path) -> None:
    clients = Authority()
    cert, key = clients.issue("app").write(tmp_path)
    ca = put(tmp_path / "ca.pem", authority.pem)
    tls = f"ca_file: {ca}, server_name: venue.internal, cert_file: {cert}, key_file: {key}"
    check = "health: {path: /whole, interval: 50ms}"
    with TlsUpstream(authority.serving("venue.internal", clients=clients)) as upstream:
        url = f"https://127.0.0.1:{upstream.port}"
        config = (
            f"services:\n  good: {service(upstream, tls, f', {check}')}\n  bad: {service(upstream, '', f', {check}')}\n"
            f"checks:\n  good: {{url: '{url}/whole', tls: {{{tls}}}}}\n  bad: {{url: '{url}/whole'}}\n"
        )
        with Daemon(config) as daemon:
            eventually(lambda: daemon.metric("sidecar_endpoint_healthy", service="bad") == 0)
            assert daemon.metric("sidecar_endpoint_healthy", service="good") == 1
            report = json.loads(daemon.probe("/health").body)
            assert [report["checks"][name]["status"] for name in ("good", "bad")] == ["healthy", "unhealthy"]
            assert [report["services"][name]["status"] for name in ("good", "bad")] == ["healthy", "unhealthy"]


# Files that change while requests are sent.


class Traffic:
    """An app that calls without pause, on connections to the service that live 100 ms."""

    def __init__(self, daemon: Daemon) -> None:
        self.statuses: list[int] = []
        self._daemon = daemon
        self._ended = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            self.statuses.append(ask(self._daemon.proxy_port, "GET", "/secure/whole").status)

    def more(self, count: int = 50) -> None:
        """Wait until that many more have been answered."""
        wanted = len(self.statuses) + count
        eventually(lambda: len(self.statuses) >= wanted)

    def end(self) -> None:
        self._ended.set()
        self._thread.join(10)


YOUNG = ", limits: {max_connection_age: 100ms}"


def read_again(daemon: Daemon, times: int) -> None:
    def seen() -> bool:
        lines = daemon.log_lines()
        return len([one for one in lines if one["event"] == "TLS files were read again"]) >= times

    eventually(seen)


def test_a_ca_and_a_client_certificate_are_rotated_and_no_request_fails(tmp_path: Path) -> None:
    old, new, clients = Authority(), Authority(), Authority()
    ca = put(tmp_path / "ca.pem", old.pem)
    cert, key = clients.issue("app").write(tmp_path)
    with TlsUpstream(old.serving(clients=clients)) as upstream:
        tls = f"ca_file: {ca}, cert_file: {cert}, key_file: {key}"
        with Daemon(f"services: {{secure: {service(upstream, tls, YOUNG)}}}\n") as daemon:
            traffic = Traffic(daemon)
            traffic.more()
            put(ca, old.pem + new.pem)
            read_again(daemon, 1)
            upstream.context = new.serving(clients=clients)
            traffic.more()
            clients.issue("app").write(tmp_path)
            read_again(daemon, 2)
            put(ca, new.pem)
            read_again(daemon, 3)
            traffic.more()
            put(ca, old.pem[:200])
            rejected = "sidecar_tls_files_rejected"
            eventually(lambda: daemon.metric(rejected, service="secure") == 1)
            traffic.more()
            traffic.end()
            assert set(traffic.statuses) == {200}
            assert upstream.accepted > 5, "connections were opened all the time"
            (warned,) = [line for line in daemon.log_lines() if "cannot be used" in line["event"]]
            assert warned["detail"] == f"tls.ca_file {ca} is cut short: its last certificate has no end"
            assert warned["level"] == "warning"


def test_the_bundle_of_the_environment_changes_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = Authority(), Authority()
    bundle = put(tmp_path / "bundle.pem", old.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    check = ", health: {path: /whole, interval: 50ms}"
    with TlsUpstream(old.serving()) as upstream:
        config = (
            f"services: {{secure: {service(upstream, '', YOUNG + check)}}}\n"
            f"checks: {{secure: {{url: 'https://127.0.0.1:{upstream.port}/whole'}}}}\n"
        )
        with Daemon(config) as daemon:
            assert ask(daemon.proxy_port, "GET", "/secure/whole").status == 200
            upstream.context = new.serving()
            put(bundle, new.pem)
            read_again(daemon, 1)
            eventually(lambda: daemon.metric("sidecar_endpoint_healthy", service="secure") == 1)
            eventually(lambda: ask(daemon.proxy_port, "GET", "/secure/whole").status == 200)
            assert json.loads(daemon.probe("/health").body)["checks"]["secure"]["status"] == "healthy"


def test_a_file_that_comes_after_the_start(authority: Authority, tmp_path: Path) -> None:
    with TlsUpstream(authority.serving()) as upstream:
        tls = f"ca_file: {tmp_path / 'late.pem'}"
        with Daemon(f"services: {{secure: {service(upstream, tls, ', breaker: {mode: off}')}}}\n") as daemon:
            problem = assert_problem(ask(daemon.proxy_port, "GET", "/secure/whole"), 503, "connect_failure", "secure")
            assert f"tls.ca_file {tmp_path}/late.pem cannot be read: no such file or directory" in problem["detail"]
            put(tmp_path / "late.pem", authority.pem)
            eventually(lambda: ask(daemon.proxy_port, "GET", "/secure/whole").status == 200)


def test_a_reload_with_other_settings_uses_no_connection_from_before(authority: Authority, tmp_path: Path) -> None:
    ca, stranger = put(tmp_path / "ca.pem", authority.pem), put(tmp_path / "stranger.pem", Authority().pem)
    with TlsUpstream(authority.serving()) as upstream:

        def config(path: Path) -> str:
            return f"services: {{secure: {service(upstream, f'ca_file: {path}')}}}\n"

        with Daemon(config(ca)) as daemon:
            assert ask(daemon.proxy_port, "GET", "/secure/whole").status == 200
            daemon.path.write_text(daemon.ports.yaml + config(stranger))
            eventually(lambda: daemon.metric("sidecar_config_generation") == 2)
            assert_problem(ask(daemon.proxy_port, "GET", "/secure/whole"), 503, "connect_failure", "secure")


# What operators are told.


def test_ends_are_in_metrics_and_warned_of_once_and_verification_that_is_off_at_each_start(
    authority: Authority, tmp_path: Path
) -> None:
    clients = Authority()
    leaf = clients.issue("app", ends_in=3 * DAY)
    cert, key = leaf.write(tmp_path)
    with TlsUpstream(authority.serving(clients=clients)) as upstream:
        text = service(upstream, f"verify: off, cert_file: {cert}, key_file: {key}")
        with Daemon(f"services: {{secure: {text}}}\n") as daemon:
            name = "sidecar_tls_certificate_expiration_timestamp_seconds"
            assert daemon.metric(name, service="secure", kind="client") == ends_of(leaf.chain)[0]

            def lines(word: str) -> list[str]:
                return [line["event"] for line in daemon.log_lines() if word in json.dumps(line)]

            eventually(lambda: lines("ends within"))
            daemon.signal(signal.SIGHUP)
            eventually(lambda: len(lines("tls.verify")) == 2)
            assert lines("ends within") == ["the client certificate ends within 3 days"]
            assert leaf.key.splitlines()[1].decode() not in daemon.log
