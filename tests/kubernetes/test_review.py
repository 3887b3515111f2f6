"""The wire format, without a wire."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.kubernetes import review
from sidecar.kubernetes.patch import Result
from sidecar.kubernetes.review import BadReview
from tests.kubernetes.reviewed import review as written
from tests.kubernetes.samples import anything, broken_pods


def test_what_an_api_server_writes() -> None:
    found = review.read(json.dumps(written()).encode())
    assert found.uid == "705ab4f5-6393-11e8-b7cc-42010a800002"
    assert found.namespace == "shop"
    assert found.pod is not None
    assert found.pod["kind"] == "Pod"


def test_of_anything_but_a_new_pod_nothing_is_taken() -> None:
    for other in ({"operation": "UPDATE"}, {"kind": {"group": "apps", "version": "v1", "kind": "Pod"}}, {"object": 7}):
        assert review.read(json.dumps(written(**other)).encode()).pod is None


@given(anything | st.binary(max_size=30) | broken_pods())
def test_anything_at_all_is_a_question_or_a_bad_review(value: Any) -> None:
    for body in (value, written(value), value if isinstance(value, bytes) else written(uid=value, namespace=value)):
        data = body if isinstance(body, bytes) else json.dumps(body, default=str).encode()
        with suppress(BadReview):
            assert review.read(data).uid


def test_an_allowed_one_is_as_short_as_can_be() -> None:
    assert json.loads(review.answer("u", Result(skipped="x"))) == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "u", "allowed": True},
    }


def test_a_patch() -> None:
    operations = ({"op": "add", "path": "/a", "value": "ä"},)
    response = json.loads(review.answer("u", Result(patch=operations)))["response"]
    assert response["patchType"] == "JSONPatch"
    assert json.loads(base64.b64decode(response["patch"], validate=True)) == list(operations)


def test_a_denial() -> None:
    response = json.loads(review.answer("u", Result(denied="no\nway")))["response"]
    assert response == {
        "uid": "u",
        "allowed": False,
        "status": {"status": "Failure", "message": "no way", "reason": "Forbidden", "code": 403},
    }


@pytest.mark.parametrize("count", [1, 16, 17, 100])
def test_warnings_are_few_short_lines(count: int) -> None:
    warnings = tuple("a\r\nb\x00\u2028" + "x" * 1000 for _ in range(count))
    found = json.loads(review.answer("u", Result(warnings=warnings)))["response"]["warnings"]
    assert len(found) == min(count, 16)
    assert all(len(one) == 250 and one.isprintable() for one in found)
    assert sum(map(len, found)) <= 4096
