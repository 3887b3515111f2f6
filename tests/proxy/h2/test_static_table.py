from __future__ import annotations

from hpack.table import HeaderTable

from sidecar.proxy.h2 import static_table


def test_it_is_that_of_the_appendix() -> None:
    assert static_table.fields()[1:] == list(HeaderTable.STATIC_TABLE)
    assert len(static_table.fields()) == static_table.SIZE + 1


def test_fields_and_names_are_found_by_their_first_index() -> None:
    assert static_table.numbers()[(b":method", b"POST")] == -3
    assert static_table.numbers()[(b":authority", b"")] == -1
    assert static_table.name_numbers()[b":status"] == -8
    assert b"" not in static_table.name_numbers()
