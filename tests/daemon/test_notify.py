"""What a service manager is told, on a socket as systemd's."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import pytest

from sidecar.daemon.notify import notify
from tests.support.daemon import Daemon

CONFIG = "services: {venue: {url: 'http://127.0.0.1:1'}}\ndrain: {delay: 0s, timeout: 1s}\n"


def manager(address: str) -> socket.socket:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.settimeout(60)
    receiver.bind(address)
    return receiver


def test_it_is_told_on_the_socket_that_the_variable_names(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with manager(address) as receiver:
        notify("READY=1", {"NOTIFY_SOCKET": address})
        assert receiver.recv(64) == b"READY=1"


def test_an_abstract_address_begins_with_an_at_sign() -> None:
    name = f"sidecar-test-{os.getpid()}"
    with manager(f"\0{name}") as receiver:
        notify("STOPPING=1", {"NOTIFY_SOCKET": f"@{name}"})
        assert receiver.recv(64) == b"STOPPING=1"


def test_nobody_is_told_without_the_variable(caplog: pytest.LogCaptureFixture) -> None:
    notify("READY=1", {})
    notify("READY=1", {"NOTIFY_SOCKET": ""})
    assert not caplog.records


def test_a_manager_that_is_gone_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "sidecar.daemon"):
        notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "gone")})
    assert [record.message for record in caplog.records] == ["the service manager could not be notified of READY=1"]


def test_the_daemon_says_ready_when_it_is_and_stopping_when_it_drains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with manager(address) as receiver, Daemon(CONFIG, wait_ready=False) as daemon:
        assert receiver.recv(64) == b"READY=1"
        assert daemon.probe("/readyz").status == 200
        daemon.process.terminate()
        assert receiver.recv(64) == b"STOPPING=1"
        assert daemon.process.wait(10) == 0
