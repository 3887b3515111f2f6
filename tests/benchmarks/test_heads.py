"""The two ways compared write the same head, and a run prints a row for each."""

from __future__ import annotations

import pytest

from benchmarks import heads


@pytest.mark.parametrize("size", heads.SIZES)
def test_both_ways_write_the_same(size: int) -> None:
    head = heads.head(size)
    assert head.count(b"\r\n") == size + 2
    assert heads.by_slices(head) == heads.by_callbacks(head)


def test_a_short_run(capsys: pytest.CaptureFixture[str]) -> None:
    heads.main(batches=1, heads=2)
    assert [line.split("|")[1].split("(")[0].strip() for line in capsys.readouterr().out.splitlines()] == [
        "us of CPU a head",
        "---",
        "slices",
        "a callback for each field",
    ]
