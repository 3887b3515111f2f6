"""`fallback`: its steps, what they have to do with each other, and that no service falls back to itself."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from sidecar.config.errors import ConfigErrors
from sidecar.config.fallbacks import MAX_BODY, MAX_CYCLES
from sidecar.config.load import load, load_with_origins, loads
from sidecar.policy.settings import FallbackService, FallbackStale, FallbackStatic, FallbackStep
from tests.config.mistakes import errors

REFERENCE = Path(__file__).resolve().parents[2] / "config" / "sidecar.yaml"


def file(fallback: str, defaults: str = "off", more: str = "") -> str:
    """`fallback` of the service venue, in line 4."""
    return (
        f"defaults: {{fallback: {defaults}}}\n"
        "services:\n"
        "  event: {url: http://e, fallback: off}\n"
        f"  venue: {{url: http://v, fallback: {fallback}}}\n{more}"
    )


def steps(fallback: str, environ: dict[str, str] | None = None) -> tuple[FallbackStep, ...]:
    return loads(file(fallback), "a.yaml", environ or {}).services["venue"].policy.fallback


def test_steps_come_in_their_order() -> None:
    assert steps(
        "[{service: event, path: '/x?y=1', methods: [POST]}, {stale: 5m, key_headers: [Authorization, X-Tenant]},"
        " {status: 200, headers: {Content-Type: application/json}, body: '{\"venues\": []}', methods: [GET]}]"
    ) == (
        FallbackService(service="event", path="/x?y=1", methods=frozenset({"POST"})),
        FallbackStale(stale=300.0, key_headers=("authorization", "x-tenant")),
        FallbackStatic(
            status=200,
            headers={"Content-Type": "application/json"},
            body=b'{"venues": []}',
            methods=frozenset({"GET"}),
        ),
    )


def test_a_step_is_for_get_and_head_unless_it_says_otherwise() -> None:
    venue = steps("[{service: event}, {stale: 1s}, {status: 503}]")
    assert venue == (
        FallbackService(service="event", path=None, methods=frozenset({"GET", "HEAD"})),
        FallbackStale(stale=1.0, key_headers=()),
        FallbackStatic(status=503, headers={}, body=b"", methods=frozenset({"GET", "HEAD"})),
    )


def test_key_headers_as_bytes() -> None:
    assert FallbackStale(stale=1.0, key_headers=("cookie",)).keys == (b"cookie",)


@pytest.mark.parametrize("nothing", ["off", "[]", "'off'"])
def test_a_service_may_have_none(nothing: str) -> None:
    assert steps(nothing) == ()
    config = loads(file(nothing, defaults="[{status: 200}]"), "a.yaml", {})
    assert config.services["venue"].policy.fallback == ()


def test_a_narrower_level_replaces_the_whole_list() -> None:
    text = """
defaults: {fallback: [{stale: 1s}, {status: 500}]}
services:
  venue:
    url: http://v
    routes:
      - {match: {path: /a}, fallback: [{status: 201}]}
      - {match: {path: /b}, fallback: off}
      - {match: {path: /c}}
  event: {url: http://e, fallback: [{status: 202}]}
"""
    config = loads(text, "a.yaml", {})
    venue, event = config.services["venue"], config.services["event"]
    inherited = (FallbackStale(stale=1.0), FallbackStatic(status=500))
    assert venue.policy.fallback == config.defaults.fallback == inherited
    assert [route.policy.fallback for route in venue.routes] == [(FallbackStatic(status=201),), (), inherited]
    assert event.policy.fallback == (FallbackStatic(status=202),)


def test_who_set_a_list_is_known(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(file("[{stale: 1s}]"))
    origins = load_with_origins(path, {})[1]
    assert (origins["services.venue.fallback"].level, origins["services.venue.fallback"].line) == ("service", 4)


def test_variables_work_in_every_value() -> None:
    step = '[{service: "${TO:-event}", path: "${P}"}, {stale: "${FOR}"}, {status: 200, body: "a ${NAME} $${b}"}]'
    found = steps(step, {"P": "/p", "FOR": "2s", "NAME": "né"})
    assert found == (
        FallbackService(service="event", path="/p"),
        FallbackStale(stale=2.0),
        FallbackStatic(status=200, body="a né ${b}".encode()),
    )


@pytest.mark.parametrize(
    ("fallback", "error"),
    [
        ("nope", ": expected off, or a list"),
        ("{service: event}", ": expected a list: [first, second]"),
        ("[event]", "[0]: not a mapping: expected keys such as service, path, methods, stale"),
        ("[{}]", "[0]: expected exactly one of service, stale, status"),
        ("[{path: /x}]", "[0]: expected exactly one of service, stale, status"),
        ("[{serivce: event}]", "[0].serivce: unknown key; did you mean service?"),
        ("[{service: event, stale: 5m}]", "[0].stale: service is set as well: keep one of the two"),
        (
            "[{stale: 5m, methods: [GET]}]",
            "[0].methods: a step with stale cannot have this key: expected stale, key_headers",
        ),
        (
            "[{service: event, file: /x}]",
            "[0].file: a step with service cannot have this key: expected service, path, methods",
        ),
        ("[{stale: 0s}]", "[0].stale: expected more than 0"),
        ("[{stale: off}]", "[0].stale: expected a duration such as 250ms, 5s, 2m or 1h"),
        ("[{service: event, path: x}]", "[0].path: a path must begin with /"),
        (
            "[{service: event, methods: []}]",
            "[0].methods: expected at least one method; the default is GET and HEAD",
        ),
        ("[{service: evnt}]", "[0].service: no service has this name; did you mean event?"),
        ("[{service: something}]", "[0].service: no service has this name"),
        ("[{service: venue}]", "[0].service: the service would fall back to itself"),
        ("[{status: 199}]", "[0].status: expected 200 or more"),
        ("[{status: 600}]", "[0].status: expected at most 599"),
        ("[{status: 204, body: a}]", "[0].body: an answer with this status cannot have a body"),
        ("[{status: 304, body: a}]", "[0].body: an answer with this status cannot have a body"),
        ("[{status: 200, body: a, file: b}]", "[0].file: body is set as well: keep one of the two"),
        ("[{status: 200, file: nothing.json}]", "[0].file: cannot be read: No such file or directory"),
        ("[{status: 200, file: /}]", "[0].file: cannot be read: not a file"),
        ("[{status: 200, headers: {Date: a}}]", "[0].headers.Date: a static answer cannot set this header"),
        (
            "[{status: 200, headers: {X-Sidecar-A: a}}]",
            "[0].headers.X-Sidecar-A: a static answer cannot set this header",
        ),
        *(
            (
                f"[{{status: 200, headers: {{{name}: a}}}}]",
                f"[0].headers.{name}: this header belongs to the connection: the sidecar writes it itself",
            )
            for name in ("Content-Length", "Transfer-Encoding", "connection", "keep-alive", "upgrade", "TE", "Trailer")
        ),
        ("[{status: 200}, {stale: 5m}]", "[1]: never reached: the answer in line 4 always comes first"),
        (
            "[{status: 200, methods: [GET]}, {status: 201, methods: [HEAD]}, {service: event}]",
            "[2]: never reached: the answer in line 4 always comes first",
        ),
        (
            "[{stale: 5m}, {service: event}, {stale: 1h, key_headers: [cookie]}]",
            "[2]: key_headers must be the same as those of the stale step in line 4",
        ),
    ],
)
def test_mistakes(fallback: str, error: str) -> None:
    assert errors(file(fallback)) == [f"4 services.venue.fallback{error}"]


def test_every_header_that_cannot_be_is_said_at_once() -> None:
    headers = "{Date: a, X-Sidecar-A: b, Connection: c, Proxy-Connection: d, X-Sidecar-B: '', 'a b': e}"
    ours, connection = "a static answer cannot set this header", "this header belongs to the connection: the sidecar"
    found = [line.split("headers.")[1] for line in errors(file(f"[{{status: 200, headers: {headers}}}]"))]
    assert sorted(found) == [
        "'a b': not the name of a header: expected letters, digits and '-' (RFC 9110 allows !#$%&'*+.^_`|~ too)",
        f"Connection: {connection} writes it itself",
        f"Date: {ours}",
        f"Proxy-Connection: {connection} writes it itself",
        f"X-Sidecar-A: {ours}",
        f"X-Sidecar-B: {ours}",
        "X-Sidecar-B: expected the value of a header, which is not empty and has no control characters",
    ]


def test_what_may_look_like_a_mistake() -> None:
    assert len(steps("[{status: 200}, {service: event, methods: [GET, POST]}]")) == 2
    assert len(steps("[{stale: 5m, key_headers: [a, b]}, {stale: 1h, key_headers: [B, A]}]")) == 2
    assert len(steps("[{status: 204}, {status: 204, body: '', methods: [POST]}]")) == 2


def test_a_file_is_read_with_the_configuration_from_its_directory(tmp_path: Path) -> None:
    (tmp_path / "venues.json").write_bytes(b"\xff\x00 ${X}\n")
    path = tmp_path / "a.yaml"
    path.write_text(file("[{status: 200, file: venues.json}]"))
    assert load(path, {}).services["venue"].policy.fallback == (FallbackStatic(status=200, body=b"\xff\x00 ${X}\n"),)
    path.write_text(file(f"[{{status: 200, file: {tmp_path}/venues.json}}]"))
    assert load(path, {}).services["venue"].policy.fallback == (FallbackStatic(status=200, body=b"\xff\x00 ${X}\n"),)
    path.write_text(file("[{status: 204, file: venues.json}]"))
    with pytest.raises(ConfigErrors, match=r"fallback\[0\]\.file: an answer with this status cannot have a body"):
        load(path, {})


@pytest.mark.parametrize("too_many", [0, 1])
def test_a_body_has_a_bound(tmp_path: Path, too_many: int) -> None:
    (tmp_path / "body").write_bytes(b"x" * (MAX_BODY + too_many))
    path = tmp_path / "a.yaml"
    for written in ("file: body", f"body: {'x' * (MAX_BODY + too_many)}"):
        path.write_text(file(f"[{{status: 200, {written}}}]"))
        if too_many:
            with pytest.raises(ConfigErrors, match="a body can have at most 1 MiB"):
                load(path, {})
        else:
            load(path, {})


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / "a.yaml"
    path.write_text(file("[{status: 200, file: pipe}]"))
    with pytest.raises(ConfigErrors, match="not a file"):
        load(path, {})


def test_an_unknown_service_in_defaults_is_found_even_if_nobody_inherits_it() -> None:
    found = errors("defaults: {fallback: [{service: evnt}]}\nservices: {event: {url: http://e, fallback: off}}")
    assert found == ["1 defaults.fallback[0].service: no service has this name; did you mean event?"]


def test_a_service_named_in_defaults_has_to_say_what_it_falls_back_to_itself() -> None:
    text = "defaults: {{fallback: [{{service: event}}]}}\nservices: {{event: {{url: http://e{0}}}, venue: {{url: http://v}}}}"
    assert errors(text.format("")) == [
        "1 defaults.fallback[0].service: service event would fall back to itself: give it its own fallback, or off"
    ]
    assert errors(text.format(", fallback: off")) == []
    assert errors(text.format(", fallback: [{stale: 5m}]")) == []


def chain(*services: str) -> str:
    """Each falls back to the names behind its own: `a b c`; a name with `/` does so in a route."""
    lines = ["services:"]
    for line in services:
        name, *to = line.split()
        fallback = f"fallback: [{', '.join(f'{{service: {one}}}' for one in to)}]"
        if name.endswith("/"):
            fallback = f"routes: [{{match: {{path: /x}}, {fallback}}}]"
        lines.append(f"  {name.rstrip('/')}: {{url: http://x, {fallback}}}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("services", "cycles"),
    [
        (["a b", "b c", "c"], []),
        (["a b c", "b c", "c"], []),
        (["a b", "b a"], ["3 services.b.fallback[0].service: {} b -> a -> b"]),
        (["a b", "b c", "c a"], ["4 services.c.fallback[0].service: {} c -> a -> b -> c"]),
        (["a/ b", "b a"], ["3 services.b.fallback[0].service: {} b -> a -> b"]),
        (["a b", "b/ a"], ["3 services.b.routes[0].fallback[0].service: {} b -> a -> b"]),
        (
            ["a b", "b a", "c d", "d c"],
            ["3 services.b.fallback[0].service: {} b -> a -> b", "5 services.d.fallback[0].service: {} d -> c -> d"],
        ),
    ],
)
def test_cycles(services: list[str], cycles: list[str]) -> None:
    assert errors(chain(*services)) == [
        cycle.format("services fall back to each other in a cycle:") for cycle in cycles
    ]


def test_a_cycle_by_way_of_defaults() -> None:
    text = """defaults: {fallback: [{service: standby}]}
services:
  standby: {url: http://s, fallback: [{service: venue}]}
  venue: {url: http://v}
"""
    message = "services fall back to each other in a cycle: standby -> venue -> standby"
    assert errors(text) == [f"3 services.standby.fallback[0].service: {message}"]


def test_a_route_of_the_service_itself() -> None:
    assert errors(chain("a/ a")) == [
        "2 services.a.routes[0].fallback[0].service: the service would fall back to itself"
    ]


def test_many_services_in_all_their_cycles_are_no_work_without_end() -> None:
    names = [f"s{number}" for number in range(60)]
    found = errors(chain(*(" ".join([name, *(other for other in names if other != name)]) for name in names)))
    assert len(found) == MAX_CYCLES


def test_a_long_chain_is_no_deep_recursion() -> None:
    names = [f"s{number}" for number in range(3000)]
    services = [f"{name} {after}" for name, after in pairwise(names)]
    assert errors(chain(*services, names[-1])) == []
    assert len(errors(chain(*services, f"{names[-1]} s0"))) == 1


def test_the_commented_steps_of_the_reference_are_right() -> None:
    lines = REFERENCE.read_text().splitlines()
    start = lines.index("  # fallback:")
    example = lines[start : lines.index("", start)]
    text = "\n".join(line.replace("# ", "", 1) for line in example if "file:" not in line)
    config = loads(f"defaults:\n{text}\nservices: {{venue-v1: {{url: http://v, fallback: off}}}}", "a.yaml", {})
    assert config.defaults.fallback == (
        FallbackService(service="venue-v1", path="/venues"),
        FallbackStale(stale=300.0, key_headers=("authorization",)),
        FallbackStatic(status=200, headers={"content-type": "application/json"}, body=b'{"venues": []}'),
    )
    assert any("file: venues.json" in line for line in example)
