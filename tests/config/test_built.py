"""Why an installation is not compiled; tests/test_packaging.py reads it from real ones."""

from __future__ import annotations

from pathlib import Path

from sidecar.config.built import why_not_compiled


def test_it_is_what_the_build_wrote(tmp_path: Path) -> None:
    (tmp_path / "reason").write_text("there is no C compiler (cc)\n")
    assert why_not_compiled(tmp_path / "reason") == "there is no C compiler (cc)"


def test_nobody_built_a_checkout() -> None:
    assert why_not_compiled() is None
