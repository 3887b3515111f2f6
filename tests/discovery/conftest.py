"""Time for the tests of discovery: nothing sleeps."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.support import jumping_loop


@pytest.fixture
def drive() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Runs a coroutine to its end in a loop that begins at 1000.0 and takes no time to sleep."""
    return jumping_loop.run
