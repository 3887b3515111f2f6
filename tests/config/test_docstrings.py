"""Docstrings of structs, their fields and the aliases of types, out of the source."""

from __future__ import annotations

from sidecar.config.annotations import fields_of
from sidecar.config.docstrings import docstring_of, docstrings
from sidecar.config.schema import CheckUrl, EndpointSpec, HealthCheck
from sidecar.policy.settings import OutlierSettings, PercentageOrZero, Timeouts


def test_a_struct_and_its_fields() -> None:
    found = docstrings(HealthCheck)
    assert found[""].startswith("An entry of `checks`")
    assert found["required"].startswith("While it fails, `GET /health` is unhealthy")
    assert "scheme" not in docstrings(CheckUrl)


def test_a_docstring_of_several_lines_is_one_line() -> None:
    assert "\n" not in docstrings(EndpointSpec)[""]


def test_what_is_no_struct_of_a_source_has_none() -> None:
    class Local(Timeouts, frozen=True):
        pass

    assert docstrings(Local) == {}


def test_an_alias_is_found_by_what_it_stands_for() -> None:
    assert docstring_of(fields_of(Timeouts)["connect"]) == "A duration, such as `250ms`, `5s`, `2m` or `1h`."
    assert docstring_of(fields_of(OutlierSettings)["panic_threshold"]) == docstring_of(PercentageOrZero)
    assert docstring_of(int) is None
