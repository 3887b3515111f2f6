"""Under 200 requests a second, endpoints die, hang, slow down, fail and come back: what the app sees of it.

The endpoints are processes, so that they can really be killed and stopped. docs/reliability.md has the figures.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.endpoints import EndpointProcess
from benchmarks.ports import free_ports
from benchmarks.steady import Sent, SteadyLoad
from tests.support.rig import Daemons

RATE, POST_RATE = 200.0, 20.0
WELL_S = 1.0
FAULT_S = 2.5
"""Two checks in a row have failed by then: interval, interval, timeout."""

INTERVAL_S, CHECK_TIMEOUT_S = 1.0, 0.5
BACK_WITHIN_S = INTERVAL_S + CHECK_TIMEOUT_S
"""The next check begins within an interval of the last one; it may take its timeout, and ends much sooner."""

POLICY = f"""
    timeout: {{attempt: 500ms}}
    retry: {{budget: {{ratio: 1}}}}
    health: {{path: /health, interval: {INTERVAL_S}s, timeout: {CHECK_TIMEOUT_S}s}}
    outlier: {{}}
"""

Change = Callable[[EndpointProcess], None]


class Ordeal:
    """Endpoints, a daemon before them, and a steady load of GETs and a few POSTs, while some of them fail."""

    def __init__(self, start: Daemons, endpoints: list[EndpointProcess], log: Path) -> None:
        urls = ", ".join(f'"{one.url}"' for one in endpoints)
        self.daemon = start(f"services:\n  venue:\n    endpoints: [{urls}]{POLICY}")
        self._endpoints, self._log = endpoints, log
        self.sent: list[Sent] = []
        self.back_s: list[float | None] = []
        """Of each that failed: from when it was well to its first answer to the app."""

    def run(self, failing: int, begin: Change, end: Change, fault_s: float = FAULT_S) -> None:
        failing_ones = self._endpoints[:failing]
        with SteadyLoad(self.daemon.proxy_port, "/venue/", RATE, POST_RATE) as load:
            for one in self._endpoints:
                assert load.until(lambda sent, one=one: sent.ok and sent.endpoint == one.name, 5), one.name
            time.sleep(WELL_S)
            for one in failing_ones:
                begin(one)
            time.sleep(fault_s)
            well_since = []
            for one in failing_ones:
                end(one)
                well_since.append(time.monotonic())
            for one, at in zip(failing_ones, well_since, strict=True):
                answer = load.until(
                    lambda sent, one=one, at=at: sent.ok and sent.endpoint == one.name and sent.planned >= at, 5
                )
                self.back_s.append(answer and answer.ended - at)
        self.sent = load.sent

    def failures(self, method: str) -> Counter[tuple[int, str]]:
        """(status, reason) -> how often."""
        return Counter((one.status, one.reason) for one in self.sent if one.method == method and not one.ok)

    def assert_never_twice(self) -> None:
        """All endpoints together saw no POST more than once, and most of them."""
        posts = Counter(line.split()[1] for line in self._log.read_text().splitlines() if line.startswith("POST "))
        assert len(posts) > POST_RATE * (WELL_S + FAULT_S) / 2
        assert not {one: times for one, times in posts.items() if times > 1}

    def assert_back_in_time(self) -> None:
        assert all(one is not None and one < BACK_WITHIN_S for one in self.back_s), self.back_s

    def assert_no_defect(self) -> None:
        assert not [line for line in self.daemon.log_lines() if line.get("level") == "error"]


@pytest.fixture
def ordeal(start: Daemons, tmp_path: Path) -> Iterator[Callable[[int], Ordeal]]:
    """`ordeal(number of endpoints)`."""
    with ExitStack() as stack:

        def make(total: int) -> Ordeal:
            log = tmp_path / "requests.log"
            ports = enumerate(free_ports(total))
            endpoints = [stack.enter_context(EndpointProcess(f"e{number}", port, log)) for number, port in ports]
            return Ordeal(start, endpoints, log)

        yield make


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        pytest.param(EndpointProcess.kill, EndpointProcess.start, id="killed"),
        pytest.param(EndpointProcess.pause, EndpointProcess.resume, id="paused"),
        pytest.param(lambda one: one.answer(delay_s=2), EndpointProcess.answer, id="slow"),
        pytest.param(lambda one: one.answer(503), EndpointProcess.answer, id="503"),
    ],
)
def test_no_idempotent_request_fails_while_half_of_the_endpoints_are_well(
    ordeal: Callable[[int], Ordeal], begin: Change, end: Change
) -> None:
    """2 of 4: a first retry may meet the other one that fails. Traffic is back within a health interval."""
    four = ordeal(4)
    four.run(2, begin, end)
    assert not four.failures("GET")
    four.assert_never_twice()
    four.assert_back_in_time()
    four.assert_no_defect()


def test_refused_connections_fail_no_request_while_one_endpoint_is_well(ordeal: Callable[[int], Ordeal]) -> None:
    """With 1 of 3 left, health is ignored (a panic), and the dead are tried now and then: refusals alone cost nothing.

    Not to a POST either, which fails over because nothing of it was sent; but what was under way on a connection of the
    killed is lost to it. After 3 s they are skipped for the third time, for 4 s: the revived do not wait for that.
    """
    three = ordeal(3)
    three.run(2, EndpointProcess.kill, EndpointProcess.start, fault_s=3.5)
    assert not three.failures("GET")
    assert set(three.failures("POST")) <= {(502, "reset")}
    three.assert_never_twice()
    three.assert_back_in_time()
    three.assert_no_defect()
