"""Errors in the use of the fakes. Their messages say what to do."""

from __future__ import annotations


class FakeError(Exception):
    """The test asks for something impossible. The message is written for the author of the test."""


class AdminError(FakeError):
    """The sidecar's admin API refused a request. `reason` is its word for programs; `errors` are those of a
    configuration.
    """

    def __init__(self, status: int, reason: str, detail: str, errors: tuple[str, ...] = ()) -> None:
        super().__init__("\n".join([detail or f"the sidecar's admin API answered {status}", *errors]))
        self.status = status
        self.reason = reason
        self.detail = detail
        self.errors = errors
