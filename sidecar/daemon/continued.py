"""Continued counters: the counters of a discovery source go on when a new source replaces it.

When a setting changes, a new source is created under the same labels. Its counters start from the old values, because
a counter must not fall at a reload.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sidecar.telemetry.metrics_discovery import SourceView


class Continued:
    """A source whose counters start where another one stopped. `more` holds the counts of that one, by result."""

    def __init__(self, source: SourceView, more: Mapping[str, int]) -> None:
        self._source = source
        self._more = more

    @property
    def kind(self) -> str:
        return self._source.kind

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def updates(self) -> dict[str, int]:
        return {result: count + self._more.get(result, 0) for result, count in self._source.updates.items()}

    @property
    def last_success(self) -> float | None:
        """The new source's own time: the success of another source says nothing about this one."""
        return self._source.last_success

    @property
    def problem(self) -> str | None:
        return self._source.problem

    @property
    def endpoints(self) -> int:
        return self._source.endpoints


def continued(source: SourceView, before: Iterable[SourceView]) -> SourceView:
    """`source`, which is new, with the counts of the source in `before` that has the same labels, if there is one.

    Sources that share their counters (a name that both look up) already have the counts.
    """
    for one in before:
        if (one.kind, one.name) == (source.kind, source.name):
            present = source.updates
            more = {result: count - present.get(result, 0) for result, count in one.updates.items()}
            return Continued(source, more) if any(more.values()) else source
    return source
