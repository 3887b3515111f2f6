"""The reference configuration and its schema, as text, wherever the sidecar is installed.

Both are files of `config/` at the top of the source tree, which stays their one source. A build copies them into the
package (setup.py); in a checkout, and in an unpacked sdist, they are read where they stand.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_INSTALLED: Final = files("sidecar.config") / "files"
"""Where a build puts them. It exists in no source tree."""
_SOURCES: Final = Path(__file__).parents[2] / "config"


def reference_text() -> str:
    """`config/sidecar.yaml`: every key, with its default and what it does."""
    return _text("sidecar.yaml")


def schema_text() -> str:
    """`config/sidecar.schema.json`: the JSON Schema of a configuration."""
    return _text("sidecar.schema.json")


def _text(name: str, folders: tuple[Traversable, ...] = (_INSTALLED, _SOURCES)) -> str:
    for folder in folders:
        file = folder / name
        if file.is_file():
            return file.read_text(encoding="utf-8")
    raise FileNotFoundError(f"{name} is in neither {' nor '.join(map(str, folders))}: the installation is damaged")
