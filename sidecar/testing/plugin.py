"""The pytest plugin: the fixture `fake`, and what a test's failure says of the fakes and the sidecar.

Imports pytest and nothing else until a test asks for the fixture: test runs that do not, pay nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from sidecar.testing.stage import Fakes, Stage

FAKES: Final = pytest.StashKey["Fakes"]()
SAID: Final = pytest.StashKey[bool]()
"""Of a test that failed by its fakes' problems alone: its report has them already."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "sidecar_config",
        "the app's own sidecar file, relative to the root directory: its services, policies and routes count in tests, "
        "with fakes for endpoints. Default: none, and a service is there once a test names it",
    )


@pytest.fixture(scope="session")
def sidecar_stage(pytestconfig: pytest.Config) -> Iterator[Stage]:
    """The sidecar process and the fakes' thread of this test run; `fake` is the fixture for tests."""
    from sidecar.testing.errors import FakeError
    from sidecar.testing.stage import Stage

    named = str(pytestconfig.getini("sidecar_config") or "")
    words = ""
    try:
        stage = Stage(pytestconfig.rootpath / named if named else None)
    except FakeError as error:
        words = str(error)
    if words:  # out of the except block: else pytest shows both exceptions, the one during the handling of the other
        pytest.fail(words, pytrace=False)
    yield stage
    stage.close()


@pytest.fixture(scope="session")
def sidecar_url(sidecar_stage: Stage) -> str:
    """The same for the whole test run, for what an app reads before its first test. `fake.url` in a test."""
    return sidecar_stage.process.url


@pytest.fixture
def sidecar_fakes(sidecar_stage: Stage, request: pytest.FixtureRequest) -> Iterator[Fakes]:
    """`fake`, by the name that is left where an app has a fixture `fake` of its own."""
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
    with pointed_at(fakes.url):
        yield fakes
    fakes.close()


@pytest.fixture
def fake(sidecar_fakes: Fakes) -> Fakes:
    """Fakes of the app's services, behind a real sidecar: `fake.venue.get("/events/1").then(json={...})`."""
    return sidecar_fakes


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fails a test that passed, where a fake was asked for what nobody scripted, or the sidecar for no fake."""
    result = yield
    fakes = item.stash.get(FAKES, None)
    problems = fakes.problems() if fakes is not None else []
    if problems:
        item.stash[SAID] = True
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
            "asked of the fakes": fakes.told(),
            "fakes: why this fails too": "\n".join(fakes.problems()),
            "log of the sidecar": fakes.sidecar_log(),
        }
        if item.stash.get(SAID, False):
            del sections["fakes: why this fails too"]
        report.sections += [(title, text) for title, text in sections.items() if text]
    if fakes is not None and report.when == "teardown":
        del item.stash[FAKES]  # items live as long as the run, and calls may be large
    return report
