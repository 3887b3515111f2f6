"""What goes wrong in using the fakes, in words that say what to do."""

from __future__ import annotations


class FakeError(Exception):
    """The test asks for what cannot be: the message is for whoever wrote it."""


class AdminError(FakeError):
    """The sidecar's admin API refused. `reason` is its word for programs; `errors` are a configuration's."""

    def __init__(self, status: int, reason: str, detail: str, errors: tuple[str, ...] = ()) -> None:
        super().__init__("\n".join([detail or f"the sidecar's admin API answered {status}", *errors]))
        self.status = status
        self.reason = reason
        self.detail = detail
        self.errors = errors
