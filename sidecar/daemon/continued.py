"""The counts of a source go on when another takes its place.

Owns what a scrape reads of a source that was made anew, because a setting of it changed, under the labels that it had
before: a counter must not fall because of a reload.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sidecar.telemetry.metrics_discovery import SourceView


class Continued:
    """A source that counts from where another stopped; `more` is what that one had counted, by result."""

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
        """Its own: what another found says nothing about it."""
        return self._source.last_success

    @property
    def problem(self) -> str | None:
        return self._source.problem

    @property
    def endpoints(self) -> int:
        return self._source.endpoints


def continued(source: SourceView, before: Iterable[SourceView]) -> SourceView:
    """`source`, new by now, with what the one of `before` has counted more that bears the same labels, if one does.

    Sources that share their counts (a name that both look up) have them already.
    """
    for one in before:
        if (one.kind, one.name) == (source.kind, source.name):
            present = source.updates
            more = {result: count - present.get(result, 0) for result, count in one.updates.items()}
            return Continued(source, more) if any(more.values()) else source
    return source
