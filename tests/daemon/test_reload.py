"""A good file is put in force, a bad one changes nothing."""

from __future__ import annotations

from pathlib import Path

from sidecar.config.load import load_with_origins
from sidecar.config.schema import Config
from sidecar.daemon.reload import Reloader


async def test_a_good_file_is_adopted_and_a_bad_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text("services: {venue: {url: 'http://venue:3002'}}")
    adopted: list[Config] = []
    config, origins = load_with_origins(path, {})
    reloader = Reloader(
        path, config, origins, adopt=adopted.append, generation=lambda: 1 + len(adopted), unfit=lambda _: None
    )
    assert (await reloader.reload("api")).result == "unchanged"
    path.write_text("services: {venue: {url: 'http://venue:3003'}}")
    report = await reloader.reload("file")
    assert (report.result, report.changed, len(adopted)) == ("ok", ("services.venue.endpoints",), 1)
    path.write_text("services: nonsense")
    report = await reloader.reload("signal")
    assert (report.result, len(report.errors), len(adopted)) == ("rejected", 1, 1)
