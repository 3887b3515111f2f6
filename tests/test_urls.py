"""tests/support/urls.py: asks past every proxy, and answers as it comes."""

from __future__ import annotations

import pytest

from tests.support.steps import answer
from tests.support.upstream import RefusedPort, Upstream
from tests.support.urls import opened


def test_no_proxy_stands_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Upstream(answer(200, b"here")) as upstream, opened(upstream.url + "/x") as answered:
        assert answered.read() == b"here"


def test_a_status_is_no_error_and_a_redirect_is_not_followed() -> None:
    for status in (302, 404, 503):
        with (
            Upstream(answer(status, headers=[("Location", "http://127.0.0.1:9/")])) as upstream,
            opened(upstream.url) as answered,
        ):
            assert answered.status == status


def test_where_nobody_answers_it_is_an_os_error() -> None:
    with RefusedPort() as dead, pytest.raises(OSError, match="refused"):
        opened(dead.url)
