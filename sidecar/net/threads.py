"""Daemon threads for work that blocks: `in_thread` runs a function in a thread of its own.

It stands for `asyncio.to_thread`, whose threads are few and shared: a file on a dead network mount or a name server
that is silent holds one of them for minutes, and the process waits at its end for each of them. Here nobody waits: a
thread that hangs costs its own caller alone, and ends with the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Run `function` in a new thread and return its result. If this is cancelled, the thread goes on.

    Raises what `function` raises, and OSError when the system gives no more threads.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[T] = loop.create_future()
    start(loop, partial(function, *args, **options), partial(_tell, ended), getattr(function, "__name__", "work"))
    return await ended


def start(
    loop: asyncio.AbstractEventLoop,
    work: Callable[[], T],
    told: Callable[[T | None, Exception | None], None],
    name: str,
) -> None:
    """Run `work` in a new thread, then `told(result, error)` on the loop, if that still runs then. Raises OSError."""

    def run() -> None:
        result: T | None = None
        failure: Exception | None = None
        try:
            result = work()
        except Exception as error:
            failure = error
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(told, result, failure)

    try:
        Thread(target=run, name=name, daemon=True).start()
    except RuntimeError as error:
        raise OSError(f"no thread could be started: {error}") from None


def _tell(ended: asyncio.Future[T], result: T | None, failure: Exception | None) -> None:
    if ended.done():  # its caller was cancelled
        return
    if failure is not None:
        ended.set_exception(failure)
    else:
        ended.set_result(result)  # type: ignore[arg-type]
