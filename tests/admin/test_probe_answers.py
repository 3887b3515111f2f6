"""What is answered on each path of the probe listener; tests/admin/test_probe.py asks over a socket."""

from __future__ import annotations

import pytest

from sidecar.admin.probe_answers import STUCK_S, Answer, ProbeAnswers
from sidecar.health.report import Report


class Asked:
    ready = True
    late_s = 0.0
    age_s = 0
    status = "healthy"

    async def metrics(self) -> tuple[list[bytes], int]:
        return [b"a 1\n", b"b 2\n"], self.age_s

    async def health(self) -> Report:
        return Report(status=self.status, checks={}, services={})

    def answers(self) -> ProbeAnswers:
        return ProbeAnswers(lambda: self.ready, self.metrics, self.health, lambda: self.late_s)


def words(answer: Answer | None) -> tuple[int, str]:
    assert answer is not None
    return answer.status, b"".join(answer.body).decode()


@pytest.mark.parametrize(
    ("ready", "late_s", "livez", "readyz"),
    [
        (True, 0.0, (200, "ok\n"), (200, "ok\n")),
        (False, 0.0, (200, "ok\n"), (503, "draining\n")),
        (True, STUCK_S, (200, "ok\n"), (200, "ok\n")),
        (True, STUCK_S + 0.01, (503, "the event loop does not run\n"), (503, "the event loop does not run\n")),
        (False, STUCK_S + 0.01, (503, "the event loop does not run\n"), (503, "the event loop does not run\n")),
    ],
)
def test_alive_and_ready(ready: bool, late_s: float, livez: tuple[int, str], readyz: tuple[int, str]) -> None:
    asked = Asked()
    asked.ready, asked.late_s = ready, late_s
    answers = asked.answers()
    assert words(answers.at_once("GET", "/livez")) == words(answers.at_once("HEAD", "/livez")) == livez
    assert words(answers.at_once("GET", "/readyz")) == readyz


def test_other_methods_and_paths_are_refused_at_once() -> None:
    answers = Asked().answers()
    refused = answers.at_once("POST", "/metrics")
    assert refused is not None
    assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD")
    assert words(answers.at_once("GET", "/config"))[0] == 404


@pytest.mark.parametrize("path", ["/metrics", "/health"])
def test_what_is_made_in_slices_is_not_answered_at_once(path: str) -> None:
    assert Asked().answers().at_once("GET", path) is None


async def test_metrics_stay_in_pieces_and_say_their_age() -> None:
    asked = Asked()
    answer = await asked.answers().in_time("/metrics")
    assert (answer.status, answer.body) == (200, [b"a 1\n", b"b 2\n"])
    assert answer.headers == {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
    asked.age_s = 4
    assert (await asked.answers().in_time("/metrics")).headers["Age"] == "4"


@pytest.mark.parametrize(("status", "code"), [("healthy", 200), ("degraded", 200), ("unhealthy", 503)])
async def test_only_an_unhealthy_chain_is_an_error(status: str, code: int) -> None:
    asked = Asked()
    asked.status = status
    answer = await asked.answers().in_time("/health")
    assert (answer.status, answer.headers["Cache-Control"]) == (code, "no-store")
