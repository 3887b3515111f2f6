"""The file watch: all the ways in which a file changes, with notifications of the system and without."""

# ruff: noqa: ASYNC240 - small files, and their changes are what is tested
from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import sidecar.daemon.watch
from sidecar.daemon.watch import FileWatch, content_of, folders_of

FOR_EVER_S = 3600.0
LIMIT_S = 5.0


class Seen:
    """What the file held at each call of `on_change`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.contents: list[str | None] = []
        self._more = asyncio.Condition()

    async def __call__(self) -> None:
        async with self._more:
            self.contents.append(self.path.read_text() if self.path.exists() else None)
            self._more.notify_all()

    async def until(self, done: Callable[[list[str | None]], bool]) -> None:
        async with asyncio.timeout(LIMIT_S), self._more:
            await self._more.wait_for(lambda: done(self.contents))


@asynccontextmanager
async def watching(path: Path, look_s: float = FOR_EVER_S) -> AsyncIterator[Seen]:
    """A watch that has begun. By default only notifications find a change, not the checks at intervals."""
    seen = Seen(path)
    watch = FileWatch(path, seen, look_s=look_s)
    task = asyncio.get_running_loop().create_task(watch.run())
    try:
        await asyncio.sleep(0.05)
        yield seen
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert watch._stop.is_set()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "sidecar.yaml"
    path.write_text("0")
    return path


@pytest.fixture(params=[OSError(28, "OS file watch limit reached"), RuntimeError("no inotify instance")])
def blind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The system has no inotify watches left; returns the folders that were requested."""
    asked: list[str] = []

    def watch(*paths: Path, **_: Any) -> Any:
        asked.extend(map(str, paths))
        raise request.param

    monkeypatch.setattr(sidecar.daemon.watch, "watch", watch)
    return asked


def replace(path: Path, text: str) -> None:
    fresh = path.with_name("fresh")
    fresh.write_text(text)
    fresh.replace(path)


def anew(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


@pytest.mark.parametrize("change", [Path.write_text, replace, anew])
async def test_a_change_is_reported_once(path: Path, change: Callable[[Path, str], object]) -> None:
    async with watching(path) as seen:
        change(path, "1")
        await seen.until(lambda contents: len(contents) == 1)
        change(path, "2")
        await seen.until(lambda contents: len(contents) == 2)
        await asyncio.sleep(0.3)
    assert seen.contents == ["1", "2"]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy may take a while between two steps of a test."""
    monkeypatch.setattr(sidecar.daemon.watch, "SETTLED_S", 0.5)


@pytest.mark.usefixtures("patient")
async def test_a_file_written_in_pieces_is_reported_when_complete(path: Path) -> None:
    async with watching(path, look_s=0.02) as seen:
        with path.open("w") as stream:
            for _ in range(10):
                stream.write("x")
                stream.flush()
                await asyncio.sleep(0.01)
        await seen.until(lambda contents: len(contents) == 1)
    assert seen.contents == ["x" * 10]


@pytest.mark.usefixtures("patient")
async def test_at_rest_waits_for_a_complete_file(path: Path) -> None:
    watch = FileWatch(path, Seen(path), look_s=FOR_EVER_S)
    path.write_text("half")
    waiting = asyncio.get_running_loop().create_task(watch.at_rest())
    await asyncio.sleep(0.05)
    path.write_text("whole")
    await waiting
    assert watch._seen == content_of(path)


async def test_a_file_that_never_stops_changing_is_reported_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidecar.daemon.watch, "SETTLED_S", 0.01)
    async with watching(path, look_s=0.01) as seen:
        deadline = asyncio.get_running_loop().time() + LIMIT_S
        number = 0
        while not seen.contents and asyncio.get_running_loop().time() < deadline:
            number += 1
            path.write_text(str(number))
            await asyncio.sleep(0.005)
    assert seen.contents


@pytest.mark.usefixtures("patient")
async def test_a_file_that_an_editor_removes_briefly_is_not_reported(path: Path) -> None:
    async with watching(path, look_s=0.02) as seen:
        path.rename(path.with_name("backup"))
        await asyncio.sleep(0.06)
        path.write_text("0")
        await asyncio.sleep(1.0)
    assert seen.contents == []


async def test_touching_the_file_or_writing_beside_it_is_not_reported(path: Path) -> None:
    async with watching(path) as seen:
        path.touch()
        path.write_text("0")
        path.with_name("access.log").write_text("line")
        await asyncio.sleep(0.5)
    assert seen.contents == []


async def test_a_removed_file_is_reported_and_a_new_one_too(path: Path) -> None:
    async with watching(path) as seen:
        path.unlink()
        await seen.until(lambda contents: contents == [None])
        path.write_text("0")
        await seen.until(lambda contents: contents == [None, "0"])


async def test_a_swapped_config_map_folder_is_watched(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"

    def swap(version: int) -> None:
        folder = tmp_path / f"..v{version}"
        folder.mkdir()
        (folder / "sidecar.yaml").write_text(str(version))
        (tmp_path / "..data_tmp").symlink_to(folder.name)
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")

    swap(0)
    path.symlink_to("..data/sidecar.yaml")
    async with watching(path) as seen:
        for version in (1, 2, 3):
            swap(version)
            await seen.until(lambda contents, version=version: contents[-1:] == [str(version)])
    assert seen.contents == ["1", "2", "3"]


async def test_a_replaced_folder_is_watched_again(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    path = folder / "sidecar.yaml"
    path.write_text("0")
    before = folders_of(path)
    async with watching(path) as seen:
        path.unlink()
        folder.rename(tmp_path / "old")
        await seen.until(lambda contents: contents == [None])
        folder.mkdir()
        assert folders_of(path) != before
        path.write_text("1")
        # Whoever watches a folder that is gone is told nothing of the new one: the next look finds it.
    async with watching(path, look_s=0.1) as seen:
        path.write_text("2")
        await seen.until(lambda contents: contents == ["2"])


# Without the kernel.


async def test_without_notifications_a_change_is_found_and_a_warning_logged(
    path: Path, blind: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with watching(path, look_s=0.02) as seen:
        path.write_text("1")
        await seen.until(lambda contents: contents == ["1"])
    assert blind == [str(path.parent)]
    (record,) = [one for one in caplog.records if "sends no notifications" in one.message]
    assert record.levelno == logging.WARNING


async def test_a_change_just_before_the_watch_began_is_found_soon(path: Path, blind: list[str]) -> None:
    async with watching(path) as seen:
        path.write_text("1")
        await seen.until(lambda contents: contents == ["1"])


async def test_a_closed_loop_ends_the_thread(path: Path) -> None:
    watch = FileWatch(path, Seen(path))
    assert watch._tell()

    def closed(_: object) -> None:
        raise RuntimeError("Event loop is closed")

    watch._loop = type("Closed", (), {"call_soon_threadsafe": staticmethod(closed)})()  # type: ignore[assignment]
    assert not watch._tell()


def test_content_is_empty_if_the_file_cannot_be_read(path: Path) -> None:
    digest = content_of(path)
    assert digest
    path.write_text("1")
    assert content_of(path) not in (b"", digest)
    path.unlink()
    assert content_of(path) == b""
    assert content_of(path.parent) == b""


def test_folders_are_those_of_the_link_and_of_the_file(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.mkdir()
    (real / "a.yaml").write_text("")
    (link / "b.yaml").symlink_to(real / "a.yaml")
    assert {folder for folder, _, _ in folders_of(link / "b.yaml")} == {real, link}
    (real / "a.yaml").unlink()
    assert {folder for folder, _, _ in folders_of(link / "b.yaml")} == {link}
    assert folders_of(tmp_path / "no" / "c.yaml") == frozenset()
