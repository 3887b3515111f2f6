"""Threads that nobody waits for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from sidecar.net import threads
from sidecar.net.threads import in_thread
from tests.support.daemon import ROOT


async def test_the_result_comes_from_a_daemon_thread_of_its_own() -> None:
    def work(number: int, *, more: int) -> tuple[int, threading.Thread]:
        return number + more, threading.current_thread()

    found, thread = await in_thread(work, 1, more=2)
    assert found == 3
    assert thread is not threading.current_thread()
    assert thread.daemon
    assert thread.name == "work"


async def test_what_it_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)


async def test_many_that_hang_delay_no_other() -> None:
    """asyncio.to_thread has some 6 threads on a small machine."""
    gate = threading.Event()
    hanging = [asyncio.gather(in_thread(gate.wait)) for _ in range(100)]
    assert await asyncio.wait_for(in_thread(lambda: "well"), 5) == "well"
    gate.set()
    assert await asyncio.gather(*hanging) == [[True]] * 100


async def test_a_caller_that_is_cancelled_leaves_the_thread_to_itself() -> None:
    gate, ended = threading.Event(), threading.Event()

    def work() -> None:
        gate.wait()
        ended.set()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await in_thread(work)
    gate.set()
    assert await in_thread(ended.wait, 5)
    await asyncio.sleep(0)


async def test_without_a_free_thread_it_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads.Thread, "start", start)
    with pytest.raises(OSError, match="can't start new thread"):
        await in_thread(print)


def test_the_process_ends_while_one_hangs() -> None:
    program = (
        "import asyncio, threading\n"
        "from sidecar.net.threads import in_thread\n"
        "async def main():\n"
        "    try:\n"
        "        async with asyncio.timeout(0.05):\n"
        "            await in_thread(threading.Event().wait)\n"
        "    except TimeoutError:\n"
        "        print('ends')\n"
        "asyncio.run(main())\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], timeout=30, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "ends\n", "")


def test_nothing_of_the_sidecar_shares_a_pool_of_threads() -> None:
    """Its threads would be few, and waited for at the end of the process."""
    named = ("asyncio.to_thread(", "run_in_executor(", "ThreadPoolExecutor(")
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "sidecar").rglob("*.py")
        for name in named
        if name in path.read_text()
    ]
    assert found == []
