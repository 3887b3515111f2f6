"""The checks that services configure, from one configuration to the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sidecar.config.schema import CheckUrl, Config, EndpointSpec, HealthCheck, Service, Url
from sidecar.daemon.health import Chain, HealthChecks
from sidecar.health.active import Result
from sidecar.net.tls_contexts import TlsContexts
from sidecar.policy.settings import HealthSettings, Policy, Timeouts, TlsSettings
from sidecar.runtime.live import Live
from sidecar.runtime.slices import Slices

SPEC = EndpointSpec(url=Url("http", "venue-service", 80))
HEALTH = HealthSettings(path="/health", interval=0.01, idle_interval=0.01)


def config(*names: str, health: HealthSettings | None = HEALTH, **more: Any) -> Config:
    policy = Policy(health=health, **more)
    return Config(services={name: Service(name=name, endpoints=(SPEC,), policy=policy) for name in names})


class Stage:
    """`asked` are the addresses that were checked, with which path; all of them are well."""

    def __init__(self, wanted: Config) -> None:
        loop = asyncio.get_running_loop()
        self.live = Live(wanted, loop.time(), lambda: 0.0)
        for service in self.live.services.values():
            service.set_endpoints([(SPEC, "10.0.0.1")], loop.time())
        self.asked: list[tuple[str, str | None]] = []
        self._more = asyncio.Event()
        self.checks = HealthChecks(self.live, loop, TlsContexts())
        self.checks._checks.check = self._check  # type: ignore[method-assign]

    async def _check(self, target: Any, settings: HealthSettings, tls: TlsSettings) -> Result:
        self.asked.append((target.address, settings.path))
        self._more.set()
        return Result(True, "ok", 0.0)

    def adopt(self, wanted: Config) -> None:
        self.live.adopt(wanted, asyncio.get_running_loop().time())
        self.checks.adopt()

    async def until_asked(self, path: str) -> None:
        self.asked.clear()
        async with asyncio.timeout(5):
            while ("10.0.0.1", path) not in self.asked:
                self._more.clear()
                await self._more.wait()

    @property
    def running(self) -> int:
        return len(self.checks._tasks)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage(config(health=None))
    yield stage
    await stage.checks.close()
    assert stage.running == 0


def serve(stage: Stage, wanted: Config) -> None:
    stage.adopt(wanted)
    for service in stage.live.services.values():
        service.set_endpoints([(SPEC, "10.0.0.1")], asyncio.get_running_loop().time())


async def test_a_service_is_checked_while_it_configures_checks(stage: Stage) -> None:
    serve(stage, config("venue"))
    await stage.until_asked("/health")
    stage.adopt(config("venue", health=None))
    assert stage.live.services["venue"].checker is None
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert stage.running == 0
    stage.adopt(config("venue"))
    await stage.until_asked("/health")


async def test_a_checker_stays_while_its_settings_do(stage: Stage) -> None:
    serve(stage, config("venue"))
    checker = stage.live.services["venue"].checker
    stage.adopt(config("venue", timeout=Timeouts(idle=5.0)))
    assert stage.live.services["venue"].checker is checker
    assert stage.running == 1


async def test_new_settings_are_used_and_counts_continue(stage: Stage) -> None:
    serve(stage, config("venue"))
    await stage.until_asked("/health")
    before = stage.live.services["venue"].checker
    assert before is not None
    counts = stage.live.services["venue"].counters.checks
    counts["failure"] += 3
    stage.adopt(config("venue", health=HealthSettings(path="/other", interval=0.01, idle_interval=0.01)))
    after = stage.live.services["venue"].checker
    assert after is not None
    assert after is not before
    assert stage.live.services["venue"].counters.checks is counts
    assert (counts["success"], counts["failure"]) >= (1, 3)
    await stage.until_asked("/other")
    assert stage.running == 1


async def test_checks_end_with_a_service_and_begin_again_with_a_new_one(stage: Stage) -> None:
    serve(stage, config("venue", "auth"))
    await asyncio.sleep(0)
    assert stage.running == 2
    stage.adopt(config("auth"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert stage.running == 1
    serve(stage, config("venue", "auth"))
    assert stage.running == 2
    await stage.until_asked("/health")


async def test_the_chain_follows_the_configuration_and_stays_while_it_does() -> None:
    live = Live(config(health=None), 0.0, lambda: 0.0)
    chain = Chain(live, Slices(asyncio.get_running_loop()).run, TlsContexts())
    first = chain._chain
    live.adopt(config("venue", health=None), 1.0)
    chain.adopt()
    assert chain._chain is first
    assert list((await chain.report()).services) == ["venue"]
    check = HealthCheck(url=CheckUrl("tcp", "127.0.0.1", 1), timeout=0.5)
    live.adopt(Config(services={}, checks={"db": check}), 2.0)
    chain.adopt()
    assert chain._chain is not first
    report = await chain.report()
    assert list(report.checks) == ["db"]
    assert list(report.services) == []
    await chain.close()
