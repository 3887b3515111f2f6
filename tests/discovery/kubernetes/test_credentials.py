"""Kubernetes credentials: server, token and CA, of a pod and configured, and their changes."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from sidecar.discovery.kubernetes.credentials import Credentials
from sidecar.discovery.kubernetes.problem import Problem
from sidecar.policy.settings import KubernetesSettings
from tests.support.certificate import make_certificate

POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def account(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "namespace").write_text("shop")
    return tmp_path


def of_pod(account: Path, environ: dict[str, str] = POD, clock: Clock | None = None, **settings: Any) -> Credentials:
    settings = {"service": "venue"} | settings
    return Credentials(KubernetesSettings(**settings), environ=environ, account=account, clock=clock or Clock())


def rotate(path: Path, text: str) -> None:
    """As kubelet does it: another file under the same name."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    os.replace(fresh, path)


def test_a_pod_has_all_it_needs(account: Path) -> None:
    credentials = of_pod(account)
    assert credentials.server == "https://10.96.0.1:443"
    assert credentials.token() == "first"
    assert credentials.namespace() == "shop"


def test_a_server_by_ipv6_is_bracketed(account: Path) -> None:
    assert of_pod(account, {"KUBERNETES_SERVICE_HOST": "fd00::1"}).server == "https://[fd00::1]:443"


def test_outside_of_a_pod_the_message_names_the_options(account: Path) -> None:
    with pytest.raises(Problem, match=r"KUBERNETES_SERVICE_HOST is not set.*server, token_file and ca_file"):
        _ = of_pod(account, {}).server


def test_a_configured_server_never_gets_the_token_of_the_pod(account: Path) -> None:
    credentials = of_pod(account, server="https://api.example.org/k8s/clusters/c-1/")
    assert credentials.server == "https://api.example.org/k8s/clusters/c-1"
    assert credentials.token() is None
    assert credentials.namespace() == "default"
    assert not credentials.token_was_refused()


def test_a_configured_token(account: Path) -> None:
    mine = account / "mine"
    mine.write_text("by-hand")
    assert of_pod(account, server="https://api.example.org", token_file=str(mine)).token() == "by-hand"
    assert of_pod(account, token_file=str(mine)).token() == "by-hand"


def test_a_rotated_token_is_seen_within_a_second(account: Path) -> None:
    clock = Clock()
    credentials = of_pod(account, clock=clock)
    assert credentials.token() == "first"
    rotate(account / "token", "second")
    clock.now += 0.99
    assert credentials.token() == "first"
    clock.now += 0.01
    assert credentials.token() == "second"


def test_after_a_refused_token_the_file_is_read_at_once(account: Path) -> None:
    credentials = of_pod(account)
    assert credentials.token() == "first"
    assert not credentials.token_was_refused()
    rotate(account / "token", "second")
    assert credentials.token_was_refused()
    assert credentials.token() == "second"


def test_an_unreadable_token_file_keeps_the_old_token_until_it_is_refused(account: Path) -> None:
    clock = Clock()
    credentials = of_pod(account, clock=clock)
    credentials.token()
    (account / "token").unlink()
    clock.now += 5
    assert credentials.token() == "first"
    with pytest.raises(Problem, match="token cannot be read: No such file"):
        credentials.token_was_refused()


def test_a_missing_token_file_is_read_again_each_time(account: Path) -> None:
    (account / "token").unlink()
    credentials = of_pod(account)
    with pytest.raises(Problem, match="cannot be read"):
        credentials.token()
    rotate(account / "token", "late")
    assert credentials.token() == "late"


@pytest.mark.parametrize("text", ["", " \n", "two words", "line\nbreak", "h\u00e9", "a\x00b"])
def test_an_invalid_token_is_never_sent(account: Path, text: str) -> None:
    (account / "token").write_text(text)
    with pytest.raises(Problem, match="contains no token") as raised:
        of_pod(account).token()
    assert text.strip() == "" or text not in str(raised.value)


def test_a_token_file_that_is_not_text(account: Path) -> None:
    (account / "token").write_bytes(b"\xff\xfe")
    with pytest.raises(Problem, match="contains no token"):
        of_pod(account).token()


@pytest.mark.parametrize(
    ("server", "may"),
    [
        ("http://127.0.0.1:8001", True),
        ("http://[::1]:8001", True),
        ("http://localhost:8001", True),
        ("https://10.0.0.1", True),
        ("http://10.0.0.1", False),
        ("http://api.example.org", False),
    ],
)
def test_a_token_is_sent_in_plain_text_only_over_loopback(account: Path, server: str, may: bool) -> None:
    credentials = of_pod(account, server=server, token_file=str(account / "token"))
    if may:
        assert credentials.token() == "first"
    else:
        with pytest.raises(Problem, match="in plain text"):
            credentials.token()


def test_without_a_namespace_file_it_is_the_default_one(account: Path) -> None:
    (account / "namespace").unlink()
    assert of_pod(account).namespace() == "default"


def test_the_tls_context_is_rebuilt_only_when_the_ca_changes(account: Path) -> None:
    _, ca = make_certificate(account)
    rotate(account / "ca.crt", ca.read_text())
    clock = Clock()
    credentials = of_pod(account, clock=clock)
    first = credentials.tls()
    assert first is not None
    assert first.verify_mode == ssl.CERT_REQUIRED
    assert first.check_hostname
    assert not first.verify_flags & ssl.VERIFY_X509_STRICT
    assert len(first.get_ca_certs()) == 1
    clock.now += 2
    assert credentials.tls() is first
    make_certificate(account)
    rotate(account / "ca.crt", ca.read_text())
    clock.now += 2
    second = credentials.tls()
    assert second is not first
    rotate(account / "ca.crt", "garbage")
    clock.now += 2
    with pytest.raises(Problem, match="no CA certificate"):
        credentials.tls()


def test_plain_http_has_no_tls_and_a_configured_server_trusts_the_system(account: Path) -> None:
    assert of_pod(account, server="http://127.0.0.1:8001").tls() is None
    assert of_pod(account, server="https://api.example.org").tls() is not None


@pytest.mark.parametrize("text", ["", "not a certificate", "h\u00e9"])
def test_an_invalid_ca_file(account: Path, text: str) -> None:
    (account / "ca.crt").write_text(text)
    with pytest.raises(Problem, match="contains no CA certificate"):
        of_pod(account).tls()
