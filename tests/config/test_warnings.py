"""What is said of a configuration that is valid: each rule, once, where it can be changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.load import load_with_origins
from sidecar.config.warnings import warnings_of

ROOT = Path(__file__).resolve().parents[2]
VENUE = "services: {venue: {url: http://a:1}}\n"
ENDS = ", which ends it first"


def told(folder: Path, text: str) -> list[str]:
    path = folder / "sidecar.yaml"
    path.write_text(text)
    return warnings_of(*load_with_origins(path, {}))


@pytest.mark.parametrize("file", ["config/sidecar.yaml", "sidecar/demo/sidecar.yaml"])
def test_what_comes_with_the_sidecar_has_none(file: str) -> None:
    assert warnings_of(*load_with_origins(ROOT / file, {})) == []


# admin.


def test_a_token_that_cannot_be_read_here(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert told(tmp_path, f"{VENUE}admin:\n  token_file: {missing}\n") == [
        f"admin.token_file: {missing} (line 3) cannot be read here: the admin API would refuse everybody"
    ]


def test_a_folder_is_no_token(tmp_path: Path) -> None:
    assert "cannot be read here" in told(tmp_path, f"{VENUE}admin: {{token_file: {tmp_path}}}\n")[0]


def test_without_origins_there_is_no_line(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text(f"{VENUE}admin: {{token_file: /nope/token}}\n")
    config, _ = load_with_origins(path, {})
    assert warnings_of(config, {}) == [
        "admin.token_file: /nope/token cannot be read here: the admin API would refuse everybody"
    ]


@pytest.mark.parametrize(
    ("host", "is_told"),
    [
        ("127.0.0.1", False),
        ("127.8.0.1", False),
        ("[::1]", False),
        ("[::ffff:127.0.0.1]", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("[::]", True),
        ("10.0.0.7", True),
        ("sidecar", True),
    ],
)
def test_a_listener_that_others_reach_and_that_asks_for_no_token(tmp_path: Path, host: str, is_told: bool) -> None:
    listen = f'listen: {{admin: "{host}:15000"}}\n'
    warnings = told(tmp_path, listen + VENUE)
    assert bool(warnings) is is_told
    assert all(one.startswith(f"listen.admin is {host}:15000, not loopback, and admin.token_file") for one in warnings)
    token = tmp_path / "token"
    token.write_text("secret")
    assert told(tmp_path, f"admin: {{token_file: {token}}}\n{listen}{VENUE}") == []


# timeout.


def test_an_attempt_that_the_request_ends_first(tmp_path: Path) -> None:
    text = "services:\n  slow:\n    url: http://a:1\n    timeout: {attempt: 2500ms,\n      request: 1s}\n"
    assert told(tmp_path, text) == [
        "services.slow: timeout.attempt (2500ms, line 4) is longer than timeout.request (1s, line 5)" + ENDS
    ]


@pytest.mark.parametrize(
    ("timeout", "words"),
    [
        ("attempt: 20s", "(20s, line 1) is longer than timeout.request (15s, by default)"),
        ("request: 3s", "(5s, by default) is longer than timeout.request (3s, line 1)"),
    ],
)
def test_one_of_the_two_may_be_the_default(tmp_path: Path, timeout: str, words: str) -> None:
    (warning,) = told(tmp_path, f"services: {{venue: {{url: http://a:1, timeout: {{{timeout}}}}}}}")
    assert words in warning


def test_equal_is_well(tmp_path: Path) -> None:
    assert told(tmp_path, "services: {venue: {url: http://a:1, timeout: {attempt: 15s}}}") == []


def test_what_is_inherited_is_said_once_where_it_was_set(tmp_path: Path) -> None:
    text = """\
defaults: {timeout: {request: 4s}}
services:
  a: {url: http://a:1, routes: [{match: {path: /x}}]}
  b: {url: http://b:1}
  c:
    url: http://c:1
    timeout: {attempt: 6s}
    routes:
      - match: {path: /x}
      - match: {path: /y}
        timeout: {request: 5s}
      - match: {path: /z}
        timeout: {attempt: 1s}
"""
    assert told(tmp_path, text) == [
        "defaults: timeout.attempt (5s, by default) is longer than timeout.request (4s, line 1)" + ENDS,
        "services.c: timeout.attempt (6s, line 7) is longer than timeout.request (4s, line 1)" + ENDS,
        "services.c.routes[1]: timeout.attempt (6s, line 7) is longer than timeout.request (5s, line 11)" + ENDS,
    ]


def test_what_no_service_inherits_is_not_said(tmp_path: Path) -> None:
    services = "services: {venue: {url: http://a:1, timeout: {attempt: 1s}}}"
    assert told(tmp_path, "defaults: {timeout: {attempt: 9s, request: 4s}}\n" + services) == []


@given(
    levels=st.lists(
        st.fixed_dictionaries({}, optional={"attempt": st.integers(1, 40), "request": st.integers(1, 40)}),
        min_size=3,
        max_size=3,
    )
)
def test_said_exactly_where_an_attempt_is_longer(
    levels: list[dict[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("levels")
    defaults, service, route = ("{" + ", ".join(f"{key}: {s}s" for key, s in one.items()) + "}" for one in levels)
    text = (
        f"defaults: {{timeout: {defaults}}}\nservices:\n  a:\n    url: http://a:1\n    timeout: {service}\n"
        f"    routes: [{{match: {{path: /x}}, timeout: {route}}}]\n"
    )
    effective = {"attempt": 5, "request": 15}
    said: set[str] = set()
    for at, own in enumerate(levels):
        effective |= own
        if at and effective["attempt"] > effective["request"]:
            said.add(str((effective["attempt"], effective["request"], _setters(levels[: at + 1]))))
    assert len(told(folder, text)) == len(said)


def _setters(levels: list[dict[str, int]]) -> list[int]:
    """Which of the levels set each of the two last; -1: none."""
    return [max((at for at, one in enumerate(levels) if key in one), default=-1) for key in ("attempt", "request")]
