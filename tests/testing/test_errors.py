"""Errors are read by whoever wrote the test."""

from __future__ import annotations

from sidecar.testing.errors import AdminError, FakeError


def test_a_refusal_says_everything_that_was_wrong() -> None:
    error = AdminError(422, "rejected", "the file was rejected", ("services.a: no", "services.b: no"))
    assert str(error) == "the file was rejected\nservices.a: no\nservices.b: no"
    assert isinstance(error, FakeError)


def test_a_refusal_without_words_says_at_least_its_status() -> None:
    assert str(AdminError(500, "", "")) == "the sidecar's admin API answered 500"
