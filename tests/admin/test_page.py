"""The dashboard's files: what is there and nothing else, under a policy that lets nothing in from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request

from sidecar.admin.page import FOLDER, TYPES, Page
from sidecar.admin.problem import ApiProblem


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ui = tmp_path / "ui"
    (ui / "charts").mkdir(parents=True)
    (ui / "index.html").write_text("<!doctype html>")
    (ui / "charts" / "chart.js").write_text("1")
    (ui / "notes.py").write_text("secret")
    (tmp_path / "secret.html").write_text("secret")
    return ui


def test_a_file_with_its_type_and_policy(folder: Path) -> None:
    found = Page(folder).answer(make_mocked_request("GET", "/"), "index.html")
    assert (found.status, found.content_type, found.charset, found.body) == (
        200,
        "text/html",
        "utf-8",
        b"<!doctype html>",
    )
    policy = found.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert Page(folder).answer(make_mocked_request("GET", "/"), "charts/chart.js").content_type == "text/javascript"


@pytest.mark.parametrize("given", ["{etag}", "W/{etag}", '"other", {etag}'])
def test_who_has_it_is_not_sent_it_again(folder: Path, given: str) -> None:
    page = Page(folder)
    etag = page.answer(make_mocked_request("GET", "/"), "index.html").headers["ETag"]
    again = make_mocked_request("GET", "/", headers={"If-None-Match": given.format(etag=etag)})
    assert page.answer(again, "index.html").status == 304
    (folder / "index.html").write_text("<!doctype html><p>")
    assert page.answer(again, "index.html").status == 200


@pytest.mark.parametrize(
    "name",
    [
        "../secret.html",
        "charts/../../secret.html",
        "notes.py",
        "charts",
        "",
        "/etc/passwd",
        "INDEX.html",
        "index.html\0",
    ],
)
def test_nothing_else_is_there(folder: Path, name: str) -> None:
    with pytest.raises(ApiProblem) as problem:
        Page(folder).answer(make_mocked_request("GET", "/"), name)
    assert problem.value.status == 404


def test_without_a_folder_there_is_nothing() -> None:
    with pytest.raises(ApiProblem):
        Page(Path("/nonexistent")).answer(make_mocked_request("GET", "/"), "index.html")


def test_every_file_of_the_package_is_of_a_type_that_is_served() -> None:
    odd = [path.name for path in FOLDER.rglob("*") if path.is_file() and path.suffix not in TYPES]
    assert set(odd) <= {"LICENSE", "VERSION"}
