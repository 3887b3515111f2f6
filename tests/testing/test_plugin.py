"""The plugin in whole test runs of an app: what passes, what fails and how it is told, what is left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from textwrap import dedent

import pytest

import sidecar.testing
from tests.support.eventually import eventually
from tests.testing.inner_run import ROOT, InnerRun, ended
from tests.testing.test_sidecar_process import gone

PASSING = """
    import asyncio
    import json
    import os
    import urllib.error
    import urllib.request

    import aiohttp
    import pytest

    os.environ["SIDECAR_URL"] = "http://before:1"

    def get(path):
        with urllib.request.urlopen(os.environ["SIDECAR_URL"] + path, timeout=10) as answer:
            return json.load(answer)

    def test_sync(fake):
        fake.venue.get("/events/1").fails(status=503, times=2).then(json={"id": 1})
        assert get("/venue/events/1") == {"id": 1}
        fake.venue.get("/events/1").assert_called(times=3)

    async def test_async(fake):
        fake.payment.post("/charges").delays(0.05).then(status=201, json={"ok": True})
        async with aiohttp.ClientSession(fake.url) as session:
            async with asyncio.timeout(10), session.post("/payment/charges", json={"amount": 3}) as answer:
                assert (answer.status, await answer.json()) == (201, {"ok": True})
        assert fake.payment.calls[0].json() == {"amount": 3}

    async def test_async_app_that_is_called_back(fake):
        \"\"\"The fakes do not need the test's loop, nor does the test need theirs.\"\"\"
        fake.venue.get("/x").then(json=1)
        async with aiohttp.ClientSession() as session:
            async def one():
                async with session.get(fake.venue.url + "/x") as answer:
                    return await answer.json()
            assert await asyncio.gather(*[one() for _ in range(20)]) == [1] * 20

    def test_breaker_opens_here(fake):
        fake.venue.breaker.open()
        assert fake.venue.breaker.state == "open"

    def test_and_is_closed_here(fake):
        assert fake.venue.breaker.state == "closed"

    @pytest.fixture(scope="session")
    def app(sidecar_url):
        return sidecar_url

    def test_without_it_the_variable_is_the_same(app):
        assert os.environ["SIDECAR_URL"] == app

    def test_an_app_that_was_started_before(app, fake):
        assert app == fake.url == os.environ["SIDECAR_URL"]

    @pytest.fixture
    def client(fake):
        fake.venue.get("/of-a-fixture").then(json=2)
        yield lambda: get("/venue/of-a-fixture")
        get("/venue/of-a-fixture")  # the fakes are still there

    def test_a_fixture_that_scripts(client):
        assert client() == 2

    def test_nothing_asked_for_is_no_failure(fake):
        fake.venue.get("/x").fails(times=3).then()

    @pytest.mark.xfail(strict=True)
    def test_unscripted_can_be_expected(fake):
        assert fake.venue
        with pytest.raises(urllib.error.HTTPError) as refused:
            get("/venue/x")
        refused.value.close()

    class TestClass:
        def test_method(self, fake):
            assert fake.venue.calls == []

    def test_nothing_is_kept_of_a_test_that_is_over(request):
        from sidecar.testing.plugin import FAKES
        assert [item for item in request.session.items if FAKES in item.stash] == []
"""


def test_sync_and_async_tests_with_any_client(tmp_path: Path) -> None:
    done = InnerRun(tmp_path, PASSING).run()
    assert done.counts() == {"passed": 11, "xfailed": 1}, done.output
    assert done.code == 0


BEHIND_A_PROXY = """
    import urllib.request

    def test_an_http_client_of_the_apps_own(fake):
        fake.venue.get("/x").then()
        with urllib.request.urlopen(fake.venue.url + "/x", timeout=10) as answer:
            assert answer.status == 200
"""


def test_behind_a_proxy_an_apps_own_client_reaches_the_fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    for name in ("http_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    done = InnerRun(tmp_path, BEHIND_A_PROXY).run()
    assert done.counts() == {"passed": 1}, done.output


FAILING = """
    import http.client
    import pytest

    def get(fake, path, method="GET"):
        connection = http.client.HTTPConnection(fake.url.removeprefix("http://"), timeout=10)
        connection.request(method, path)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    def test_unscripted(fake):
        fake.venue.get("/event/1").then()
        assert get(fake, "/venue/events/1") == 501

    def test_allowed(fake):
        fake.venue.allow_unexpected()
        assert get(fake, "/venue/events/1") == 501

    def test_a_function_that_fails(fake):
        fake.venue.get("/x").answers(lambda call: 1 / 0)
        assert get(fake, "/venue/x") == 500

    def test_nobody_named_it(fake):
        fake.venue.get("/x").then()
        assert get(fake, "/payment/charges", "POST") == 404

    def test_nobody_names_it_on_purpose(fake):
        fake.allow_unknown("payment")
        assert get(fake, "/payment/charges", "POST") == 404

    def test_the_sidecar_dies(fake, sidecar_stage):
        sidecar_stage.process._process.kill()
        sidecar_stage.process._process.wait(10)

    def test_and_another_one_is_there(fake):
        fake.venue.get("/x").then()
        assert get(fake, "/venue/x") == 200

    def test_bad_policy(fake):
        fake.venue.policy(retry={"max_retry": 0})  # this line
        raise AssertionError("not reached")

    def test_count(fake):
        fake.venue.get("/x").then()
        get(fake, "/venue/x")
        fake.venue.get("/x").assert_called(times=2)  # that line

    def test_wrong_itself(fake):
        assert fake.venue
        assert get(fake, "/venue/asked", "DELETE") == 204
"""


def test_a_failure_says_what_to_do(tmp_path: Path) -> None:
    done = InnerRun(tmp_path, FAILING).run()
    out = done.output
    assert done.counts() == {"passed": 3, "failed": 7}, out
    unscripted, rest = out.split("_ test_a_function_that_fails _")
    function, rest = rest.split("_ test_nobody_named_it _")
    unknown, rest = rest.split("_ test_the_sidecar_dies _")
    dead, rest = rest.split("_ test_bad_policy _")
    policy, rest = rest.split("_ test_count _")
    count, wrong = rest.split("_ test_wrong_itself _")

    assert 'nothing is scripted for GET /events/1 of the fake "venue"' in unscripted
    assert 'script it: fake.venue.get("/events/1").then(json={...})' in unscripted
    assert "did you mean GET /event/1?" in unscripted
    assert "plugin.py" not in unscripted
    assert "warning GET /venue/events/1: 501 status" in unscripted

    assert function.count("ZeroDivisionError: division by zero") == 1
    assert function.count("the function that answers GET /x failed:") == 1

    assert "the app called service 'payment' (POST /payment/charges), which this test does not script" in unknown
    assert 'script it: fake.payment.post("/charges").then(json={...})' in unknown
    assert "warning POST /payment/charges: 404 unknown_service" in unknown

    assert dead.count("the sidecar has ended by itself (killed by SIGKILL); the next test gets a new one") == 1

    assert '>       fake.venue.policy(retry={"max_retry": 0})  # this line' in policy
    assert "services.venue.retry.max_retry: unknown key; did you mean max_retries?" in policy
    assert "service.py" not in policy

    assert '>       fake.venue.get("/x").assert_called(times=2)  # that line' in count
    assert "venue: GET /x was called once, expected 2 times. All calls of this service:" in count
    assert "script.py" not in count
    assert "log of the sidecar" in count
    assert "info GET /venue/x: 200 ok" in count
    assert "/venue/events/1" not in count, "the log of another test"

    assert "assert 501 == 204" in wrong
    assert "calls to the fakes" in wrong
    assert "1. DELETE /asked: 501, nothing is scripted for it" in wrong
    assert 'script it: fake.venue.delete("/asked").then' in wrong


def test_a_failure_after_the_end_of_all_is_told_too(tmp_path: Path) -> None:
    """The last test's teardown is the run's."""
    tests = """
    import pytest

    @pytest.fixture
    def app(fake):
        fake.venue.get("/x").then()
        yield
        raise RuntimeError("the app's own")

    def test_last(app): ...
    """
    done = InnerRun(tmp_path, tests).run()
    assert done.counts() == {"passed": 1, "error": 1}, done.output
    assert "RuntimeError: the app's own" in done.output


LATE = """
    import os
    import urllib.error
    import urllib.request

    import pytest

    def get(path):
        try:
            with urllib.request.urlopen(os.environ["SIDECAR_URL"] + path, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    @pytest.fixture
    def app(fake):
        fake.venue.get("/x").then()
        yield
        get("/venue/goodbye")
        get("/payment/goodbye")

    def test_leaves_without_a_script(app): ...

    def test_has_failed_already(app):
        get("/venue/hello")

    def test_leaves_as_it_may(app, fake):
        fake.venue.allow_unexpected()
        fake.allow_unknown("payment")
"""


def test_a_fault_of_a_fixtures_teardown_fails_the_test(tmp_path: Path) -> None:
    done = InnerRun(tmp_path, LATE).run()
    assert done.counts() == {"passed": 2, "failed": 1, "error": 2}, done.output
    assert done.code == 1
    first, _, rest = done.output.partition("_ ERROR at teardown of test_has_failed_already _")
    assert "_ ERROR at teardown of test_leaves_without_a_script _" in first
    second, _, rest = rest.partition("_ test_has_failed_already _")
    for told in (first, second):
        assert told.count('nothing is scripted for GET /goodbye of the fake "venue"') == 1
        assert "the app called service 'payment' (GET /payment/goodbye), which this test does not script" in told
        assert "calls to the fakes" in told
        assert "/hello of the fake" not in told  # that was told before
    assert 'nothing is scripted for GET /hello of the fake "venue"' in rest


AGAIN = """
    import pytest
    from _pytest.runner import runtestprotocol

    class Reruns:
        \"\"\"As pytest-rerunfailures does it.\"\"\"

        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_protocol(self, item, nextitem):
            for number in range(2):
                if number:
                    item._initrequest()
                for report in runtestprotocol(item, nextitem=nextitem, log=False):
                    item.ihook.pytest_runtest_logreport(report=report)
            return True

    def pytest_configure(config):
        config.pluginmanager.register(Reruns())
"""

RERUN = """
    import os
    import urllib.error
    import urllib.request

    import pytest

    runs = []

    def test_again(fake):
        runs.append(1)
        assert fake.venue
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(os.environ["SIDECAR_URL"] + f"/venue/run-{len(runs)}", timeout=10)
        refused.value.close()
        assert len(runs) == 1, "the second time it fails itself"
"""


def test_a_test_that_is_run_again_is_told_of_anew(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(dedent(AGAIN))
    done = InnerRun(tmp_path, RERUN).run()
    assert done.counts() == {"failed": 2}, done.output
    first, _, second = done.output.partition("AssertionError: the second time it fails itself")
    assert first.count("nothing is scripted for GET /run-1 ") == 1
    assert second.count("fakes: why this test fails too") == 1, done.output
    assert second.count("nothing is scripted for GET /run-2 ") == 1
    assert "run-1" not in second.partition("short test summary")[0]


FROZEN = """
    import datetime
    import os
    import time
    import urllib.error
    import urllib.request

    import pytest

    REAL = {name: getattr(time, name) for name in ("time", "monotonic", "perf_counter", "time_ns", "monotonic_ns")}

    @pytest.fixture(autouse=True)
    def frozen(monkeypatch):
        for name in REAL:
            at = REAL[name]() + {"time": 86400 * 400, "time_ns": 86400 * 400 * 10**9}.get(name, 0)
            monkeypatch.setattr(time, name, lambda at=at: at)

    def get(path):
        with urllib.request.urlopen(os.environ["SIDECAR_URL"] + path, timeout=10) as answer:
            return answer.read()

    def test_a_delay_ends(fake):
        fake.venue.get("/x").delays(0.2).then(json=1)
        begun = time.clock_gettime(time.CLOCK_MONOTONIC)
        assert get("/venue/x") == b"1"
        assert time.clock_gettime(time.CLOCK_MONOTONIC) - begun >= 0.19

    def test_a_body_in_pieces(fake):
        fake.venue.get("/x").drips(["a", "b"], every=0.1)
        assert get("/venue/x") == b"ab"

    def test_stray(fake):
        assert fake.venue
        with pytest.raises(urllib.error.HTTPError) as refused:
            get("/payment/x")
        refused.value.close()
"""


def test_a_clock_that_stands_still(tmp_path: Path) -> None:
    done = InnerRun(tmp_path, FROZEN).run()
    assert done.counts() == {"passed": 2, "failed": 1}, done.output
    assert "the app called service 'payment' (GET /payment/x), which this test does not script" in done.output
    assert "warning GET /payment/x: 404 unknown_service" in done.output


NO_PORT_OF_THE_MACHINE = """
    import os

    import pytest

    @pytest.fixture
    def app():
        yield
        assert os.environ.get("SIDECAR_URL") == URLS[-1]

    URLS = []

    def test_first(app, fake):
        URLS.append(fake.url)

    def test_between(app):
        assert os.environ["SIDECAR_URL"] == URLS[-1]

    def test_last(fake):
        assert fake.url == URLS[-1]
"""


def test_no_app_reaches_the_sidecar_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a fixture does that goes on after the fakes, or an app in a test without them."""
    monkeypatch.delenv("SIDECAR_URL", raising=False)
    done = InnerRun(tmp_path, NO_PORT_OF_THE_MACHINE).run()
    assert done.counts() == {"passed": 3}, done.output


UNUSED = """
    import sys

    def test_nothing(request):
        heavy = {"aiohttp", "msgspec", "yaml", "multidict", "sidecar.testing.stage", "sidecar.client", "sidecar.config"}
        assert not heavy & set(sys.modules)
        assert "sidecar.testing.plugin" in sys.modules
"""


def test_a_run_that_does_not_use_it_pays_nothing(tmp_path: Path) -> None:
    # These two import aiohttp themselves.
    without = (
        "-p",
        "no:aiohttp",
        "-p",
        "no:asyncio",
        "-o",
        "asyncio_mode=",
        "-W",
        "ignore::pytest.PytestConfigWarning",
    )
    done = InnerRun(tmp_path, UNUSED, args=without).run()
    assert done.counts() == {"passed": 1}, done.output


def test_the_plugin_s_own_import_is_a_few_milliseconds() -> None:
    code = (
        "import pytest, time; began = time.process_time()\n"
        "import sidecar.testing.plugin\n"
        "print(time.process_time() - began)"
    )
    took = [
        float(subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout)
        for _ in range(3)
    ]
    assert min(took) < 0.01, took


APP = """
    import os
    import pytest

    @pytest.fixture
    def fake():
        return "the app's own"

    def test_another_name(fake, sidecar_fakes):
        assert fake == "the app's own"
        sidecar_fakes["venue-service"].get("/x").then()

    def test_did_you_mean(sidecar_fakes):
        sidecar_fakes.venue_service
"""


def test_the_app_s_file_and_the_app_s_own_fake(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "app.yaml").write_text("services: {venue-service: {url: 'http://venue-service:3002'}}")
    done = InnerRun(tmp_path, APP, ini="sidecar_config = config/app.yaml\n").run()
    assert done.counts() == {"passed": 1, "failed": 1}, done.output
    assert "there is no service 'venue_service'" in done.output
    assert 'did you mean fake["venue-service"]?' in done.output


def test_a_file_that_is_wrong_fails_each_test_in_words(tmp_path: Path) -> None:
    tests = """
    def test_one(fake): ...
    def test_two(fake): ...
    """
    done = InnerRun(tmp_path, tests, ini="sidecar_config = missing.yaml\n").run()
    assert done.counts() == {"error": 2}, done.output
    words = f"sidecar_config: {tmp_path / 'missing.yaml'} cannot be read: No such file or directory"
    errors, _ = done.output.split("short test summary")
    assert errors.count(words) == 2
    assert "Traceback" not in done.output
    assert "During handling" not in done.output

    (tmp_path / "wrong.yaml").write_text("services:\n  venue:\n    urll: http://venue-service:3002\n")
    done = InnerRun(tmp_path, tests, ini="sidecar_config = wrong.yaml\n").run()
    assert done.counts() == {"error": 2}, done.output
    errors, _ = done.output.split("short test summary")
    assert errors.count("wrong.yaml:3") == 2
    assert "During handling" not in done.output
    assert "did you mean url?" in done.output


WAITING = """
    import time
    from pathlib import Path

    def test_waiting(fake, sidecar_stage):
        fake.venue.get("/x").then()
        Path("pids").write_text(f"{sidecar_stage.process.pid} {sidecar_stage.process._reaper.pid}")
        time.sleep(60)
"""


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    run = InnerRun(tmp_path, WAITING).start()
    pids = eventually(lambda: _pids(tmp_path), timeout=30)
    assert not any(map(gone, pids))
    run.send_signal(signal.SIGINT)
    done = ended(run)
    assert "KeyboardInterrupt" in done.output
    assert all(map(gone, pids))


def _pids(folder: Path) -> list[int]:
    path = folder / "pids"
    assert path.exists()
    first, second = path.read_text().split()
    return [int(first), int(second)]


def test_workers_side_by_side_do_not_meet(tmp_path: Path) -> None:
    """With pytest-xdist: each worker has a sidecar and ports of its own."""
    tests = """
    import json, pytest, urllib.request

    @pytest.mark.parametrize("number", range(40))
    def test_mine(fake, number):
        fake.venue.get("/who").then(json=number)
        with urllib.request.urlopen(fake.venue.url + "/who", timeout=10) as answer:
            assert json.load(answer) == number
        fake.venue.assert_called(times=1)
    """
    done = InnerRun(tmp_path, tests, args=("-n", "2")).run()
    assert done.counts() == {"passed": 40}, done.output


def test_each_public_name_is_there() -> None:
    assert [name for name in sidecar.testing.__all__ if not hasattr(sidecar.testing, name)] == []
    assert not hasattr(sidecar.testing, "nothing")


def test_pytest_finds_the_plugin_by_itself() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"sidecar": "sidecar.testing.plugin"}
