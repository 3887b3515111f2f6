"""The `aggregates` of a file: what they become, and every mistake in them at once, with its place."""

from __future__ import annotations

import pytest

from sidecar.config.aggregates import MAX_PARTS
from sidecar.config.errors import ConfigErrors
from sidecar.config.load import loads
from sidecar.config.schema import Aggregate, AggregatePart, PathTemplate

SERVICES = "services: {venue: {url: 'http://venue-service:3002'}, event: {url: 'http://event-service:3003'}}\n"

NAME_RULE = "begins with a letter or digit and has up to 63 letters, digits, '.', '_' and '-'"
RESERVED = "this name is reserved: the answer has a member of its own with it"


def read(text: str, **environ: str) -> dict[str, Aggregate]:
    return loads(SERVICES + text, "a.yaml", environ).aggregates


def failure(text: str) -> list[str]:
    with pytest.raises(ConfigErrors) as raised:
        loads(SERVICES + text, "a.yaml", {})
    return str(raised.value).splitlines()


def test_the_example() -> None:
    found = read("""
aggregates:
  venue-page:
    timeout: 3s
    parts:
      venue: {service: venue, path: "/venues/{query.id}", required: true}
      events: {service: event, path: "/events?venue={query.id}", timeout: 500ms}
""")
    assert found == {
        "venue-page": Aggregate(
            timeout=3.0,
            parts={
                "venue": AggregatePart(
                    service="venue", path=PathTemplate(("/venues/", ""), ("id",)), required=True, timeout=None
                ),
                "events": AggregatePart(
                    service="event", path=PathTemplate(("/events?venue=", ""), ("id",)), required=False, timeout=0.5
                ),
            },
        )
    }
    assert list(found["venue-page"].parts) == ["venue", "events"]


def test_without_the_key_there_are_none_and_the_defaults_are_these() -> None:
    assert read("") == {}
    page = read("aggregates: {page: {parts: {a: {service: venue, path: /}}}}")["page"]
    assert (page.timeout, page.parts["a"].required, page.parts["a"].timeout) == (2.0, False, None)
    assert read("aggregates: {page: {parts: {a: {service: venue, path: /, timeout: off}}}}")["page"] == page


def test_variables_stand_in_values() -> None:
    page = read("aggregates: {page: {parts: {a: {service: '${WHO}', path: '/${WHERE:-x}/{query.id}'}}}}", WHO="event")
    assert page["page"].parts["a"] == AggregatePart(service="event", path=PathTemplate(("/x/", ""), ("id",)))


def test_every_mistake_at_once() -> None:
    assert failure("""aggregates:
  _page:
    parts: {a: {service: venue, path: /}}
  a/b:
    timeout: 2
    parts:
      errors: {service: venue, path: /}
      partial: {service: venue, path: /}
      fallbacks: {service: venue, path: /}
      "a b": {service: venue, path: /}
  page:
    timout: 2s
    parts:
      a: {service: venues, path: venues}
      b: {service: nobody-like-this, path: "/{id}"}
      c: {service: venue}
      d: {path: /}
      e: {servce: venue, path: /}
      f: {service: event, path: /, required: yes, timeout: 0s}
      g: venue
  none: {parts: {}}
  nothing: {timeout: 1s}
  list: {parts: [venue]}
  word: venue
""") == [
        f"a.yaml:3: aggregates._page: the name of an aggregate {NAME_RULE}",
        f"a.yaml:5: aggregates.'a/b': the name of an aggregate {NAME_RULE}",
        "a.yaml:6: aggregates.'a/b'.timeout: a duration needs a unit: 250ms, 5s, 2m or 1h",
        f"a.yaml:8: aggregates.'a/b'.parts.errors: {RESERVED}",
        f"a.yaml:9: aggregates.'a/b'.parts.partial: {RESERVED}",
        f"a.yaml:10: aggregates.'a/b'.parts.fallbacks: {RESERVED}",
        f"a.yaml:11: aggregates.'a/b'.parts.'a b': the name of a part {NAME_RULE}",
        "a.yaml:13: aggregates.page.timout: unknown key; did you mean timeout?",
        "a.yaml:15: aggregates.page.parts.a.service: no service has this name; did you mean venue?",
        "a.yaml:15: aggregates.page.parts.a.path: a path must begin with /",
        "a.yaml:16: aggregates.page.parts.b.service: no service has this name",
        (
            "a.yaml:16: aggregates.page.parts.b.path: braces are only for {query.NAME}; write %7B and %7D for other "
            "braces"
        ),
        "a.yaml:17: aggregates.page.parts.c: a part needs a path, such as /venues/{query.id}",
        "a.yaml:18: aggregates.page.parts.d: a part needs a service, such as venue",
        "a.yaml:19: aggregates.page.parts.e.servce: unknown key; did you mean service?",
        "a.yaml:20: aggregates.page.parts.f.required: expected true or false",
        "a.yaml:20: aggregates.page.parts.f.timeout: expected more than 0, or off",
        ("a.yaml:21: aggregates.page.parts.g: not a mapping: expected keys such as service, path, required, timeout"),
        "a.yaml:22: aggregates.none.parts: expected at least one part",
        (
            "a.yaml:23: aggregates.nothing: an aggregate needs parts: {venue-page: {parts: {venue: {service: venue, "
            'path: "/venues/{query.id}"}}}}'
        ),
        "a.yaml:24: aggregates.list.parts: expected a mapping of parts: {venue: {service: venue, path: /venues}}",
        "a.yaml:25: aggregates.word: not a mapping: expected keys such as timeout, parts",
    ]


@pytest.mark.parametrize("text", ["aggregates: []", "aggregates: page", "aggregates:"])
def test_what_is_no_mapping(text: str) -> None:
    (line,) = failure(text)
    assert line.startswith("a.yaml:2: aggregates: expected a mapping of aggregates: {venue-page: ")


@pytest.mark.parametrize("more", [0, 1])
def test_bound_on_the_parts(more: int) -> None:
    parts = "\n".join(f"  p{number}: {{service: venue, path: /}}" for number in range(MAX_PARTS + more))
    text = "aggregates: {page: {parts: {" + parts.strip().replace("\n", ",") + "}}}"
    if more:
        assert failure(text) == [f"a.yaml:2: aggregates.page.parts: expected at most {MAX_PARTS} parts"]
    else:
        assert len(read(text)["page"].parts) == MAX_PARTS


def test_no_mistake_shows_a_value() -> None:
    lines = failure("aggregates: {page: {parts: {a: {service: sesame, path: 'open-sesame{', timeout: sesame}}}}")
    assert len(lines) == 3
    assert "sesame" not in "".join(lines)


def test_statuses_that_are_passed_on() -> None:
    page = read(
        """aggregates:
  page: {parts: {venue: {service: venue, path: /, required: true, pass_status: [401, 404-405, 500-502]}}}"""
    )["page"]
    assert page.parts["venue"].pass_status == {401, 404, 405, 500, 501, 502}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("required: true, pass_status: [200]", "expected statuses from 400 to 599: other answers are no failure"),
        ("required: true, pass_status: [302, 404]", "expected statuses from 400 to 599: other answers are no failure"),
        ("pass_status: [404]", "the part needs required: true: the failure of an optional part is named in the answer"),
        ("required: false, pass_status: [404]", "the part needs required: true: "),
    ],
)
def test_statuses_that_cannot_be_passed_on(keys: str, words: str) -> None:
    (line,) = failure(f"aggregates: {{page: {{parts: {{venue: {{service: venue, path: /, {keys}}}}}}}}}")
    assert line.startswith(f"a.yaml:2: aggregates.page.parts.venue.pass_status: {words}")
