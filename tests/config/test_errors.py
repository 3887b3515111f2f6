"""How mistakes are gathered and shown."""

from __future__ import annotations

from sidecar.config.errors import ConfigError, Place, Reporter, shown_key


def test_an_error_is_file_line_key_and_message() -> None:
    assert str(ConfigError("a.yaml", 3, 5, "log.level", "wrong")) == "a.yaml:3: log.level: wrong"
    assert str(ConfigError("a.yaml", 3, 5, "", "wrong")) == "a.yaml:3: wrong"
    assert str(ConfigError("a.yaml", 0, 0, "", "cannot be read")) == "a.yaml: cannot be read"


def test_errors_come_in_the_order_of_their_lines() -> None:
    reporter = Reporter("a.yaml")
    assert not reporter
    for line, column in ((9, 1), (2, 7), (2, 3)):
        reporter.report(Place(line, column), "wrong")
    assert reporter
    failure = reporter.failure()
    assert [(error.line, error.column) for error in failure.errors] == [(2, 3), (2, 7), (9, 1)]
    assert str(failure) == "a.yaml:2: wrong\na.yaml:2: wrong\na.yaml:9: wrong"


def test_one_mistake_that_several_aliases_meet_is_told_once() -> None:
    reporter = Reporter("a.yaml")
    reporter.report(Place(2, 3, "defaults.retry"), "wrong")
    reporter.report(Place(2, 3, "services.a.retry"), "wrong")
    reporter.report(Place(2, 3, "services.a.retry"), "wrong in another way")
    assert [error.path for error in reporter.failure().errors] == ["defaults.retry", "services.a.retry"]


def test_places_know_their_key_path() -> None:
    place = Place(1, 1).key("services", 2, 1).key("venue", 3, 3).key("routes", 4, 5).item(0, 5, 9)
    assert place == Place(5, 9, "services.venue.routes[0]")


def test_an_odd_key_breaks_neither_a_line_nor_a_terminal() -> None:
    assert shown_key("max_retries") == "max_retries"
    assert shown_key("a\nb") == r"'a\nb'"
    assert shown_key("\x1b[31m") == r"'\x1b[31m'"
    assert len(shown_key("x" * 10_000)) < 50
    assert shown_key("") == "''"
