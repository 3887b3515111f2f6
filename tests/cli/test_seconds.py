"""A duration on the command line."""

from __future__ import annotations

import click
import pytest

from sidecar.cli.seconds import Seconds


@pytest.mark.parametrize(("given", "seconds"), [("250ms", 0.25), ("2s", 2.0), ("1.5m", 90.0), ("0s", 0.0), (7.0, 7.0)])
def test_it_is_written_as_in_the_configuration(given: str | float, seconds: float) -> None:
    assert Seconds().convert(given, None, None) == seconds


@pytest.mark.parametrize("given", ["", "5", "-1s", "1 week"])
def test_what_is_none_is_wrong_usage(given: str) -> None:
    with pytest.raises(click.BadParameter) as raised:
        Seconds().convert(given, None, None)
    assert raised.value.exit_code == 2
