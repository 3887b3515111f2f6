"""The pytest plugin: the fixture `fake`, and what the report of a failed test says about fakes and sidecar.

It imports only pytest until a test asks for the fixture, so test runs without it lose no time.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from sidecar.testing.stage import Fakes, Stage

FAKES: Final = pytest.StashKey["Fakes"]()
TOLD: Final = pytest.StashKey[list[str]]()
"""The problems of a test's fakes that a report has. Only others fail it again."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "sidecar_config",
        "the app's own sidecar file, relative to the root directory. Tests then use its services, policies and routes, "
        "with fakes as endpoints. Default: no file; a service exists as soon as a test names it",
    )


@pytest.fixture(scope="session")
def sidecar_stage(pytestconfig: pytest.Config) -> Iterator[Stage]:
    """The sidecar process and the fakes' thread of this test run. Tests use the fixture `fake`.

    SIDECAR_URL is set from now on, between tests too: an app never calls the sidecar of the machine.
    """
    from sidecar.testing.environment import pointed_at
    from sidecar.testing.errors import FakeError
    from sidecar.testing.stage import Stage

    named = str(pytestconfig.getini("sidecar_config") or "")
    words = ""
    try:
        stage = Stage(pytestconfig.rootpath / named if named else None)
    except FakeError as error:
        words = str(error)
    if words:  # raised outside the except block, because pytest would otherwise show both exceptions
        pytest.fail(words, pytrace=False)
    with pointed_at(stage.process.url):
        yield stage
    stage.close()


@pytest.fixture(scope="session")
def sidecar_url(sidecar_stage: Stage) -> str:
    """The sidecar's URL. It is the same for the whole run, for apps that read it before the first test (`fake.url`)."""
    return sidecar_stage.process.url


@pytest.fixture
def sidecar_fakes(sidecar_stage: Stage, request: pytest.FixtureRequest) -> Iterator[Fakes]:
    """The same as `fake`, for apps that have a fixture `fake` of their own."""
    from sidecar.testing.environment import pointed_at
    from sidecar.testing.errors import FakeError

    words = ""
    try:
        fakes = sidecar_stage.fakes()
    except FakeError as error:
        words = str(error)
    if words:
        pytest.fail(words, pytrace=False)
    request.node.stash[FAKES] = fakes
    request.node.stash[TOLD] = []  # a test that is run again is judged anew
    with pointed_at(fakes.url):
        yield fakes
    problems = _new_problems(request.node)  # of fixtures that were torn down before this one
    fakes.close()
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def fake(sidecar_fakes: Fakes) -> Fakes:
    """Fakes of the app's services, behind a real sidecar: `fake.venue.get("/events/1").then(json={...})`."""
    return sidecar_fakes


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fails a test that passed, if a fake got a request without a script, or if the sidecar refused a request."""
    result = yield
    problems = _new_problems(item)
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fakes = item.stash.get(FAKES, None)
    if fakes is not None and report.failed:
        sections = {
            "calls to the fakes": fakes.told(),
            "fakes: why this test fails too": "\n".join(_new_problems(item)),
            "log of the sidecar": fakes.sidecar_log(),
        }
        report.sections += [(title, text) for title, text in sections.items() if text]
    if fakes is not None and report.when == "teardown":
        del item.stash[FAKES]  # an item lives until the end of the run, and calls may be large
    return report


def _new_problems(item: pytest.Item) -> list[str]:
    """The problems of the test's fakes that no report of it has yet. From now on they are told."""
    fakes = item.stash.get(FAKES, None)
    problems = fakes.problems() if fakes is not None else []
    told = item.stash.setdefault(TOLD, [])
    new = [problem for problem in problems if problem not in told]
    told += new
    return new
