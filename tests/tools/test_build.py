"""The site is built strictly; what is wrong with it is told, and the last good one stays."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import ROOT, Ports
from tests.support.eventually import eventually
from tests.support.urls import opened
from tools.docs.build import BuildError, build

NAV = """
[project]
site_name = "Ours"
docs_dir = "pages"
site_dir = "site"
use_directory_urls = false
nav = ["index.md", "logs.md"]
theme.font = false
"""
GOOD = {
    "docs/zensical.toml": NAV,
    "docs/index.md": "# Start\n\nSee [logs](logs.md#reasons).\n",
    "docs/logs.md": "# Logs\n\n## Reasons\n",
}


def built(at: Path, **changed: str) -> str:
    """The start page, built from the files of GOOD with some changed."""
    root = at / "repository"
    for name, text in {**GOOD, **changed}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    build(root, at / "out", at / "work")
    return (at / "out/index.html").read_text()


def test_a_site_without_mistakes(tmp_path: Path) -> None:
    assert 'href="logs.html#reasons"' in built(tmp_path)


@pytest.mark.parametrize(
    ("page", "text", "said"),
    [
        ("docs/logs.md", "# Logs\n\nSee [this](gone.md).\n", "docs/logs.md:3: gone.md leads nowhere"),
        ("docs/logs.md", "# Logs\n", "index.md:3:"),
        ("docs/orphan.md", "# Nobody finds me\n", "orphan.md: stands nowhere in the navigation"),
        (
            "docs/logs.md",
            '# Logs\n\n## Reasons\n\n<img src="https://x.example/a.png">\n',
            "loads https://x.example/a.png",
        ),
    ],
)
def test_what_is_wrong_fails_the_build_and_leaves_the_last_site(
    tmp_path: Path, page: str, text: str, said: str
) -> None:
    before = built(tmp_path)
    with pytest.raises(BuildError, match=said.replace(".", r"\.")):
        built(tmp_path, **{page: text})
    assert (tmp_path / "out/index.html").read_text() == before


def test_the_generator_itself_is_strict(tmp_path: Path) -> None:
    """A dead anchor is its business; the check of the HTML would find it too, and is not reached."""
    built(tmp_path)
    with pytest.raises(BuildError) as caught:
        built(tmp_path, **{"docs/logs.md": "# Logs\n"})
    assert "anchor does not exist" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_the_projects_own_site_has_no_mistakes(tmp_path: Path) -> None:
    pages = build(ROOT, tmp_path / "site", tmp_path / "work")
    assert len(list((tmp_path / "site").rglob("*.html"))) == pages + 1  # and the one for what is not there
    assert (tmp_path / "site/search.js").is_file()


def test_a_preview_follows_the_pages_until_it_is_interrupted(tmp_path: Path) -> None:
    built(tmp_path)
    root, work, port = tmp_path / "repository", tmp_path / "preview", Ports.free().proxy
    serve = (
        f"from pathlib import Path; from tools.docs.build import serve; serve(Path({str(root)!r}), Path({str(work)!r})"
    )
    with subprocess.Popen(
        [sys.executable, "-c", f"{serve}, '127.0.0.1:{port}')"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as preview:
        try:

            def shows(text: bytes) -> None:
                try:
                    with opened(f"http://127.0.0.1:{port}/logs.html", timeout=5) as page:
                        assert text in page.read()
                except OSError as error:
                    raise AssertionError("nobody answers") from error

            eventually(lambda: shows(b"Reasons"), timeout=20)
            (root / "docs/logs.md").write_text("# Logs\n\n## Reasons\n\nWritten just now.\n")
            eventually(lambda: shows(b"Written just now."), timeout=20)
        finally:
            preview.send_signal(signal.SIGINT)
        _, said = preview.communicate(timeout=20)
    assert preview.returncode == 0, said
