"""docs/reference/keys.md is what the schema says, and its examples are accepted where it says, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from sidecar.config.errors import ConfigErrors
from sidecar.config.json_schema import json_schema
from sidecar.config.load import load
from tools.docs.keys import page, read_examples
from tools.docs.schema_keys import DEFAULTS, ROUTE, SERVICE, TOP, keys_of

KEYS = {key.path: key for key in keys_of(json_schema())}
EXAMPLES = read_examples()
ENVIRONMENT = {"OTLP_TOKEN": "a", "REDIS_PASSWORD": "b"}
OTHERS = "  venue-v1: {url: 'http://venue-v1:3002', fallback: off}\n  event: {url: 'http://event:3003'}\n"
POLICY = [path for path, key in KEYS.items() if DEFAULTS in key.places]


def indented(text: str, by: int) -> str:
    return re.sub("^(?=.)", " " * by, text, flags=re.MULTILINE)


def in_its_place(path: str, place: str) -> str:
    """A whole file with a key's example in one of the places that there are."""
    text = _in_its_place(path, place)
    return text.replace("http://", "h2c://") if path.partition(".")[0] in ("grpc", "health") else text


def _in_its_place(path: str, place: str) -> str:
    example = EXAMPLES[path]
    url = (
        "" if path.partition(".")[0].partition("[")[0] in ("endpoints", "discovery", "url") else "    url: http://a:1\n"
    )
    if place == TOP:
        return example if path == "services" else f"{example}services:\n  venue: {{url: 'http://a:1'}}\n{OTHERS}"
    if place == DEFAULTS:
        return f"defaults:\n{indented(example, 2)}services:\n  venue: {{url: 'http://a:1', fallback: off}}\n{OTHERS}"
    if place == SERVICE:
        return f"services:\n  venue:\n{url}{indented(example, 4)}{OTHERS}"
    assert place == ROUTE
    match = "" if path.startswith("routes[].match") else "match: {path: /x}\n"
    return f"services:\n  venue:\n{url}    routes:\n      -\n{indented(match + example, 8)}{OTHERS}"


def loaded(tmp_path: Path, text: str) -> None:
    (tmp_path / "sidecar.yaml").write_text(text)
    (tmp_path / "venues.json").write_text("[]")
    load(tmp_path / "sidecar.yaml", ENVIRONMENT)


def test_each_key_has_an_example_and_nothing_else_has() -> None:
    assert set(EXAMPLES) == set(KEYS)


@pytest.mark.parametrize("path", KEYS)
def test_an_example_sets_its_key(path: str) -> None:
    found = [yaml.load(EXAMPLES[path], yaml.BaseLoader)]  # else `on` would be a boolean
    for step in path.removeprefix("routes[].").split("."):
        name, in_a_list = step.removesuffix("[]"), step.endswith("[]")
        here = [one for one in found if isinstance(one, dict)]
        found = [
            value for one in here for value in (one.values() if name == "NAME" else [one[name]] if name in one else [])
        ]
        found = [entry for value in found for entry in value] if in_a_list else found
    assert found


@pytest.mark.parametrize(("path", "place"), [(path, place) for path, key in KEYS.items() for place in key.places])
def test_an_example_is_accepted_in_each_place_that_the_page_names(tmp_path: Path, path: str, place: str) -> None:
    loaded(tmp_path, in_its_place(path, place))


@pytest.mark.parametrize(
    ("path", "place"), [(path, place) for path in POLICY for place in (ROUTE, TOP) if place not in KEYS[path].places]
)
def test_an_example_is_refused_elsewhere(tmp_path: Path, path: str, place: str) -> None:
    with pytest.raises(ConfigErrors):
        loaded(tmp_path, in_its_place(path, place))


def test_the_whole_files_on_the_page_load(tmp_path: Path) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", page().partition("## The services")[0], re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    for block in blocks:
        loaded(tmp_path, block)
