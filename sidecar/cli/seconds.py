"""A duration on the command line.

Apart from `options`, which is of the admin API: hooks of a pod import this, and start anew each time.
"""

from __future__ import annotations

from typing import Any

import click


class Seconds(click.ParamType[float]):
    """A duration as the configuration writes it, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from sidecar.config.errors import BadValueError
        from sidecar.config.units import parse_duration

        if isinstance(value, float):
            return value
        try:
            return parse_duration(value)
        except BadValueError as error:
            self.fail(str(error), param, ctx)
