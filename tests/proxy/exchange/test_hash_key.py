"""What a hash balancer goes by, wherever the configuration says that it stands."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.policy.settings import HashSettings
from sidecar.proxy.exchange.hash_key import hash_key
from sidecar.proxy.http1.request_head import parse_request


class App:
    """The app's connection, as far as it matters here."""

    def __init__(self, peer: str | None = "127.0.0.1") -> None:
        self._peer = peer

    def peer(self) -> str | None:
        return self._peer


def key(settings: HashSettings, target: str = "/", *fields: str, app: Any = None) -> bytes | None:
    lines = [f"GET {target} HTTP/1.1", "Host: venue", *fields, "", ""]
    return hash_key(settings, parse_request("\r\n".join(lines).encode("latin-1")), app or App())


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        (["X-User: ann"], b"ann"),
        (["x-user:ann "], b"ann"),
        (["X-User: ann", "X-Other: x", "X-USER: bob"], b"ann,bob"),
        (["X-User:"], None),
        (["X-Users: ann"], None),
        ([], None),
        (["X-User: caf\xe9"], b"caf\xe9"),
    ],
)
def test_a_header(fields: list[str], found: bytes | None) -> None:
    assert key(HashSettings(header="X-User"), "/", *fields) == found


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        (["Cookie: sid=1"], b"1"),
        (["Cookie: a=2; sid=1;b=3"], b"1"),
        (["Cookie: a=2", "Cookie: sid=1"], b"1"),
        (["Cookie: sid=a=b"], b"a=b"),
        (["Cookie: sid="], None),
        (["Cookie: sid"], None),
        (["Cookie: xsid=1"], None),
        ([], None),
    ],
)
def test_a_cookie(fields: list[str], found: bytes | None) -> None:
    assert key(HashSettings(cookie="sid"), "/", *fields) == found


@pytest.mark.parametrize(
    ("target", "found"),
    [("/?user=1", b"1"), ("/x?a=2&user=1&user=3", b"1"), ("/?user=", None), ("/?users=1", None), ("/user=1", None)],
)
def test_a_parameter_of_the_query(target: str, found: bytes | None) -> None:
    assert key(HashSettings(query="user"), target) == found


def test_the_app_s_address() -> None:
    assert key(HashSettings(source=True)) == b"127.0.0.1"
    assert key(HashSettings(source=True), app=App(None)) is None
