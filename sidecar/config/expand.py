"""Replace environment variables in the strings of a file: `${NAME}`, `${NAME:-default}` and `$${`.

It runs after the YAML was parsed, so a variable cannot become YAML structure. It runs before a scalar gets its type, so
a variable may be a number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sidecar.config.errors import BadValueError

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<has_default>:-(?P<default>[^}]*))?\}|\$\{")


def expand(text: str, environ: Mapping[str, str]) -> str:
    """`text` with its variables replaced. As in sh, the default is used for an unset and for an empty variable.

    Raises BadValueError for a variable that is unset and has no default, and for a `${` that begins no variable.
    """
    if "${" not in text:
        return text

    def value_of(reference: re.Match[str]) -> str:
        if reference[0] == "$${":
            return "${"
        name: str | None = reference["name"]
        if name is None:
            raise BadValueError(
                "this ${ does not begin a variable: write ${NAME}, ${NAME:-default}, or $${ for a literal ${"
            )
        if not reference["has_default"]:
            if name not in environ:
                raise BadValueError(
                    f"the environment variable {name} is not set; set it, or give a default: ${{{name}:-...}}"
                )
            return environ[name]
        if "${" in reference["default"]:
            raise BadValueError(f"the default of {name} cannot contain another ${{...}}")
        return environ.get(name) or reference["default"]

    return _REFERENCE.sub(value_of, text)
