"""The file watch: all the ways in which a file changes."""

# ruff: noqa: ASYNC240 - small files, and their changes are what is tested
from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import sidecar.daemon.watch
from sidecar.daemon.watch import FileWatch, content_of, status_of
from tests.support.kubernetes_api import until

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
async def watching(path: Path, look_s: float = 0.02) -> AsyncIterator[Seen]:
    """A watch that has begun: it has looked at the file once."""
    seen = Seen(path)
    watch = FileWatch(path, seen, look_s=look_s)
    task = asyncio.get_running_loop().create_task(watch.run())
    try:
        await until(lambda: watch._status is not None)
        yield seen
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The file was read so many times; the content is read only if the status says so."""
    found: list[Path] = []

    def read(path: Path) -> bytes:
        found.append(path)
        return content_of(path)

    monkeypatch.setattr(sidecar.daemon.watch, "content_of", read)
    monkeypatch.setattr(sidecar.daemon.watch, "READ_EVERY", sys.maxsize)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "sidecar.yaml"
    path.write_text("0")
    return path


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
    async with watching(path) as seen:
        with path.open("w") as stream:
            for _ in range(10):
                stream.write("x")
                stream.flush()
                await asyncio.sleep(0.01)
        await seen.until(lambda contents: len(contents) == 1)
    assert seen.contents == ["x" * 10]


@pytest.mark.usefixtures("patient")
async def test_at_rest_waits_for_a_complete_file(path: Path) -> None:
    watch = FileWatch(path, Seen(path))
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
    async with watching(path) as seen:
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
    async with watching(path) as seen:
        folder.rename(tmp_path / "old")
        await seen.until(lambda contents: contents == [None])
        folder.mkdir()
        path.write_text("1")
        await seen.until(lambda contents: contents == [None, "1"])


async def test_a_link_that_leads_elsewhere_is_followed(tmp_path: Path) -> None:
    for name in ("blue", "green"):
        (tmp_path / name).write_text(name)
    path = tmp_path / "sidecar.yaml"
    path.symlink_to("blue")
    async with watching(path) as seen:
        path.unlink()
        path.symlink_to("green")
        await seen.until(lambda contents: contents == ["green"])
        (tmp_path / "green").write_text("olive")
        await seen.until(lambda contents: contents == ["green", "olive"])


async def test_a_file_that_nobody_changes_is_read_once(path: Path, reads: list[Path]) -> None:
    looks = 0

    def look(path: Path) -> tuple[int, ...]:
        nonlocal looks
        looks += 1
        return status_of(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sidecar.daemon.watch, "status_of", look)
        async with watching(path, look_s=0.001):
            before = len(reads)
            await until(lambda: looks >= 20)
            assert len(reads) == before


async def test_a_change_that_the_status_does_not_show_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of some file systems are whole seconds."""
    monkeypatch.setattr(sidecar.daemon.watch, "status_of", lambda path: (1, 2, 3))
    async with watching(path, look_s=0.001) as seen:
        path.write_text("1")
        await seen.until(lambda contents: contents == ["1"])


async def test_a_change_just_before_the_watch_began_is_found(path: Path) -> None:
    seen = Seen(path)
    watch = FileWatch(path, seen, look_s=0.02)
    path.write_text("1")
    task = asyncio.get_running_loop().create_task(watch.run())
    await seen.until(lambda contents: contents == ["1"])
    task.cancel()


async def test_without_threads_it_looks_again_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = 0

    async def none_left(*_: object) -> bytes:
        nonlocal refused
        refused += 1
        raise OSError("no thread could be started")

    async with watching(path) as seen:
        with monkeypatch.context() as patch:
            patch.setattr(sidecar.daemon.watch, "in_thread", none_left)
            path.write_text("1")
            await until(lambda: refused >= 3)
            assert seen.contents == []
        await seen.until(lambda contents: contents == ["1"])


def test_content_is_empty_if_the_file_cannot_be_read(path: Path) -> None:
    digest = content_of(path)
    assert digest
    path.write_text("1")
    assert content_of(path) not in (b"", digest)
    path.unlink()
    assert content_of(path) == b""
    assert content_of(path.parent) == b""


def test_the_status_is_that_of_the_file_behind_the_links(tmp_path: Path) -> None:
    real, link = tmp_path / "real.yaml", tmp_path / "link.yaml"
    real.write_text("0")
    link.symlink_to(real)
    before = status_of(link)
    assert before == status_of(real) != ()
    replace(real, "1")
    assert status_of(link) not in (before, ())
    real.unlink()
    assert status_of(link) == ()
