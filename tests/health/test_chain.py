"""The health chain: when it runs, for how long, and what happens to a part that does not answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

import pytest

from sidecar.health.chain import CACHED_S, Check, HealthChain
from sidecar.health.report import Endpoints, Part, ServicePart
from tests.health.services import Asker, Breaker, Endpoint, StageService

Drive = Callable[[Coroutine[Any, Any, None]], None]


class Stage:
    """A chain with these checks and services, in the loop's time."""

    def __init__(self, checks: Mapping[str, Check] | None = None, *services: StageService) -> None:
        self.services = list(services)
        self.asker = Asker()
        self.tasks: set[asyncio.Task[None]] = set()
        self.chain = HealthChain(
            checks or {},
            lambda: self.services,
            check=self.asker,
            start=self.start,
            clock=asyncio.get_running_loop().time,
        )

    def start(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)  # noqa: TID251 - stands for the helper
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task


class Thing:
    """What a check asks: it answers `says` after `takes_s`."""

    def __init__(self, says: str = "ok", takes_s: float = 0.0) -> None:
        self.says = says
        self.takes_s = takes_s
        self.asked = 0
        self.cancelled = 0

    async def __call__(self) -> str:
        self.asked += 1
        try:
            await asyncio.sleep(self.takes_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.says

    def check(self, *, required: bool = False, timeout_s: float = 1.0) -> Check:
        return Check(self, required, timeout_s)


def test_a_chain_of_nothing_is_healthy(drive: Drive) -> None:
    async def scenario() -> None:
        report = await Stage().chain.report()
        assert (report.status, report.checks, report.services) == ("healthy", {}, {})

    drive(scenario())


def test_a_report_has_every_part_in_the_order_of_the_file(drive: Drive) -> None:
    async def scenario() -> None:
        late, soon = Thing(takes_s=0.5), Thing("auth", takes_s=0.0004)
        venue, event = StageService(path="/health"), StageService([], name="event")
        stage = Stage({"late": late.check(), "soon": soon.check()}, venue, event)
        report = await stage.chain.report()
        assert list(report.checks.items()) == [
            ("late", Part(status="healthy", latency_ms=500.0)),
            ("soon", Part(status="unhealthy", latency_ms=0.4, reason="auth")),
        ]
        assert list(report.services.items()) == [
            ("venue", ServicePart(status="healthy", breaker="closed", endpoints=Endpoints(1, 1), latency_ms=2.1)),
            (
                "event",
                ServicePart(status="unhealthy", breaker="closed", endpoints=Endpoints(0, 0), reason="no_endpoint"),
            ),
        ]
        assert report.status == "degraded"

    drive(scenario())


@pytest.mark.parametrize(
    ("says", "required", "status"),
    [("ok", True, "healthy"), ("timeout", False, "degraded"), ("timeout", True, "unhealthy")],
)
def test_a_check_that_is_required_decides(drive: Drive, says: str, required: bool, status: str) -> None:
    async def scenario() -> None:
        stage = Stage({"redis": Thing(says).check(required=required)}, StageService())
        assert (await stage.chain.report()).status == status

    drive(scenario())


@pytest.mark.parametrize(("required", "status"), [(False, "degraded"), (True, "unhealthy")])
def test_a_service_that_is_required_decides(drive: Drive, required: bool, status: str) -> None:
    async def scenario() -> None:
        service = StageService(required=required, breakers=[Breaker("open")])
        stage = Stage({"redis": Thing().check(required=True)}, service)
        assert (await stage.chain.report()).status == status
        assert not stage.asker.asked

    drive(scenario())


def test_parts_are_asked_side_by_side(drive: Drive) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        stage = Stage({f"c{number}": Thing(takes_s=0.9).check() for number in range(50)})
        assert (await stage.chain.report()).status == "healthy"
        assert loop.time() - began == pytest.approx(0.9)

    drive(scenario())


def test_callers_share_a_run_and_then_its_report_for_a_second(drive: Drive) -> None:
    async def scenario() -> None:
        thing = Thing(takes_s=0.5)
        stage = Stage({"redis": thing.check()})
        reports = await asyncio.gather(*[stage.chain.report() for _ in range(50)])
        assert thing.asked == 1
        assert len({id(report) for report in reports}) == 1
        await asyncio.sleep(CACHED_S - 0.01)
        assert await stage.chain.report() is reports[0]
        assert thing.asked == 1
        await asyncio.sleep(0.01)
        thing.says = "error"
        assert (await stage.chain.report()).checks["redis"].reason == "error"
        assert thing.asked == 2

    drive(scenario())


def test_a_caller_may_come_at_any_moment_of_a_run(drive: Drive) -> None:
    """Between a run's last step and what its end sets off too."""

    async def scenario() -> None:
        thing = Thing()
        stage = Stage({"redis": thing.check()}, StageService(path="/"))

        async def comes_after(steps: int) -> str:
            for _ in range(steps):
                await asyncio.sleep(0)
            return (await stage.chain.report()).status

        assert set(await asyncio.gather(*[comes_after(steps) for steps in range(30)])) == {"healthy"}
        assert thing.asked == 1

    drive(scenario())


def test_a_caller_that_leaves_does_not_disturb_the_others(drive: Drive) -> None:
    async def scenario() -> None:
        thing = Thing(takes_s=0.5)
        stage = Stage({"redis": thing.check()})
        callers = [asyncio.gather(stage.chain.report()) for _ in range(3)]
        await asyncio.sleep(0.1)
        for caller in callers[:2]:
            caller.cancel()
        (report,) = await callers[2]
        assert report.status == "healthy"
        assert (thing.asked, thing.cancelled) == (1, 0)
        for caller in callers[:2]:
            with pytest.raises(asyncio.CancelledError):
                await caller

    drive(scenario())


def test_a_run_whose_callers_left_serves_the_next_caller(drive: Drive) -> None:
    async def scenario() -> None:
        thing = Thing(takes_s=0.5)
        stage = Stage({"redis": thing.check()})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await stage.chain.report()
        assert (await stage.chain.report()).status == "healthy"
        assert thing.asked == 1

    drive(scenario())


@pytest.mark.parametrize(("timeout_s", "reason"), [(0.4, "timeout"), (0.6, None)])
def test_a_check_has_its_own_timeout(drive: Drive, timeout_s: float, reason: str | None) -> None:
    async def scenario() -> None:
        thing = Thing(takes_s=0.5)
        part = (await Stage({"redis": thing.check(timeout_s=timeout_s)}).chain.report()).checks["redis"]
        assert part.reason == reason
        assert part.latency_ms == pytest.approx(min(timeout_s, 0.5) * 1000)
        assert thing.cancelled == (reason is not None)

    drive(scenario())


def test_a_run_ends_in_time_despite_slow_parts(drive: Drive) -> None:
    """A check that does not even obey when it is cancelled, and a service whose endpoints all hang."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        enough = loop.create_future()

        async def disobedient() -> str:
            while not enough.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.shield(enough)
            return "ok"

        async def hangs(target: Any, settings: Any) -> Any:
            await asyncio.sleep(60.0)

        began = loop.time()
        stage = Stage({"redis": Check(disobedient, True, 1.0), "queue": Thing().check()}, StageService(path="/"))
        stage.chain._check = hangs
        report = await stage.chain.report()
        assert loop.time() - began == 5.0
        assert report.checks["redis"] == Part(status="unhealthy", latency_ms=5000.0, reason="timeout")
        assert report.checks["queue"].status == "healthy"
        venue = report.services["venue"]
        assert (venue.status, venue.reason, venue.latency_ms) == ("unhealthy", "timeout", 5000.0)
        enough.set_result(None)
        await asyncio.wait(stage.tasks)

    drive(scenario())


def test_an_unexpected_failure_is_reported_with_the_other_parts(drive: Drive, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async def broken() -> str:
            raise ValueError("hunter2")

        stage = Stage({"broken": Check(broken, False, 1.0), "well": Thing().check()})
        report = await stage.chain.report()
        assert report.checks["broken"].reason == "internal"
        assert report.checks["well"].status == "healthy"
        fields = next(record.fields for record in caplog.records if hasattr(record, "fields"))
        assert (fields["check"], fields["error"]) == ("broken", "ValueError")
        assert fields["at"][-1].startswith(f"{__file__}:")
        assert "hunter2" not in caplog.text + str(fields), "an error may hold what a server was sent"
        assert all(record.exc_info is None for record in caplog.records)

    drive(scenario())


def test_a_failed_run_is_followed_by_another(drive: Drive) -> None:
    async def scenario() -> None:
        stage = Stage({}, StageService())
        well, stage.services[0].breakers = stage.services[0].breakers, []
        with pytest.raises(IndexError):
            await stage.chain.report()
        stage.services[0].breakers = well
        assert (await stage.chain.report()).status == "healthy"

    drive(scenario())


def test_a_run_cancelled_before_its_start_is_followed_by_another(drive: Drive) -> None:
    async def scenario() -> None:
        stage = Stage({}, StageService())
        caller = asyncio.gather(stage.chain.report())
        await asyncio.sleep(0)
        for task in stage.tasks:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert (await stage.chain.report()).status == "healthy"

    drive(scenario())


def test_services_come_and_go(drive: Drive) -> None:
    async def scenario() -> None:
        stage = Stage({}, StageService())
        assert list((await stage.chain.report()).services) == ["venue"]
        stage.services[:] = [StageService(name="event")]
        await asyncio.sleep(CACHED_S)
        assert list((await stage.chain.report()).services) == ["event"]

    drive(scenario())


def test_each_change_of_a_part_is_one_line(drive: Drive, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sidecar.health")

    async def scenario() -> None:
        thing, endpoint = Thing(), Endpoint()
        stage = Stage({"redis": thing.check()}, StageService([endpoint], path="/"))

        async def again(said: str, answered: str) -> None:
            thing.says, endpoint.says = said, answered
            for _ in range(2):
                await asyncio.sleep(CACHED_S)
                await stage.chain.report()

        await again("ok", "ok")
        assert not caplog.records
        await again("connect_failure", "ok")
        await again("timeout", "status 500")  # still unhealthy, for another reason
        await again("ok", "ok")
        lines = [(one.levelname, one.getMessage(), one.fields) for one in caplog.records]  # type: ignore[attr-defined]
        check, service = "health of a check changed", "health of a service changed"
        assert lines == [
            ("WARNING", check, {"check": "redis", "status": "unhealthy", "reason": "connect_failure"}),
            ("WARNING", service, {"service": "venue", "status": "unhealthy", "reason": "status"}),
            ("INFO", check, {"check": "redis", "status": "healthy", "reason": None}),
            ("INFO", service, {"service": "venue", "status": "healthy", "reason": None}),
        ]

    drive(scenario())
