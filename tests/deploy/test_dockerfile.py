"""deploy/Dockerfile by its text; docs/kubernetes.md says what has really been built."""

from __future__ import annotations

import json
import re

from sidecar import __version__
from tests.support.daemon import ROOT

TEXT = (ROOT / "deploy" / "Dockerfile").read_text()
INSTRUCTIONS = [
    (found[1], " ".join(found[2].replace("\\\n", " ").split()))
    for found in re.finditer(
        r"^([A-Z]+) ((?:.*\\\n)*.*)$", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE), re.MULTILINE
    )
]
LAST_STAGE = INSTRUCTIONS[max(place for place, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM") :]


def said(name: str) -> list[str]:
    return [value for one, value in LAST_STAGE if one == name]


def test_the_base_is_pinned_to_a_version_and_the_same_for_both_stages() -> None:
    (base,) = [value for name, value in INSTRUCTIONS if value.startswith("BASE=")]
    assert re.fullmatch(r"BASE=\S+:\d+\.\d+\.\d+-\S+", base)
    assert [value for name, value in INSTRUCTIONS if name == "FROM"] == ["${BASE} AS build", "${BASE}"]


def test_it_runs_as_a_numeric_user_without_a_shell() -> None:
    (user,) = said("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert said("RUN") == []
    assert [json.loads(value) for value in said("ENTRYPOINT") + said("CMD")] == [["sidecar"], ["run"]]
    (check,) = said("HEALTHCHECK")
    assert json.loads(check.partition(" CMD ")[2])[0] == "sidecar"
    assert said("STOPSIGNAL") == ["SIGTERM"]


def test_labels() -> None:
    (labels,) = said("LABEL")
    for name in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{name}=" in labels
    assert f"VERSION={__version__}" in said("ARG")


def test_what_it_copies_is_there() -> None:
    for name, value in INSTRUCTIONS:
        if name == "COPY" and not value.startswith("--from"):
            for source in value.split()[:-1]:
                assert (ROOT / source).exists(), source


def test_what_it_copies_is_let_into_the_build() -> None:
    let_in = {
        line[1:] for line in (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    copied = {
        source.removeprefix("./")
        for name, value in INSTRUCTIONS
        if name == "COPY" and not value.startswith("--from")
        for source in value.split()[:-1]
    }
    assert copied == let_in
