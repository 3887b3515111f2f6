"""Reload: which files are applied, which are refused, and what is reported."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import sidecar.daemon.reload
from sidecar.config.load import load_with_origins
from sidecar.config.schema import Config
from sidecar.daemon.reload import MOST_LOGGED, Reloader
from sidecar.net.tasks import Tasks

VENUE = "services: {venue: {url: 'http://venue:1'"


class Stage:
    """A reloader and what it is wired to. `adopted` are the configurations put in force, in order."""

    def __init__(self, folder: Path, text: str = VENUE + "}}") -> None:
        self.path = folder / "sidecar.yaml"
        self.path.write_text(text)
        config, origins = load_with_origins(self.path, {})
        self.first = config
        self.adopted: list[Config] = []
        self.generation = 1
        self.refuses: list[int] = []
        """The adoptions that fail, counted from 0."""
        self.unfit: str | None = None
        self.unknown: list[str] = []
        """What `ahead` warns of."""
        self.steps: list[str] = []
        self.looking = asyncio.Event()
        self.reloader = Reloader(
            self.path,
            config,
            origins,
            adopt=self._adopt,
            generation=lambda: self.generation,
            unfit=lambda _: self.unfit,
            ahead=self._ahead,
        )

    async def _adopt(self, config: Config) -> None:
        self.adopted.append(config)
        self.generation += 1
        self.steps.append("adopt")
        if len(self.adopted) - 1 in self.refuses:
            raise RuntimeError("half way")

    @asynccontextmanager
    async def _ahead(self, config: Config) -> AsyncIterator[list[str]]:
        self.steps.append("ahead")
        self.looking.set()
        await asyncio.sleep(0)
        yield self.unknown
        self.steps.append("behind")

    def write(self, text: str) -> None:
        self.path.write_text(text)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


async def test_the_first_report_is_of_the_start(stage: Stage) -> None:
    last = stage.reloader.last
    assert (last.result, last.trigger, last.generation, last.errors) == ("ok", "start", 1, ())
    assert stage.reloader.results == {"ok": 0, "rejected": 0, "unchanged": 0}


async def test_a_reload_goes_on_when_its_caller_leaves(stage: Stage) -> None:
    """A client of POST /reload may hang up, but half of a configuration must not stay in force."""
    stage.write(VENUE + ", timeout: {attempt: 2s}}}")

    async def caller() -> None:
        await stage.reloader.reload("api")

    task = Tasks(logging.getLogger()).start(caller(), "caller")
    await stage.looking.wait()
    task.cancel()
    assert (await stage.reloader.reload("signal")).result == "unchanged"
    assert stage.steps == ["ahead", "adopt", "behind"]
    assert stage.generation == 2


async def test_a_changed_file_is_applied_and_its_changes_are_named(stage: Stage) -> None:
    stage.write(VENUE + ", timeout: {attempt: 2s}}}")
    report = await stage.reloader.reload("signal")
    assert (report.result, report.trigger, report.generation) == ("ok", "signal", 2)
    assert report.changed == ("services.venue.timeout.attempt",)
    assert stage.reloader.last is report
    assert stage.reloader.loaded_at == report.at
    assert stage.adopted == [stage.reloader.config]
    assert stage.reloader.config.services["venue"].policy.timeout.attempt == 2
    assert stage.reloader.origins["services.venue.timeout.attempt"].level == "service"
    assert stage.steps == ["ahead", "adopt", "behind"]


async def test_an_unchanged_file_is_not_applied(stage: Stage) -> None:
    stage.write("# a comment\n" + VENUE + "}}")
    report = await stage.reloader.reload("file")
    assert (report.result, report.changed, stage.adopted) == ("unchanged", (), [])
    assert stage.reloader.results == {"ok": 0, "rejected": 0, "unchanged": 1}


async def test_a_bad_file_changes_nothing_and_a_later_good_one_is_applied(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.write(VENUE + ", timeut: {}}}")
    report = await stage.reloader.reload("file")
    assert (report.result, report.generation, stage.adopted) == ("rejected", 1, [])
    assert "did you mean timeout?" in str(report.errors[0])
    assert report.errors[0].line == 1
    (record,) = [one for one in caplog.records if "rejected" in one.message]
    assert record.__dict__["fields"]["errors"] == [str(report.errors[0])]
    stage.write(VENUE + "}}")
    assert (await stage.reloader.reload("file")).result == "unchanged"
    assert stage.reloader.last.errors == ()


async def test_a_file_that_is_gone_is_refused(stage: Stage) -> None:
    stage.path.unlink()
    report = await stage.reloader.reload("file")
    assert report.result == "rejected"
    assert "cannot be read" in report.errors[0].message


async def test_a_file_that_needs_a_missing_extra_is_refused(stage: Stage) -> None:
    stage.write(VENUE + ", required: true}}")
    stage.unfit = "needs aiodns"
    report = await stage.reloader.reload("api")
    assert (report.result, report.errors[0].message, stage.adopted) == ("rejected", "needs aiodns", [])


async def test_without_a_file_a_reload_is_refused(stage: Stage) -> None:
    stage.reloader.path = None
    before = stage.reloader.last
    report = await stage.reloader.reload("signal")
    assert (report.result, report.errors[0].message) == ("rejected", "the sidecar was started without a file")
    await stage.reloader.catch_up()
    assert stage.reloader.last is before
    assert stage.reloader.results == {"ok": 0, "rejected": 0, "unchanged": 0}
    assert stage.adopted == []


LISTEN = "listen: {{admin: '127.0.0.1:{}'}}\n"


async def test_changed_listeners_stay_and_are_reported_until_the_file_matches(tmp_path: Path) -> None:
    stage = Stage(tmp_path, LISTEN.format(1) + VENUE + "}}")
    listen = stage.first.listen
    stage.write(LISTEN.format(2) + VENUE + "}}")
    report = await stage.reloader.reload("file")
    assert report.warnings == ("listen.admin stays 127.0.0.1:1; 127.0.0.1:2 needs a restart",)
    assert report.changed == ("listen.admin",)
    assert stage.reloader.config.listen == listen
    stage.write(LISTEN.format(2) + VENUE + ", required: true}}")
    report = await stage.reloader.reload("file")
    assert report.warnings == ("listen.admin stays 127.0.0.1:1; 127.0.0.1:2 needs a restart",)
    assert report.changed == ("services.venue.required",)
    report = await stage.reloader.reload("file")
    assert (report.result, len(report.warnings)) == ("unchanged", 1)
    stage.write(LISTEN.format(1) + VENUE + ", required: true}}")
    report = await stage.reloader.reload("file")
    assert report.warnings == ()


async def test_unresolved_names_are_a_warning_in_that_report_only(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.unknown = ["services.venue keeps its old endpoints"]
    stage.write(VENUE + ", required: true}}")
    report = await stage.reloader.reload("file")
    assert (report.result, report.warnings) == ("ok", ("services.venue keeps its old endpoints",))
    assert "restart" not in caplog.text
    assert (await stage.reloader.reload("file")).warnings == ()


CUT_SHORT = VENUE + ", timeout: {attempt: 2s, request: 1s}}}"


async def test_warnings_on_the_configuration_in_force_are_in_each_report_and_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(tmp_path, CUT_SHORT)
    (at_start,) = stage.reloader.last.warnings
    assert at_start.startswith("services.venue: timeout.attempt (2s, line 1) is longer")
    assert caplog.records == []  # the start says them when there is something to say them to
    stage.write(CUT_SHORT + "\n# a comment")
    report = await stage.reloader.reload("file")
    assert (report.result, report.warnings) == ("unchanged", (at_start,))
    (record,) = caplog.records
    assert (record.levelname, record.__dict__["kind"]) == ("WARNING", "reload")
    assert record.__dict__["fields"] == {"detail": at_start}
    stage.write(VENUE + "}}")
    assert (await stage.reloader.reload("file")).warnings == ()


async def test_a_listener_that_is_not_bound_yet_is_not_open(tmp_path: Path) -> None:
    stage = Stage(tmp_path, LISTEN.format(1) + VENUE + "}}")
    stage.write(LISTEN.format(1).replace("127.0.0.1", "0.0.0.0") + VENUE + "}}")
    report = await stage.reloader.reload("file")
    assert report.warnings == ("listen.admin stays 127.0.0.1:1; 0.0.0.0:1 needs a restart",)


async def test_limits_of_the_listener_need_a_restart_too(tmp_path: Path) -> None:
    stage = Stage(tmp_path, VENUE + "}}")
    stage.write("listen: {max_head: 64KiB, max_header_fields: 200}\n" + VENUE + "}}")
    assert (await stage.reloader.reload("file")).warnings == (
        "listen.max_head stays 32KiB; 64KiB needs a restart",
        "listen.max_header_fields stays 128; 200 needs a restart",
    )


async def test_of_very_many_changes_and_warnings_the_log_has_the_first_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A line for each would keep the loop from the requests; the report has all of them."""

    def text(attempt_s: int) -> str:
        slow = f"{{url: 'http://127.0.0.1:1', timeout: {{attempt: {attempt_s}s, request: 1s}}}}"
        return "services:\n" + "".join(f"  s{number}: {slow}\n" for number in range(MOST_LOGGED + 2))

    stage = Stage(tmp_path, text(2))
    stage.write(text(3))
    caplog.clear()
    caplog.set_level(logging.INFO, "sidecar.daemon")
    report = await stage.reloader.reload("file")
    assert (len(report.changed), len(report.warnings)) == (MOST_LOGGED + 2, MOST_LOGGED + 2)
    fields: list[dict[str, Any]] = [vars(one)["fields"] for one in caplog.records]
    (changed,) = [one["changed"] for one in fields if "changed" in one]
    assert list(changed) == [*report.changed[:MOST_LOGGED], "and 2 more"]
    details = [one["detail"] for one in fields if "detail" in one]
    assert details[:-1] == list(report.warnings[:MOST_LOGGED])
    assert details[-1] == "2 more warnings: `sidecar check` and the admin API list all"


# What must not happen.


async def test_a_configuration_that_fails_is_replaced_by_the_last_one(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.refuses = [0]
    stage.write(VENUE + ", required: true}}")
    report = await stage.reloader.reload("file")
    assert report.result == "rejected"
    assert "internal error" in report.errors[0].message
    assert stage.adopted[1] is stage.first
    assert stage.reloader.config is stage.first
    assert [one.levelname for one in caplog.records] == ["ERROR", "WARNING"]
    report = await stage.reloader.reload("file")
    assert (report.result, report.changed) == ("ok", ("services.venue.required",))


async def test_if_the_last_one_fails_too_it_is_logged_and_the_sidecar_continues(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.refuses = [0, 1]
    stage.write(VENUE + ", required: true}}")
    assert (await stage.reloader.reload("file")).result == "rejected"
    assert "restart" in caplog.text
    assert (await stage.reloader.reload("file")).result == "ok"


async def test_a_failing_reader_is_logged_and_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> Any:
        raise RecursionError("deep")

    monkeypatch.setattr(sidecar.daemon.reload, "load_with_origins", fails)
    assert (await stage.reloader.reload("file")).result == "rejected"
    assert [one.levelno for one in caplog.records] == [logging.ERROR, logging.WARNING]


async def test_two_reloads_run_one_after_the_other(stage: Stage) -> None:
    stage.write(VENUE + ", required: true}}")
    reports = await asyncio.gather(*[stage.reloader.reload("api") for _ in range(3)])
    assert [one.result for one in reports] == ["ok", "unchanged", "unchanged"]
    assert stage.steps == ["ahead", "adopt", "behind"]


async def test_nothing_is_applied_after_close(stage: Stage) -> None:
    stage.write(VENUE + ", required: true}}")
    under_way = asyncio.get_running_loop().create_task(stage.reloader.reload("api"))
    await stage.looking.wait()
    stage.reloader.close()
    assert (await under_way).result == "rejected"
    assert (await stage.reloader.reload("signal")).result == "rejected"
    assert stage.adopted == []


# Since it was started.


async def test_a_change_before_the_watch_began_is_applied(stage: Stage) -> None:
    await stage.reloader.catch_up()
    assert stage.reloader.last.trigger == "start"
    assert sum(stage.reloader.results.values()) == 0
    stage.write(VENUE + ", required: true}}")
    await stage.reloader.catch_up()
    assert (stage.reloader.last.result, stage.reloader.last.trigger) == ("ok", "file")
    stage.write("services:")
    await stage.reloader.catch_up()
    assert stage.reloader.last.result == "rejected"
