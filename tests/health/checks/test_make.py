"""Which scheme has which check; redis-py is imported for Redis only."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sidecar.config.check_urls import parse_check_url
from sidecar.config.schema import HealthCheck
from sidecar.health.active import Checks
from sidecar.health.checks.make import make_checks, needs_redis
from tests.support.upstream import RefusedPort


@pytest.mark.parametrize(
    ("url", "needed"),
    [("redis://a", True), ("rediss://a", True), ("tcp://a:1", False), ("http://a", False), ("https://a", False)],
)
def test_what_needs_the_extra(url: str, needed: bool) -> None:
    assert needs_redis(HealthCheck(url=parse_check_url(url))) is needed


async def test_each_scheme_has_its_check() -> None:
    checks = Checks()
    with RefusedPort() as dead:
        configured = {
            scheme: HealthCheck(
                url=parse_check_url(f"{scheme}://{dead.authority}"), required=scheme == "tcp", timeout=0.5
            )
            for scheme in ("redis", "tcp", "http", "https", "rediss")
        }
        made = make_checks(configured, checks.check)
        assert list(made) == list(configured)
        assert [name for name, check in made.items() if check.required] == ["tcp"]
        assert {check.timeout_s for check in made.values()} == {0.5}
        assert {name: await check.ask() for name, check in made.items()} == dict.fromkeys(configured, "connect_failure")


def test_without_a_check_of_redis_its_client_is_not_imported() -> None:
    """It would cost every sidecar some 6 MiB."""
    program = (
        "import asyncio, sys\n"
        "import sidecar.daemon\n"
        "from sidecar.config.load import loads\n"
        "from sidecar.health.checks.make import make_checks\n"
        "config = loads('services: {}\\nchecks: {a: {url: \"tcp://a:1\"}}', 'a.yaml', {})\n"
        "make_checks(config.checks, None)\n"
        "sys.exit('redis' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=30).returncode == 0
