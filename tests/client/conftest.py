"""A client of a scripted sidecar."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from sidecar.client import ServiceClient
from tests.support.steps import answer
from tests.support.upstream import Upstream


@pytest.fixture
def scripted() -> Iterator[Upstream]:
    with Upstream(answer()) as upstream:
        yield upstream


@pytest.fixture
async def venue(scripted: Upstream) -> AsyncIterator[ServiceClient]:
    async with ServiceClient("venue", base_url=scripted.url) as client:
        yield client
