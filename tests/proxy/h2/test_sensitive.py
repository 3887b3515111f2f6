from __future__ import annotations

from sidecar.proxy.h2.sensitive import Sensitive


def test_it_is_the_value_that_it_marks() -> None:
    marked = Sensitive(b"secret")
    assert marked == b"secret"
    assert hash(marked) == hash(b"secret")
    assert type(marked) is not bytes
