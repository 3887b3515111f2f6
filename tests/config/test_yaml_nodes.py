"""YAML 1.2 as the sidecar reads it: anchors, merge keys, repeated keys, bounds; with both of PyYAML's parsers."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.errors import ConfigError, Reporter
from sidecar.config.yaml_nodes import MAX_DEPTH, MAX_NODES, Loader, Mapping, Node, Scalar, Sequence, read

LOADERS = [pytest.param(yaml.CSafeLoader, id="C"), pytest.param(yaml.SafeLoader, id="Python")]
pytestmark = pytest.mark.parametrize("loader", LOADERS)


def plain(node: Node | None) -> Any:
    """The tree as Python's own lists and dicts; a quoted string bears its quotes."""
    if isinstance(node, Mapping):
        return {key: plain(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    if isinstance(node, Scalar):
        return node.text if node.plain else f'"{node.text}"'
    return None


def parse(text: str, loader: Loader) -> tuple[Node | None, list[ConfigError]]:
    reporter = Reporter("a.yaml")
    node = read(text, reporter, loader=loader)
    return node, reporter.failure().errors


def tree(text: str, loader: Loader) -> Any:
    node, errors = parse(text, loader)
    assert errors == []
    return plain(node)


def only_error(text: str, loader: Loader) -> ConfigError:
    _, errors = parse(text, loader)
    assert len(errors) == 1, errors
    return errors[0]


def test_scalars_stay_text(loader: Loader) -> None:
    text = "{on: off, no: yes, a: 0o17, b: 017, c: 1:30, d: 15001:1, e: 2024-01-01, f: ~, g: 'x', 1: =, h: 1_0}"
    assert tree(text, loader) == {
        "on": "off",
        "no": "yes",
        "a": "0o17",
        "b": "017",
        "c": "1:30",
        "d": "15001:1",
        "e": "2024-01-01",
        "f": "~",
        "g": '"x"',
        "1": "=",
        "h": "1_0",
    }


def test_marks_count_from_one(loader: Loader) -> None:
    node, _ = parse("a: 1\nb:\n  - c\n  - {d: e}\n", loader)
    assert isinstance(node, Mapping)
    assert (node.line, node.column) == (1, 1)
    b = node.entries["b"]
    assert (b.line, b.column) == (2, 1)
    assert isinstance(b.node, Sequence)
    assert [(item.line, item.column) for item in b.node.items] == [(3, 5), (4, 5)]


def test_a_repeated_key_is_told_with_both_lines_and_reading_goes_on(loader: Loader) -> None:
    _, errors = parse("a:\n  b: 1\n  b: 2\nc: 1\nc: 2\nc: 3\n", loader)
    assert [(error.line, error.path, error.message) for error in errors] == [
        (3, "a.b", "repeated key: already in line 2"),
        (5, "c", "repeated key: already in line 4"),
        (6, "c", "repeated key: already in line 4"),
    ]


def test_anchors(loader: Loader) -> None:
    assert tree("a: &x [1, 2]\nb: *x\nc: &y word\nd: *y\n", loader)["b"] == ["1", "2"]
    assert tree("a: &x 1\nb: &x 2\nc: *x\n", loader)["c"] == "2"
    assert tree("a: &k key\nb: {*k : v}\n", loader)["b"] == {"key": "v"}


def test_merge_keys(loader: Loader) -> None:
    text = """
a: &a {x: 1, y: 2}
b: &b {y: 3, z: 4}
c: {<<: *a, x: 9}
d:
  <<: [*a, *b]
e: {"<<": 1}
"""
    node = tree(text, loader)
    assert node["c"] == {"x": "9", "y": "2"}
    assert node["d"] == {"x": "1", "y": "2", "z": "4"}
    assert node["e"] == {"<<": "1"}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: {<<: 1}", 1, "<< needs an alias of a mapping"),
        ("a: &a [x]\nb:\n  <<: *a", 3, "<< needs an alias of a mapping"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a", 4, "repeated key: already in line 3"),
        ("a: 1\nb: *nope", 2, "has no anchor &nope"),
        ("a: &a\n  b: *a", 2, "inside its own anchor"),
        ("a: &a\n  <<: *a", 2, "inside its own anchor"),
        ("a: &a [1, [*a]]", 1, "inside its own anchor"),
        ("a: 1\n---\nb: 2", 2, "a second document"),
        ("a: 1\nb: [1, 2", 2, "not valid YAML"),
        ("a: 1\nb:\n\t- c", 3, "tab"),
        ("a: 1\nb: c: d", 2, "not valid YAML"),
        ("a: {b: ${X:-http://x}}", 1, "must be in quotes"),
        ("a: 1\n? [b]\n: c", 2, "a key must be a string"),
        ("a: 1\nb: !!python/object:os.system x", 2, "tags"),
        ("a: 1\nb: !thing {c: d}", 2, "tags"),
        ("a: 1\nb: 'open", 2, "not valid YAML"),
        ("a: 1\nb: \x07", 2, "does not allow"),
        ("a: 1\nb: \ud800", 2, "does not allow"),
        ("a: 1\nb: \x00", 2, "does not allow"),
        ("@", 1, "not valid YAML"),
        ("%YAML 9.9\n---\na: 1", 1, "not valid YAML"),
    ],
)
def test_what_is_refused(loader: Loader, text: str, line: int, message: str) -> None:
    error = only_error(text, loader)
    assert message in error.message
    assert error.line == line


def test_an_empty_text_is_no_node(loader: Loader) -> None:
    for text in ("", "\n\n", "# only a comment\n", "\ufeff"):
        assert parse(text, loader) == (None, [])


def test_explicit_core_tags_and_a_byte_order_mark_are_fine(loader: Loader) -> None:
    assert tree('\ufeffa: !!str 1\nb: !!int "1"\nc: !!map {d: ! x}\n', loader) == {
        "a": '"1"',
        "b": "1",
        "c": {"d": '"x"'},
    }


def test_an_alias_bomb_is_refused_at_once(loader: Loader) -> None:
    text = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20))
    started = time.process_time()
    assert f"more than {MAX_NODES} values" in only_error(text, loader).message
    assert time.process_time() - started < 2


def test_a_merge_bomb_is_refused_at_once(loader: Loader) -> None:
    text = "a0: &a0 {x: 1}\n" + "".join(
        f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], k{n}: 1}}\n" for n in range(1, 20)
    )
    assert f"more than {MAX_NODES} values" in only_error(text, loader).message


def test_depth_is_bounded_with_and_without_aliases(loader: Loader) -> None:
    assert parse("[" * MAX_DEPTH + "]" * MAX_DEPTH, loader)[1] == []
    too_deep = f"nested deeper than {MAX_DEPTH} levels"
    assert too_deep in only_error("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), loader).message
    assert too_deep in only_error("[" * 5000, loader).message
    stairs = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, MAX_DEPTH + 1))
    assert too_deep in only_error(stairs, loader).message


YAMLISH = st.text(alphabet="ab:-? \n\t[]{},&*!|>'\"%@`#~<${}\\\u00e9\ufeff\x85", max_size=60)


@given(text=st.text(max_size=60) | YAMLISH)
def test_any_text_is_a_tree_or_errors_with_a_line(loader: Loader, text: str) -> None:
    node, errors = parse(text, loader)
    assert node is None or isinstance(node, (Scalar, Sequence, Mapping))
    assert all(error.line >= 1 and error.column >= 1 for error in errors)


def test_what_only_the_python_scanner_trips_over_is_an_error_too(loader: Loader) -> None:
    for text in ('a: "\\UFFFFFFFF"', "%YAML " + "1" * 5000 + ".1\n---\na: 1"):
        only_error(text, loader)
