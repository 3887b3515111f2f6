"""resolv.conf: the full names that a short name may stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.discovery.resolv_conf import Search, read_search

POD = "search prod.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.0.0.10\noptions ndots:5\n"


@pytest.mark.parametrize(
    ("name", "search", "names"),
    [
        ("venue", Search(), ["venue"]),
        ("Venue", Search(("a.test", "b.test")), ["venue.a.test", "venue.b.test", "venue"]),
        ("venue.prod", Search(("a.test",)), ["venue.prod", "venue.prod.a.test"]),
        ("venue.prod", Search(("a.test",), 2), ["venue.prod.a.test", "venue.prod"]),
        ("a.b.c", Search(("a.test",), 2), ["a.b.c", "a.b.c.a.test"]),
        ("venue.", Search(("a.test",), 5), ["venue"]),
        ("venue", Search(("a.test",), 0), ["venue", "venue.a.test"]),
    ],
)
def test_names_to_try(name: str, search: Search, names: list[str]) -> None:
    assert search.names(name) == names


@pytest.mark.parametrize(
    ("text", "search"),
    [
        ("", Search()),
        (POD, Search(("prod.svc.cluster.local", "svc.cluster.local", "cluster.local"), 5)),
        ("search a.test\ndomain B.test.\n", Search(("b.test",))),
        ("# search a.test\n; search b.test\n", Search()),
        ("search .\n", Search()),
        ("options rotate ndots:99 timeout:1", Search(ndots=15)),
        ("options ndots:-1 ndots: ndots:x ndots:²", Search()),
        ("nonsense\n\xff\n", Search()),
    ],
)
def test_reading_the_file(tmp_path: Path, text: str, search: Search) -> None:
    path = tmp_path / "resolv.conf"
    path.write_bytes(text.encode("latin-1"))
    assert read_search(str(path)) == search


def test_without_a_file_there_are_no_search_domains(tmp_path: Path) -> None:
    assert read_search(str(tmp_path / "absent")) == Search()
