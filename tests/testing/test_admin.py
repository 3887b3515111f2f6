"""The admin API as the fakes use it, held against the real one."""

from __future__ import annotations

import pytest

from sidecar.testing.admin import Admin
from sidecar.testing.errors import AdminError
from sidecar.testing.sidecar_process import free_ports
from sidecar.testing.stage import Fakes, Stage
from tests.testing.asking import ask


def test_a_breaker_is_forced_and_let_go(stage: Stage, fakes: Fakes) -> None:
    assert fakes.venue.breaker.state == "closed"
    stage.admin.breaker("venue", "open")
    assert stage.admin.service("venue")["breaker"]["forced"] == "open"
    stage.admin.breaker("venue", "closed")
    assert stage.admin.service("venue")["breaker"]["forced"] == "closed"
    stage.admin.breaker("venue", "auto")
    assert stage.admin.service("venue")["breaker"]["forced"] is None


def test_a_breaker_is_forced_for_a_time(stage: Stage, fakes: Fakes) -> None:
    assert fakes.venue
    stage.admin.breaker("venue", "open", for_s=12.5)
    assert 11 < stage.admin.service("venue")["breaker"]["retry_after_s"] <= 12.5


def test_requests_of_no_service_are_counted_at_once(stage: Stage, fakes: Fakes) -> None:
    before = stage.admin.refused()
    for number in range(1, 4):
        ask(fakes.url + "/nobody/x")
        assert stage.admin.refused() - before == number


def test_a_service_that_is_not_there(stage: Stage) -> None:
    with pytest.raises(AdminError) as refused:
        stage.admin.service("ven ue/x")
    assert refused.value.status == 404
    assert "no service of that name" in str(refused.value)


def test_a_file_that_is_refused(stage: Stage, fakes: Fakes) -> None:
    assert fakes.venue
    with pytest.raises(AdminError) as refused:
        stage.put_in_force({"services": {"venue": {"urll": "x"}}})
    assert refused.value.status == 422
    assert "services.venue.urll: unknown key; did you mean url?" in refused.value.errors


def test_nobody_there() -> None:
    (port,) = free_ports(1)
    with pytest.raises(AdminError, match="does not answer"):
        Admin(port).reload()
