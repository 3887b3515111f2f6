"""A data path without sockets for each test that asks for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.proxy.fakes import World
from tests.support.bound import bound

__all__ = ["bound", "make_world", "world"]


@pytest.fixture
def world() -> Iterator[World]:
    """With the default policies, but for timeouts of 1 s an attempt and 4 s a request, and one endpoint."""
    with World() as world:
        yield world


@pytest.fixture
def make_world() -> Iterator[Callable[..., World]]:
    """For tests that want another policy or more endpoints: `make_world(policy, endpoints=2)`."""
    with ExitStack() as stack:
        yield lambda *args, **more: stack.enter_context(World(*args, **more))
