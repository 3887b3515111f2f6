"""What keeps an API server from being used, in words that an operator can act on."""

from __future__ import annotations


class Problem(Exception):
    """Nothing was learned; what was known stays. `str()` is the words, without secrets.

    `kind` is what the same trouble has in common each time, so that it is logged once. `relist` says that what a
    watch told so far can no longer be built on. `in_stream` marks trouble that came after a watch had been accepted:
    then an accepted watch is no sign that it is over. `retry_after_s` is the server's own wish.
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
"""The kind of a `resourceVersion` that the server no longer has. It happens to the best: a list puts it right."""


def gone(words: str) -> Problem:
    """The server's history does not reach back far enough (410): list anew.

    A list alone does not end that trouble: a server could go on to refuse each watch from what it just said.
    """
    return Problem(GONE, words, relist=True, in_stream=True)
