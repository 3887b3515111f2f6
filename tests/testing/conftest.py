"""One stage (a sidecar and the fakes' thread) for the tests here; each test gets fakes of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sidecar.testing.stage import Fakes, Stage


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


@pytest.fixture
def fakes(stage: Stage) -> Iterator[Fakes]:
    fakes = stage.fakes()
    yield fakes
    fakes.close()
