"""The part of a service: what makes it degraded or unhealthy, and which endpoints are asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.health.report import REASONS, Endpoints, ServicePart
from sidecar.health.service_part import MOST_ASKED, Answers, ask, look, part
from tests.health.services import Asker, Breaker, Endpoint, StageService

A, UNWELL, OUT = Endpoint(), Endpoint(healthy=False), Endpoint(healthy=False, available=False)
GOOD, BAD = Answers(True, None, 0.002), Answers(False, "status", 0.002)
MIXED = Answers(True, "timeout", 0.002)


def judged(service: StageService, answers: Answers | None = None) -> tuple[str, str | None]:
    found = part(look(service, 0, 0.0), answers)
    return found.status, found.reason


@pytest.mark.parametrize(
    ("endpoints", "answers", "expected"),
    [
        ([A, A], None, ("healthy", None)),
        ([A], GOOD, ("healthy", None)),
        ([], None, ("unhealthy", "no_endpoint")),
        ([OUT, OUT], None, ("unhealthy", "no_endpoint")),
        ([A, OUT], None, ("degraded", "endpoints")),
        ([A, OUT], GOOD, ("degraded", "endpoints")),
        ([A, A], BAD, ("unhealthy", "status")),
        ([A, A], MIXED, ("degraded", "timeout")),
        # In a panic all are used, and none is healthy; the answer of one says more than what is known of it.
        ([UNWELL, UNWELL], None, ("unhealthy", "endpoints")),
        ([UNWELL, UNWELL], GOOD, ("degraded", "endpoints")),
        ([UNWELL, UNWELL], BAD, ("unhealthy", "status")),
    ],
)
def test_endpoints_and_their_answers(
    endpoints: list[Endpoint], answers: Answers | None, expected: tuple[str, str | None]
) -> None:
    assert judged(StageService(endpoints), answers) == expected


OPEN, DUE, HALF_OPEN = Breaker("open"), Breaker("open", due_in_s=0.0), Breaker("half_open")


@pytest.mark.parametrize(
    ("breakers", "mode", "breaker", "expected"),
    [
        ([OPEN], "enforce", "open", ("unhealthy", "circuit_open")),
        ([DUE], "enforce", "open", ("degraded", "circuit_open")),
        ([OPEN], "observe", "open", ("degraded", "circuit_open")),
        ([HALF_OPEN], "enforce", "half_open", ("degraded", "circuit_half_open")),
        ([Breaker(), OPEN], "enforce", "open", ("degraded", "circuit_open")),
        ([Breaker(), HALF_OPEN, Breaker()], "enforce", "half_open", ("degraded", "circuit_half_open")),
        ([HALF_OPEN, OPEN], "enforce", "open", ("degraded", "circuit_open")),
        ([OPEN, Breaker()], "enforce", "open", ("unhealthy", "circuit_open")),
    ],
)
def test_breakers(breakers: list[Breaker], mode: str, breaker: str, expected: tuple[str, str]) -> None:
    service = StageService(breakers=breakers, mode=mode)
    assert look(service, 0, 0.0).breaker == breaker
    assert judged(service) == expected


def test_endpoints_of_an_earlier_configuration_make_a_service_degraded() -> None:
    assert judged(StageService([A], outdated=True)) == ("degraded", "discovery")
    assert judged(StageService([A, OUT], breakers=[HALF_OPEN], outdated=True), MIXED) == ("degraded", "discovery")
    assert judged(StageService([A], outdated=True), BAD) == ("unhealthy", "status")
    assert judged(StageService([], outdated=True)) == ("unhealthy", "no_endpoint")


def test_the_worst_counts() -> None:
    assert judged(StageService([], breakers=[OPEN])) == ("unhealthy", "no_endpoint")
    assert judged(StageService([A], breakers=[HALF_OPEN]), BAD) == ("unhealthy", "status")
    assert judged(StageService([A, OUT], breakers=[HALF_OPEN]), MIXED) == ("degraded", "circuit_half_open")


def test_the_part_in_full() -> None:
    found = part(look(StageService([A, OUT]), 0, 0.0), replaced(GOOD, latency_s=0.00214))
    assert found == ServicePart(
        status="degraded", breaker="closed", endpoints=Endpoints(1, 2), latency_ms=2.1, reason="endpoints"
    )


def replaced(answers: Answers, latency_s: float) -> Answers:
    return answers._replace(latency_s=latency_s)


def named(names: str, **more: bool) -> list[Endpoint]:
    return [replace(A, name=name, **more) for name in names]


async def asked(service: StageService, run: int = 0) -> tuple[str, Answers | None]:
    asker = Asker()
    answers = await ask(service, look(service, run, 0.0).candidates, asker)
    return "".join(asker.asked), answers


async def test_endpoints_are_asked_in_turn() -> None:
    service = StageService(named("abc"), path="/health")
    assert [(await asked(service, run))[0] for run in range(4)] == ["a", "b", "c", "a"]


async def test_after_a_failure_another_endpoint_is_asked() -> None:
    service = StageService(named("abcd"), path="/health")
    service.endpoints[1].says = "status 503"
    assert await asked(service, 1) == ("bc", Answers(True, "status", 0.0021))
    for endpoint in service.endpoints:
        endpoint.says = "reset"
    assert await asked(service, 3) == ("dab", Answers(False, "reset", 0.0021))
    assert MOST_ASKED == 3


async def test_healthy_endpoints_are_asked_first_and_unavailable_ones_never() -> None:
    endpoints = [*named("a", healthy=False), *named("b", healthy=False, available=False), *named("c")]
    service = StageService(endpoints, path="/health")
    assert (await asked(service))[0] == "c"
    endpoints[2].says = "timeout"
    assert await asked(service) == ("ca", Answers(True, "timeout", 0.0021))


@pytest.mark.parametrize("service", [StageService(), StageService([], path="/"), StageService([OUT], path="/")])
async def test_what_is_not_asked(service: StageService) -> None:
    assert await asked(service) == ("", None)


@given(
    st.lists(st.builds(Endpoint, healthy=st.booleans(), available=st.booleans())),
    st.lists(st.builds(Breaker, st.sampled_from(["closed", "open", "half_open"])), min_size=1),
    st.sampled_from([None, GOOD, BAD, MIXED]),
)
def test_a_part_is_healthy_or_has_a_reason(
    endpoints: list[Endpoint], breakers: list[Breaker], answers: Answers | None
) -> None:
    status, reason = judged(StageService(endpoints, breakers=breakers), answers)
    assert (status == "healthy") is (reason is None)
    assert reason is None or reason in REASONS
