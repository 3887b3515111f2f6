"""What the admin API says where it does not do what it was asked."""

from __future__ import annotations

import json

from sidecar.admin.answers import FileError
from sidecar.admin.problem import ApiProblem


def test_it_is_problem_json() -> None:
    error = FileError(file="a.yaml", line=3, column=1, key="services", message="missing")
    answer = ApiProblem(422, "rejected", "the file was rejected", errors=[error], headers={"X-A": "b"}).response()
    assert (answer.status, answer.content_type, answer.headers["X-A"]) == (422, "application/problem+json", "b")
    assert isinstance(answer.body, bytes)
    said = json.loads(answer.body)
    assert said.pop("title").startswith("Unprocessable")  # Python 3.13 knows its newer name
    assert said == {
        "type": "urn:sidecar:problem:rejected",
        "status": 422,
        "detail": "the file was rejected",
        "reason": "rejected",
        "errors": [{"file": "a.yaml", "line": 3, "column": 1, "key": "services", "message": "missing"}],
    }


def test_without_errors_there_is_no_such_member() -> None:
    body = ApiProblem(404, "not_found", "nothing here").response().body
    assert isinstance(body, bytes)
    assert json.loads(body) == {
        "type": "urn:sidecar:problem:not_found",
        "title": "Not Found",
        "status": 404,
        "detail": "nothing here",
        "reason": "not_found",
    }
