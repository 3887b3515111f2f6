"""Which scheme has which check."""

from __future__ import annotations

from sidecar.config.check_urls import parse_check_url
from sidecar.config.schema import HealthCheck
from sidecar.health.active import Checks
from sidecar.health.checks.make import make_checks
from tests.support.upstream import RefusedPort


async def test_each_scheme_has_its_check() -> None:
    checks = Checks()
    with RefusedPort() as dead:
        configured = {
            scheme: HealthCheck(
                url=parse_check_url(f"{scheme}://{dead.authority}"), required=scheme == "tcp", timeout=0.5
            )
            for scheme in ("redis", "tcp", "http", "https", "rediss")
        }
        made = make_checks(configured, checks.check, checks.contexts)
        assert list(made) == list(configured)
        assert [name for name, check in made.items() if check.required] == ["tcp"]
        assert {check.timeout_s for check in made.values()} == {0.5}
        assert {name: await check.ask() for name, check in made.items()} == dict.fromkeys(configured, "connect_failure")
