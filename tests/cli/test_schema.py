"""`sidecar schema`."""

from __future__ import annotations

from tests.cli.command import fine, sidecar
from tests.support.daemon import ROOT


def test_the_committed_schema_is_what_the_command_prints() -> None:
    committed = (ROOT / "config" / "sidecar.schema.json").read_text()
    assert fine(sidecar("schema")) == committed, "run: sidecar schema > config/sidecar.schema.json"


def test_the_reference_names_it_in_its_first_line() -> None:
    first = (ROOT / "config" / "sidecar.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=sidecar.schema.json"
