"""Errors of Kubernetes discovery, in words that an operator can act on."""

from __future__ import annotations


class Problem(Exception):
    """A list or watch failed; the known endpoints stay. `str()` is the message, without secrets.

    `kind` is the same each time that the same problem occurs, so that it is logged once. `relist`: the state that the
    watch built up can no longer be used, so list again. `in_stream`: the problem came after the server had accepted the
    watch, so an accepted watch does not mean that it is solved. `retry_after_s` is the wait that the server asks for.
    """

    def __init__(
        self, kind: str, words: str, *, relist: bool = False, in_stream: bool = False, retry_after_s: float = 0.0
    ) -> None:
        super().__init__(words)
        self.kind = kind
        self.relist = relist
        self.in_stream = in_stream
        self.retry_after_s = retry_after_s


GONE = "gone"
"""The kind for a `resourceVersion` that the server no longer has. This is normal; a new list solves it."""


def gone(words: str) -> Problem:
    """The server's history does not reach back far enough (410), so list again.

    A list alone does not solve it: a server might go on refusing each watch from the version that it just gave.
    """
    return Problem(GONE, words, relist=True, in_stream=True)
