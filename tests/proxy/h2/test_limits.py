from __future__ import annotations

import pytest

from sidecar.proxy.h2.frames import ENHANCE_YOUR_CALM, ConnectionFault
from sidecar.proxy.h2.limits import BURST, PER_S, Credit


def test_what_is_spent_has_been_there() -> None:
    credit = Credit(0.0)
    for _ in range(int(BURST)):
        credit.spend(1.0, 0.0, "frames")
    with pytest.raises(ConnectionFault, match="too many frames") as caught:
        credit.spend(1.0, 0.0, "frames")
    assert caught.value.code == ENHANCE_YOUR_CALM


def test_time_and_work_give_it_back_and_never_more_than_there_was() -> None:
    credit = Credit(0.0)
    credit.spend(500.0, 0.0, "frames")
    credit.spend(0.0, 1.0, "frames")
    assert credit.left == 500.0 + PER_S
    credit.earn(3.0)
    assert credit.left == 503.0 + PER_S
    credit.earn(1e9)
    assert credit.left == BURST
    credit.spend(1.0, 1e6, "frames")
    assert credit.left == BURST - 1.0
