"""Published schemas of other projects' files (compose, GitHub), as check-jsonschema contains them: no network."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from tests.support import wants

needs_schemas = wants.of_the_machine(
    "check-jsonschema, which requirements.lock has", there=importlib.util.find_spec("check_jsonschema") is not None
)


def check_schema(name: str, *paths: Path) -> None:
    """Fails with check-jsonschema's message if a file is not valid by the schema of this `name`."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", name, *map(str, paths)]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert run.returncode == 0, run.stdout
