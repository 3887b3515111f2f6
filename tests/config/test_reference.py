"""The reference file and the schema, in a checkout; tests/test_packaging.py reads them from an installed wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.config import reference
from tests.support.daemon import ROOT


def test_in_a_checkout_they_are_the_files_of_its_config_folder() -> None:
    assert reference.reference_text() == (ROOT / "config" / "sidecar.yaml").read_text(encoding="utf-8")
    assert reference.schema_text() == (ROOT / "config" / "sidecar.schema.json").read_text(encoding="utf-8")


def test_a_copy_in_the_package_comes_first(tmp_path: Path) -> None:
    installed, sources = tmp_path / "installed", tmp_path / "sources"
    for folder in (installed, sources):
        folder.mkdir()
        (folder / "sidecar.yaml").write_text(folder.name)
    assert reference._text("sidecar.yaml", (installed, sources)) == "installed"
    (installed / "sidecar.yaml").unlink()
    assert reference._text("sidecar.yaml", (installed, sources)) == "sources"


def test_where_there_is_neither_the_installation_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^sidecar\.yaml is in neither .*: the installation is damaged$"):
        reference._text("sidecar.yaml", (tmp_path,))


def test_no_source_tree_has_a_copy() -> None:
    assert not (ROOT / "sidecar" / "config" / "files").exists()
