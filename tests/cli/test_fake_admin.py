"""The fake admin API answers in the shapes that the real one is defined by."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sidecar.admin import answers
from tests.cli import fake_admin as fake

SHAPES = [
    (fake.services(), answers.Services),
    (fake.detail(), answers.ServiceDetail),
    (fake.BREAKER_DETAIL, answers.BreakerDetail),
    (fake.ENDPOINT, answers.Endpoint),
    ({"events": [fake.event(1)]}, answers.Events),
    (fake.explanation(), answers.Explanation),
    (fake.reload_report(), answers.Reload),
    (fake.problem(404, "not_found", "nothing"), answers.Problem),
]


@pytest.mark.parametrize(("answer", "shape"), SHAPES, ids=lambda value: getattr(value, "__name__", ""))
def test_an_answer_has_the_shape_and_no_key_besides(answer: Any, shape: Any) -> None:
    converted = msgspec.convert(answer, shape)
    written = msgspec.json.decode(msgspec.json.encode(converted))
    assert answer.keys() <= written.keys()
