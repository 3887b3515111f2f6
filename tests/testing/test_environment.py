"""SIDECAR_URL for a test, and loopback without a proxy."""

from __future__ import annotations

import os
import urllib.request

import pytest

from sidecar.testing.environment import pointed_at

NAMES = ("SIDECAR_URL", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")
HERE = "http://127.0.0.1:15001"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def is_set() -> dict[str, str]:
    return {name: os.environ[name] for name in NAMES if name in os.environ}


@pytest.mark.parametrize("before", [{}, {"SIDECAR_URL": "http://before:1"}, {"NO_PROXY": "corp"}])
def test_without_a_proxy_the_url_alone_is_set(monkeypatch: pytest.MonkeyPatch, before: dict[str, str]) -> None:
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    with pointed_at(HERE):
        assert is_set() == {**before, "SIDECAR_URL": HERE}
    assert is_set() == before


@pytest.mark.parametrize(
    ("before", "no_proxy"),
    [
        ({"HTTP_PROXY": "http://proxy:1"}, "127.0.0.1,localhost"),
        ({"all_proxy": "http://proxy:1", "NO_PROXY": "corp, localhost"}, "corp,localhost,127.0.0.1"),
        ({"http_proxy": "http://proxy:1", "NO_PROXY": "big", "no_proxy": "small"}, "small,127.0.0.1,localhost"),
        ({"http_proxy": "http://proxy:1", "no_proxy": "*"}, "*"),
    ],
)
def test_with_one_loopback_goes_past_it(monkeypatch: pytest.MonkeyPatch, before: dict[str, str], no_proxy: str) -> None:
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    with pointed_at(HERE):
        assert is_set() == {**before, "SIDECAR_URL": HERE, "no_proxy": no_proxy, "NO_PROXY": no_proxy}
        assert urllib.request.proxy_bypass("127.0.0.1:15001")
        assert urllib.request.proxy_bypass("localhost:15001")
    assert is_set() == before


def test_it_is_as_before_after_a_test_that_failed() -> None:
    with pytest.raises(KeyError), pointed_at(HERE):
        raise KeyError
    assert is_set() == {}
