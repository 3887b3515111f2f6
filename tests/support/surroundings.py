"""The environment that tests run in: the same on every machine, whatever the user's shell has set.

This module sets the variables of this process, and so those of all processes that tests start. A variable that is not
named here is removed. A configuration may refer to any name, so a list of names to remove could never be complete.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Final

FOUND: Final[Mapping[str, str]] = dict(os.environ)
"""The variables that the shell had set. Tests that install packages need its proxy, and pip's settings in its HOME."""

_KEPT: Final = re.compile(
    r"PATH|USER|LOGNAME|TMPDIR|LD_LIBRARY_PATH|LD_PRELOAD|CC|CI"  # where things are, and whose
    r"|PYTHON(PATH|HOME|UNBUFFERED|DONTWRITEBYTECODE|PYCACHEPREFIX|FAULTHANDLER)|VIRTUAL_ENV"
    r"|(PIP|UV)_\w+"  # where packages come from
    r"|(PYTEST|HYPOTHESIS|COVERAGE|COV)_\w+"  # about the run of the tests, not what they test
    r"|SIDECAR_(COMMAND|COMPILE|LIFE_CYCLES)"  # what is tested, and how often
)

_GIVEN: Final = {
    "LC_ALL": "C.UTF-8",
    # Not UTC, and not one of any server: what should say UTC and says local time is seen. It needs no tzdata.
    "TZ": "<+1245>-12:45",
}


def for_tests(found: Mapping[str, str], home: str) -> dict[str, str]:
    """The variables for tests if the shell has `found`. `home` is an empty folder that may be written to."""
    return {name: value for name, value in found.items() if _KEPT.fullmatch(name)} | _GIVEN | {"HOME": home}


def enter(home: str) -> None:
    """From now on, this process has only the variables of `for_tests`, and the usual file mode mask."""
    variables = for_tests(os.environ, home)
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)
    time.tzset()
    os.umask(0o022)
