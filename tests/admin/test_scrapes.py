"""When the text of /metrics is made anew, and who shares it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from typing import Any

import pytest

from sidecar.admin.scrapes import CHEAP_S, KEPT_S, KEPT_TIMES, Scrapes
from sidecar.net.tasks import Tasks
from sidecar.runtime.slices import Slices
from tests.support.jumping_loop import run


class Texts:
    """Scrapes of texts that take `takes_s` each, in three turns of a loop whose clock the test moves."""

    def __init__(self, takes_s: float) -> None:
        self.takes_s = takes_s
        self.count = 0
        self.fails = False
        loop: Any = asyncio.get_running_loop()
        self._clock = loop._clock
        self.scrapes = Scrapes(self._made, Slices(loop, 0.0))

    def _made(self) -> Generator[None, None, list[bytes]]:
        self.count += 1
        number = self.count
        for _ in range(3):
            self._clock.now += self.takes_s / 3
            yield
        if self.fails:
            raise ValueError("broken")
        return [b"text %d" % number]

    async def asked(self) -> bytes:
        return b"".join((await self.scrapes.text())[0])

    async def age_s(self) -> int:
        return (await self.scrapes.text())[1]


def test_a_short_text_is_made_for_each_scrape() -> None:
    async def scenario() -> None:
        texts = Texts(CHEAP_S / 2)
        assert [await texts.asked(), await texts.asked()] == [b"text 1", b"text 2"]
        await texts.scrapes.close()

    run(scenario())


def test_a_text_that_is_dropped_at_once_still_answers_who_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine its time may be over before those who waited go on: they got an empty text."""

    async def scenario() -> None:
        texts = Texts(CHEAP_S * 2)
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda _, drop: drop())
        assert await asyncio.gather(texts.asked(), texts.asked()) == [b"text 1"] * 2
        assert not texts.scrapes.kept

    run(scenario())


def test_scrapes_at_the_same_time_share_one_text() -> None:
    async def scenario() -> None:
        texts = Texts(CHEAP_S / 2)
        assert await asyncio.gather(*(texts.asked() for _ in range(50))) == [b"text 1"] * 50
        assert texts.count == 1
        await texts.scrapes.close()

    run(scenario())


@pytest.mark.parametrize(("takes_s", "kept_s"), [(0.25, 0.25 * KEPT_TIMES), (60.0, KEPT_S)])
def test_a_long_text_is_kept_for_a_while_and_then_let_go(takes_s: float, kept_s: float) -> None:
    async def scenario() -> None:
        texts = Texts(takes_s)
        assert await texts.asked() == b"text 1"
        await asyncio.sleep(kept_s * 0.9)
        assert await texts.asked() == b"text 1"
        await asyncio.sleep(kept_s * 0.2)
        assert texts.scrapes._text == []
        assert await texts.asked() == b"text 2"
        await texts.scrapes.close()

    run(scenario())


def test_a_text_that_may_be_older_than_its_scrape_has_an_age() -> None:
    async def scenario() -> None:
        texts = Texts(0.5)
        assert await texts.age_s() == 0
        assert await texts.age_s() == 1
        await asyncio.sleep(0.75)
        assert await texts.age_s() == 2
        await asyncio.sleep(1.5)
        assert await asyncio.gather(*(texts.age_s() for _ in range(3))) == [0, 1, 1]
        await texts.scrapes.close()

    run(scenario())


def test_a_scraper_that_leaves_does_not_disturb_the_others() -> None:
    async def scenario() -> None:
        texts = Texts(CHEAP_S / 2)
        tasks = Tasks(logging.getLogger())
        found: list[bytes] = []

        async def asked() -> None:
            found.append(await texts.asked())

        leaves, stays = tasks.start(asked(), "leaves"), tasks.start(asked(), "stays")
        await asyncio.sleep(0)
        leaves.cancel()
        await stays
        assert found == [b"text 1"]
        await texts.scrapes.close()

    run(scenario())


def test_after_a_failure_the_next_scrape_makes_a_new_text(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        texts = Texts(1.0)
        texts.fails = True
        with pytest.raises(ValueError, match="broken"):
            await texts.asked()
        texts.fails = False
        assert await texts.asked() == b"text 2"
        await texts.scrapes.close()

    run(scenario())
    assert "background task scrape failed" in caplog.text
