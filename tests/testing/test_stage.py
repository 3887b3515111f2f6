"""Each test begins with nothing of the one before, in little time; services by name."""

from __future__ import annotations

import os
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sidecar.testing.errors import FakeError
from sidecar.testing.sidecar_process import SidecarProcess
from sidecar.testing.stage import Fakes, Stage
from tests.support.daemon import cpu_seconds
from tests.support.eventually import eventually
from tests.testing.asking import Answered, ask

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def one_test(stage: Stage) -> Iterator[Fakes]:
    fakes = stage.fakes()
    try:
        yield fakes
    finally:
        fakes.close()


def test_a_breaker_opened_in_one_test_is_closed_in_the_next(stage: Stage) -> None:
    policy = {"breaker": {"volume_threshold": 3}, "retry": {"max_retries": 0}}
    with one_test(stage) as fake:
        fake.venue.policy(**policy)
        fake.venue.get("/x").fails(500)
        for _ in range(3):
            ask(fake.venue.url + "/x")
        assert fake.venue.breaker.state == "open"
    with one_test(stage) as fake:
        fake.venue.policy(**policy)
        assert fake.venue.breaker.state == "closed"
        fake.venue.get("/x").then().fails(500)
        assert [ask(fake.venue.url + "/x").status for _ in range(3)] == [200, 500, 500]
        # Three calls and two failures: with those of the test before it would have opened earlier.
        assert fake.venue.breaker.state == "open"


def test_a_breaker_forced_in_one_test_is_free_in_the_next(stage: Stage) -> None:
    for force in ("open", "close"):
        with one_test(stage) as fake:
            getattr(fake.venue.breaker, force)()
        with one_test(stage) as fake:
            assert fake.venue.breaker.state == "closed"
            assert stage.admin.service("venue")["breaker"]["forced"] is None


def test_counts_budgets_and_skipped_endpoints_begin_anew(stage: Stage) -> None:
    with one_test(stage) as fake:
        fake.venue.get("/x").fails()
        fake.payment.down()
        for _ in range(3):
            ask(fake.venue.url + "/x")
            ask(fake.payment.url + "/x")
        assert stage.admin.service("venue")["budget"]["spent"] > 0
    with one_test(stage) as fake:
        for service in (fake.venue, fake.payment):
            found = stage.admin.service(service.name)
            assert (found["requests"], found["retries"], found["budget"]["spent"]) == (0, 0, 0)
            (endpoint,) = found["endpoints"]
            assert endpoint["skipped_until"] is None
            assert service.calls == []


def test_a_stale_answer_of_one_test_is_not_given_in_the_next(stage: Stage) -> None:
    policy = {"fallback": [{"stale": "5m"}], "retry": {"max_retries": 0}}
    with one_test(stage) as fake:
        fake.venue.policy(**policy)
        fake.venue.get("/x").then(json=1).fails(503)
        assert [ask(fake.venue.url + "/x").status for _ in range(2)] == [200, 200]
    with one_test(stage) as fake:
        fake.venue.policy(**policy)
        fake.venue.get("/x").fails(503)
        assert ask(fake.venue.url + "/x").status == 503


def test_policies_and_scripts_begin_anew(stage: Stage) -> None:
    with one_test(stage) as fake:
        fake.venue.policy(retry={"max_retries": 0})
        fake.venue.get("/x").then()
    with one_test(stage) as fake:
        fake.venue.get("/y").fails().then()
        assert ask(fake.venue.url + "/y").status == 200
        assert ask(fake.venue.url + "/x").status == 501


def test_a_request_of_one_test_never_reaches_the_fake_of_the_next(stage: Stage) -> None:
    outcomes: list[Answered] = []
    with one_test(stage) as fake:
        fake.venue.get("/late").hangs()
        client = threading.Thread(target=lambda: outcomes.append(ask(fake.venue.url + "/late")))
        client.start()
        eventually(lambda: len(fake.venue.calls) == 1)
    with one_test(stage) as fake:
        fake.venue.get("/late").then()
        client.join(10)
        assert outcomes[0].status >= 500
        fake.venue.assert_not_called()


def test_a_test_that_is_over_has_no_fakes(stage: Stage) -> None:
    with one_test(stage) as fake:
        assert fake.venue
        url = fake.venue.url
    fake.close()  # twice is no harm
    assert ask(url + "/x").reason == "unknown_service"
    with pytest.raises(FakeError, match="over"):
        assert fake.venue


def test_what_a_test_costs(stage: Stage) -> None:
    """From before the fixture until after it, with two services: some 12 ms; the slow ones are the machine's.

    By the clock; or, where the machine is busy with other things, by the processor's time, the sidecar's included.
    """

    def cpu() -> float:
        return time.process_time() + cpu_seconds(stage.process.pid)

    took = []
    began = cpu()
    for _ in range(20):
        before = time.monotonic()
        with one_test(stage) as fake:
            fake.venue.get("/x").then()
            fake.payment.get("/x").then()
        took.append(time.monotonic() - before)
    on_average = (cpu() - began) / len(took)
    assert min(sorted(took)[5], on_average) < 0.05, (on_average, took)
    assert sorted(took)[5] < 0.15, took  # nor does it wait for anything


def test_services_by_attribute_or_by_name(fakes: Fakes) -> None:
    assert fakes.venue is fakes["venue"]
    fakes["venue-service"].get("/x").then()
    assert ask(fakes["venue-service"].url + "/x").status == 200
    assert ask(fakes["venue-service"].url + "/y").status == 501
    assert 'fake["venue-service"].get("/y").then' in fakes.problems()[0]
    assert fakes["url"].name == "url"
    assert ask(fakes["url"].url + "/y").status == 501
    assert 'fake["url"].get' in fakes.problems()[1]


def test_names_that_python_asks_for_make_no_services(fakes: Fakes) -> None:
    assert not hasattr(fakes, "__wrapped__")
    assert not hasattr(fakes, "_repr_html_")
    assert repr(fakes) == f"<fakes of no service yet behind {fakes.url}>"


def test_a_name_that_no_service_can_have(fakes: Fakes) -> None:
    with pytest.raises(FakeError, match="rejects a service named 'a b'"):
        assert fakes["a b"]
    fakes.venue.get("/x").then()
    assert ask(fakes.venue.url + "/x").status == 200


def test_within_the_fakes_a_proxy_does_not_stand_before_them(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    for name in ("http_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with stage.fakes() as fake:
        fake.venue.get("/x").then(json={})
        of_the_apps_own = urllib.request.build_opener()  # it reads the environment now
        with of_the_apps_own.open(fake.venue.url + "/x", timeout=10) as answer:
            assert answer.status == 200
        assert len(fake.venue.calls) == 1


def test_what_was_asked_and_logged_is_there_for_a_report(fakes: Fakes) -> None:
    fakes.venue.get("/x").then()
    assert fakes.payment
    ask(fakes.venue.url + "/x")
    assert fakes.told() == "venue:\n   1. GET /x: 200 (+0.000 s)"
    (line,) = fakes.sidecar_log().splitlines()
    assert " info GET /venue/x: 200 ok, " in line


APP = """
defaults: {retry: {max_retries: 1}, health: {path: /health, interval: 10ms}}
services:
  venue-service:
    url: http://venue-service:3002
    hosts: [venue]
    routes: [{match: {path: /reports}, retry: {max_retries: 0}}]
  payment: {url: "${PAYMENT_URL}"}
aggregates:
  page: {parts: {venue: {service: venue-service, path: /v}, payment: {service: payment, path: /p}}}
"""


@pytest.fixture(scope="module")
def app_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    path = tmp_path_factory.mktemp("app") / "sidecar.yaml"
    path.write_text(APP)
    stage = Stage(path)
    yield stage
    stage.close()


def test_the_app_s_own_file_counts(app_stage: Stage) -> None:
    with one_test(app_stage) as fake:
        venue = fake["venue-service"]
        venue.any().fails(503)
        ask(venue.url + "/x")
        venue.assert_called(times=2)
        ask(venue.url + "/reports")
        venue.assert_called(times=3)
        assert ask(fake.url + "/x", headers={"Host": "venue"}).status == 503


def test_its_aggregates_too(app_stage: Stage) -> None:
    with one_test(app_stage) as fake:
        fake["venue-service"].get("/v").then(json=1)
        fake.payment.get("/p").then(json=2)
        found = ask(fake.url + "/_aggregate/page").json()
        assert (found["venue"], found["payment"]) == (1, 2)


def test_a_service_of_the_file_that_no_test_names_is_a_fake_all_the_same(app_stage: Stage) -> None:
    with one_test(app_stage) as fake:
        assert ask(fake.url + "/payment/x").status == 501
        assert len(fake.problems()) == 1


def test_a_call_of_a_service_that_the_file_does_not_have(app_stage: Stage) -> None:
    with one_test(app_stage) as fake:
        assert ask(fake.url + "/paymnt/x").reason == "unknown_service"
        (problem,) = fake.problems()
        assert problem.startswith("the app called service 'paymnt' (GET /paymnt/x): there is no service 'paymnt' in ")
        assert "did you mean fake.payment?" in problem


def test_a_service_that_the_file_does_not_have(app_stage: Stage) -> None:
    with one_test(app_stage) as fake:
        with pytest.raises(FakeError, match=r"no service 'paymnt' in .*; did you mean fake\.payment\?"):
            assert fake.paymnt
        with pytest.raises(FakeError, match=r'did you mean fake\["venue-service"\]\?'):
            assert fake.venue_service
        with pytest.raises(FakeError, match=r"it has venue-service, payment$"):
            assert fake.zzz


def test_a_file_that_the_sidecar_refuses_is_refused_in_its_words(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text("services:\n  venue:\n    url: http://venue:1\n    timeouts: {attempt: 1s}\n")
    stage = Stage(path)
    try:
        with pytest.raises(FakeError) as refused:
            stage.fakes()
    finally:
        stage.close()
    assert f"the sidecar rejects {path}:" in str(refused.value)
    assert "sidecar.yaml:4" in str(refused.value)
    assert "did you mean timeout?" in str(refused.value)


def test_a_sidecar_that_ended_is_said_and_the_next_test_has_another() -> None:
    stage = Stage()
    said = "the sidecar has ended by itself (killed by SIGKILL); the next test gets a new one"
    try:
        with one_test(stage) as fake:
            fake.venue.get("/x").then()
            fake.venue.breaker.open(retry_after=1)
            url = fake.url
            os.kill(stage.process.pid, signal.SIGKILL)
            eventually(lambda: not stage.process.running)
            assert fake.problems()[0].splitlines()[0] == said
            with pytest.raises(FakeError, match="ended by itself"):
                assert fake.payment
        with one_test(stage) as fake:
            fake.venue.get("/x").then(201)
            assert fake.url == url
            assert ask(fake.venue.url + "/x").status == 201
            assert fake.problems() == []
    finally:
        stage.close()


def test_a_service_that_no_test_named(stage: Stage) -> None:
    with one_test(stage) as fake:
        fake.venue.get("/x").then()
        for _ in range(2):
            assert ask(fake.url + "/payment/charges", "POST", b"{}").reason == "unknown_service"
        assert [problem.splitlines() for problem in fake.problems()] == [
            [
                "the app called service 'payment' (POST /payment/charges), which this test does not script",
                '  script it: fake.payment.post("/charges").then(json={...})',
                "  (a Host in place of the path counts if it is the service's name without a port)",
                "  if the app is supposed to get 404 unknown_service: fake.allow_unknown('payment')",
                "  (this happened 2 times)",
            ]
        ]
        fake.payment.post("/charges").then()
        assert "before this test named it: name fake.payment earlier" in fake.problems()[0]
    assert len(fake.problems()) == 1, "as it was when the test ended"
    with one_test(stage) as fake:
        assert fake.problems() == []


def test_a_service_that_is_meant_to_be_unknown(stage: Stage) -> None:
    with one_test(stage) as fake:
        fake.allow_unknown("payment", "mail")
        ask(fake.url + "/payment/")
        assert fake.problems() == []
        ask(fake.url + "/file/")
        assert len(fake.problems()) == 1
        fake.allow_unknown()
        fake.allow_unknown("file")
        ask(fake.url + "/venue/")
        assert fake.problems() == []


def test_what_is_no_request_is_a_problem_too(stage: Stage) -> None:
    with one_test(stage) as fake:
        assert ask(fake.url + "/venue/", headers={"Content-Length": "x"}).reason == "bad_request"
        (problem,) = fake.problems()
        assert problem.startswith("the sidecar refused ")
        assert ": 400 bad_request, " in problem
        assert ask(fake.url + "/", headers={"Host": "payment"}).reason == "unknown_service"
        assert "GET /: 404 unknown_service, the path names no service" in fake.problems()[1]
        fake.allow_unknown()
        assert fake.problems() == []


def test_requests_between_tests_are_nobody_s(stage: Stage) -> None:
    with one_test(stage) as fake:
        url = fake.url
    ask(url + "/payment/charges")
    with one_test(stage) as fake:
        assert fake.problems() == []


def test_fakes_of_more_than_one_test(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDECAR_URL", "http://before:1")
    with stage.fakes() as fake:
        assert os.environ["SIDECAR_URL"] == fake.url
        with pytest.raises(FakeError, match="wider scope are in use"):
            stage.fakes()
        fake.venue.get("/x").then(201)
        assert ask(fake.venue.url + "/x").status == 201
    assert os.environ["SIDECAR_URL"] == "http://before:1"
    monkeypatch.delenv("SIDECAR_URL")
    with pytest.raises(AssertionError, match="nothing is scripted for GET /x"), stage.fakes() as fake:
        ask(fake.venue.url + "/x")
    assert "SIDECAR_URL" not in os.environ
    with pytest.raises(KeyError), stage.fakes() as fake:
        raise KeyError(ask(fake.venue.url + "/x").status)
    assert fake.closed


def test_all_that_is_scripted_was_asked_for(fakes: Fakes) -> None:
    fakes.assert_all_called()
    fakes.venue.get("/x").fails().then()
    fakes.payment.post("/charges").then()
    assert fakes.payment.get("/looked/at").calls == []
    assert ask(fakes.venue.url + "/x").status == 200
    with pytest.raises(AssertionError) as failed:
        fakes.assert_all_called()
    assert str(failed.value).splitlines()[:3] == [
        "scripted, but never called:",
        "  payment: POST /charges",
        "All calls:",
    ]
    assert ask(fakes.payment.url + "/charges", "POST", b"").status == 200
    fakes.assert_all_called()


def test_a_start_that_is_interrupted_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[SidecarProcess] = []

    def interrupted(process: SidecarProcess) -> None:
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(SidecarProcess, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Stage()
    assert not started[0].running
    assert not started[0].path.parent.exists()


def test_the_reference_file_can_be_an_app_s() -> None:
    stage = Stage(ROOT / "config" / "sidecar.yaml")
    try:
        with one_test(stage) as fake:
            fake.scanning.get("/x").then()
            assert ask(fake.scanning.url + "/x").status == 200
    finally:
        stage.close()
