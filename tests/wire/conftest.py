"""Every test here may have a daemon: its log goes with a failure, and what may not be repeated never was."""

from tests.support.rig import never_twice, pytest_runtest_makereport, start

__all__ = ["never_twice", "pytest_runtest_makereport", "start"]
