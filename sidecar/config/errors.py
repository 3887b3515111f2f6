"""Errors of a configuration: what is wrong, and in which line.

Owns the error types and the Reporter that collects them. The module that finds a mistake writes the message. No message
may contain a value of the file, because the value may come from the environment and be a secret.
"""

from __future__ import annotations

import re

from msgspec import Struct


class BadValueError(Exception):
    """Raised by the parsers of single values; its text says what was expected, never what was found."""


class Place(Struct, frozen=True):
    """A place in the file. Line and column count from 1; `path` is the key path (`services.venue.routes[0].match`)."""

    line: int
    column: int
    path: str = ""

    def key(self, name: str, line: int, column: int) -> Place:
        """The place of a key in the mapping at this place."""
        shown = shown_key(name)
        return Place(line, column, f"{self.path}.{shown}" if self.path else shown)

    def item(self, index: int, line: int, column: int) -> Place:
        """The place of an item in the list at this place."""
        return Place(line, column, f"{self.path}[{index}]")


class ConfigError(Struct, frozen=True):
    """One mistake. `line` and `column` count from 1; both are 0 if the file could not be read at all."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class ConfigErrors(Exception):
    """All mistakes of a file, in the order of its lines."""

    def __init__(self, errors: list[ConfigError]) -> None:
        super().__init__(errors)
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(map(str, self.errors))


class Reporter:
    """Collects the mistakes of one file.

    A node with an anchor is visited once for each alias, but its mistake is one mistake: the same message at the same
    place is kept once.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._errors: dict[tuple[int, int, str], ConfigError] = {}

    def __bool__(self) -> bool:
        return bool(self._errors)

    def report(self, place: Place, message: str) -> None:
        """Record a mistake at `place`."""
        error = ConfigError(self._file, place.line, place.column, place.path, message)
        self._errors.setdefault((place.line, place.column, message), error)

    def failure(self) -> ConfigErrors:
        """The exception to raise, with all mistakes."""
        return ConfigErrors(sorted(self._errors.values(), key=lambda error: (error.line, error.column, error.path)))


def shown_key(name: str) -> str:
    """A key that is safe to print. An unusual one is quoted and cut, so that it cannot break a line or a terminal."""
    if re.fullmatch(r"[A-Za-z0-9_.<-]{1,64}", name):
        return name
    return ascii(name if len(name) <= 40 else name[:37] + "...")
