"""Serves the dashboard's files from the package.

Only files of the package are served, each with a validator (ETag). A Content-Security-Policy lets the page load nothing
from other sites, and forbids other pages to frame it.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Final

from aiohttp import web

from sidecar.admin.problem import ApiProblem

FOLDER: Final = Path(__file__).parent / "ui"

TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".json": "application/json",
    ".woff2": "font/woff2",
    ".txt": "text/plain",
}
POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)


class Page:
    """The files below `folder`, read when this object is created, by their relative path."""

    def __init__(self, folder: Path = FOLDER) -> None:
        found = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
        self._files = {path.relative_to(folder).as_posix(): path for path in found if path.suffix in TYPES}

    def answer(self, request: web.BaseRequest, name: str) -> web.Response:
        """`name` is a key, never part of a file path, so `..` leads nowhere."""
        path = self._files.get(name)
        if path is None:
            raise ApiProblem(404, "not_found", "there is no such file")
        body = path.read_bytes()
        etag = f'"{sha256(body).hexdigest()[:32]}"'
        headers = {"ETag": etag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
        if any(etag == each.strip().removeprefix("W/") for each in request.headers.get("If-None-Match", "").split(",")):
            return web.Response(status=304, headers=headers)
        content_type = TYPES[path.suffix]
        charset = "utf-8" if content_type.startswith("text/") else None
        return web.Response(body=body, content_type=content_type, charset=charset, headers=headers)
