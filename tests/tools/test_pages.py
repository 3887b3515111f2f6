"""Pages are collected in one folder, and their links lead to the same things there as in the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.docs.pages import LinkErrors, collect


def repository(at: Path, **files: str) -> Path:
    for name, text in files.items():
        path = at / "repository" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return at / "repository"


def collected(at: Path, **files: str) -> dict[str, str]:
    collect(repository(at, **files), at / "pages")
    return {
        path.relative_to(at / "pages").as_posix(): path.read_text()
        for path in (at / "pages").rglob("*")
        if path.is_file()
    }


def test_a_page_of_docs_is_taken_as_it_is(tmp_path: Path) -> None:
    text = (
        "# Logs\n\nSee [metrics](metrics.md#labels) and [below](#reasons), or [elsewhere](https://example.com/a.md).\n"
    )
    found = collected(tmp_path, **{"docs/logs.md": text, "docs/metrics.md": "# Metrics\n", "docs/zensical.toml": ""})
    assert found == {"logs.md": text, "metrics.md": "# Metrics\n"}


def test_pages_of_the_top_of_the_repository_come_with_links_that_fit(tmp_path: Path) -> None:
    files = {
        "CHANGELOG.md": "See [reload](docs/reload.md#what-stays) and [the licence](LICENSE).",
        "LICENSE": "Apache\n",
        "docs/reload.md": "What [changed](../CHANGELOG.md).",
        "docs/decisions/0001.md": "[Reload](../reload.md), [changes](../../CHANGELOG.md)",
    }
    found = collected(tmp_path, **files)
    assert found == {
        "changelog.md": "See [reload](reload.md#what-stays) and [the licence](license.md).",
        "license.md": "# License\n\n```text\nApache\n```\n",
        "reload.md": "What [changed](changelog.md).",
        "decisions/0001.md": "[Reload](../reload.md), [changes](../changelog.md)",
    }


def test_a_file_that_is_no_page_goes_into_the_site_where_it_is_linked_to(tmp_path: Path) -> None:
    files = {
        "config/sidecar.yaml": "services: {}\n",
        "config/other.yaml": "",
        "docs/decisions/0001.md": "[every key](../../config/sidecar.yaml)",
    }
    found = collected(tmp_path, **files)
    assert found == {
        "decisions/0001.md": "[every key](../files/config/sidecar.yaml)",
        "files/config/sidecar.yaml": "services: {}\n",
    }


def test_all_links_that_lead_nowhere_are_reported_with_their_lines(tmp_path: Path) -> None:
    files = {
        "docs/a.md": "# A\n\n[gone](gone.md)\n[a folder](../deploy)\n",
        "docs/b.md": "[out](../../etc/passwd) [here](a.md)",
        "deploy/x": "",
    }
    with pytest.raises(LinkErrors) as caught:
        collected(tmp_path, **files)
    assert caught.value.mistakes == [
        "docs/a.md:3: gone.md leads nowhere",
        "docs/a.md:4: ../deploy leads nowhere",
        "docs/b.md:1: ../../etc/passwd leads nowhere",
    ]
    assert not (tmp_path / "pages").exists()


def test_code_has_no_links(tmp_path: Path) -> None:
    text = "```sh\n[a](gone.md)\n```\n\n~~~~\n```\n[b](gone.md)\n~~~~\n"
    assert collected(tmp_path, **{"docs/a.md": text}) == {"a.md": text}


def test_a_link_within_a_link_text_with_brackets(tmp_path: Path) -> None:
    found = collected(
        tmp_path, **{"docs/a.md": "[`a[0]`](../LICENSE) ![x](i.svg)", "LICENSE": "", "docs/i.svg": "<svg/>"}
    )
    assert found["a.md"] == "[`a[0]`](license.md) ![x](i.svg)"
    assert found["i.svg"] == "<svg/>"


def test_a_drawing_that_stands_alone_becomes_part_of_the_page(tmp_path: Path) -> None:
    files = {
        "docs/a.md": "Text\n\n![A life](images/a.svg)\n\nand ![inline](images/a.svg)\n",
        "docs/images/a.svg": "<svg></svg>\n",
    }
    found = collected(tmp_path, **files)
    figure = '<figure class="picture">\n<svg></svg>\n</figure>'
    assert found["a.md"] == f"Text\n\n{figure}\n\nand ![inline](images/a.svg)\n"


def test_a_drawing_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(LinkErrors, match=r"docs/a.md:1: gone.svg leads nowhere"):
        collected(tmp_path, **{"docs/a.md": "![A life](gone.svg)"})


def test_collecting_again_writes_what_changed_and_removes_what_is_gone(tmp_path: Path) -> None:
    collected(tmp_path, **{"docs/a.md": "a", "docs/b.md": "b", "docs/c.md": "c"})
    before = (tmp_path / "pages/a.md").stat().st_mtime_ns
    (tmp_path / "repository/docs/b.md").unlink()
    found = collected(tmp_path, **{"docs/c.md": "C"})
    assert found == {"a.md": "a", "c.md": "C"}
    assert (tmp_path / "pages/a.md").stat().st_mtime_ns == before
