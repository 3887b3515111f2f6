"""What tests need from a machine, and can be skipped without: programs of Debian's packages, IPv6, namespaces.

A test without one of them is skipped, with a reason that says what to install. The last line of the run summarises the
reasons. These are the only ways to skip; tests/test_structure.py checks that.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sysconfig
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NoReturn

import pytest

PACKAGES: Final = {
    "chromedriver": "chromium-driver",
    "chromium": "chromium",
    "curl": "curl",
    "ip": "iproute2",
    "node": "nodejs",
    "openssl": "openssl",
    "promtool": "prometheus",
    "redis-server": "redis-server",
    "systemd-analyze": "systemd",
    "unshare": "util-linux",
}
"""Each program, and the Debian package that contains it."""

_REASON: Final = re.compile(r"(?:Skipped: )?wants (?P<what>[^;]+)(?:; apt-get install (?P<packages>.+))?")


def reason(*programs: str) -> str:
    """Why a test without these programs is skipped."""
    return f"wants {' and '.join(programs)}; apt-get install {' '.join(PACKAGES[program] for program in programs)}"


def program(*programs: str) -> pytest.MarkDecorator:
    """A mark for tests that need all of these programs: `@wants.program("curl")`."""
    missing = _missing(programs)
    return pytest.mark.skipif(bool(missing), reason=reason(*missing))


def skip_without(*programs: str) -> None:
    """The same within a test or a fixture: continues, or skips the test."""
    if missing := _missing(programs):
        pytest.skip(reason(*missing))


def of_the_machine(what: str, *, there: bool) -> pytest.MarkDecorator:
    """A mark for tests that need what no package provides: `@wants.of_the_machine("IPv6", there=has_ipv6())`."""
    return pytest.mark.skipif(not there, reason=f"wants {what}")


def skip_for(what: str) -> NoReturn:
    """The same within a test that has found that it is missing."""
    pytest.skip(f"wants {what}")


def can_compile() -> bool:
    """Whether this machine can build an extension module."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    return shutil.which(compiler) is not None and (Path(sysconfig.get_path("include")) / "Python.h").exists()


def _missing(programs: Iterable[str]) -> list[str]:
    return [program for program in programs if shutil.which(program) is None]


def summary(reasons: Iterable[str]) -> str:
    """One line about all skipped tests, by what they needed, the most frequent first; "" if none was skipped.

    `reasons` has the reason of each skipped test, as pytest reports it.
    """
    counted = Counter(_wanted(one) for one in reasons)
    most_first = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))
    told = [f"{what} ({times} {'test' if times == 1 else 'tests'})" for what, times in most_first]
    return f"skipped for want of: {', '.join(told)}" if told else ""


def _wanted(reason: str) -> str:
    found = _REASON.fullmatch(reason)
    if found is None:
        return reason.removeprefix("Skipped: ")
    return " and ".join(found["packages"].split()) if found["packages"] else found["what"]
