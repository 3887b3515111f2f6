"""What tests want of a machine and may do without: programs of Debian's packages, IPv6, namespaces.

A test that misses one is skipped, with a reason that says what to install; the run's last line adds the reasons up.
These are the only ways to skip: tests/test_structure.py sees to that.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable
from typing import Final, NoReturn

import pytest

PACKAGES: Final = {
    "chromedriver": "chromium-driver",
    "chromium": "chromium",
    "curl": "curl",
    "ip": "iproute2",
    "openssl": "openssl",
    "promtool": "prometheus",
    "redis-server": "redis-server",
    "systemd-analyze": "systemd",
    "unshare": "util-linux",
}
"""Each program, and Debian's package that has it."""

_REASON: Final = re.compile(r"(?:Skipped: )?wants (?P<what>[^;]+)(?:; apt-get install (?P<packages>.+))?")


def reason(*programs: str) -> str:
    """Why a test without these programs is skipped."""
    return f"wants {' and '.join(programs)}; apt-get install {' '.join(PACKAGES[program] for program in programs)}"


def program(*programs: str) -> pytest.MarkDecorator:
    """A mark for tests that need all of these: `@wants.program("curl")`."""
    missing = _missing(programs)
    return pytest.mark.skipif(bool(missing), reason=reason(*missing))


def skip_without(*programs: str) -> None:
    """The same within a test or a fixture: goes on, or skips the test."""
    if missing := _missing(programs):
        pytest.skip(reason(*missing))


def of_the_machine(what: str, *, there: bool) -> pytest.MarkDecorator:
    """A mark for tests that need what no package brings: `@wants.of_the_machine("IPv6", there=has_ipv6())`."""
    return pytest.mark.skipif(not there, reason=f"wants {what}")


def skip_for(what: str) -> NoReturn:
    """The same within a test that has seen that it is not there."""
    pytest.skip(f"wants {what}")


def _missing(programs: Iterable[str]) -> list[str]:
    return [program for program in programs if shutil.which(program) is None]


def summary(reasons: Iterable[str]) -> str:
    """One line on all skipped tests, by what they wanted, the most frequent first; "" where none was skipped.

    `reasons`: of each skipped test, as pytest reports it.
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
