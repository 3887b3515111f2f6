"""The type of an option that is a duration, and becomes seconds.

It is not in `options`, which imports the admin API's client: the hooks of a pod need it, and have to start fast.
"""

from __future__ import annotations

from typing import Any

import click


class Seconds(click.ParamType[float]):
    """A duration in the notation of the configuration, such as `5s`. The command gets seconds."""

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
