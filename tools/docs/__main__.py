"""`python -m tools.docs`: writes the generated pages anew and builds the site; `serve` shows it while it is written."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tools.docs import build, reference


def main() -> int:
    """0 where all is well, 1 where a page or the site has mistakes."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs", description=__doc__)
    parser.add_argument("command", choices=("build", "serve"), nargs="?", default="build")
    parser.add_argument("--address", default="127.0.0.1:8000", help="where `serve` shows it; default %(default)s")
    arguments = parser.parse_args()
    root = Path(__file__).resolve().parents[2]
    begun = time.monotonic()
    for name in reference.write(root):
        print(f"{name}: written anew")
    try:
        if arguments.command == "serve":
            build.serve(root, root / "build" / "docs", arguments.address)
            return 0
        pages = build.build(root, root / "site", root / "build" / "docs")
    except build.BuildError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"site/index.html: {pages} pages, {time.monotonic() - begun:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
