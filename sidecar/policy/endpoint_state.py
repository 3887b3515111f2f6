"""Endpoint state: what the policies know of one endpoint.

Owns the fields, and what `healthy` means. Each field has one writer: `passing` the live service (from
`sidecar.policy.health_state`), `draining` `sidecar.runtime.drains`, `skip_until` the live endpoint, `available`
`sidecar.policy.availability`, and all others `sidecar.policy.outlier`.

    healthy    Nothing known speaks against the endpoint: it is passing its checks, not ejected and not draining.
               Percentages count these endpoints, in a panic too. A skip does not count: it is short.
    available  The endpoint gets requests now: it is healthy (or there is a panic) and not skipped (unless all are).
"""

from __future__ import annotations

from math import inf


class EndpointState:
    """The live endpoint derives from this class, so the state lives exactly as long as the endpoint. After a change of
    `passing`, `ejected`, `draining` or `skip_until`, call `Availability.recompute`.
    """

    __slots__ = (
        "available",
        "checks_believed",
        "consecutive_failures",
        "draining",
        "ejected",
        "ejected_at",
        "ejected_by_operator",
        "ejected_until",
        "ejections",
        "interval_failures",
        "interval_successes",
        "last_failed_at",
        "passing",
        "returned_at",
        "since",
        "skip_until",
    )

    def __init__(self) -> None:
        self.passing = True
        """Its active checks pass, and it has not declared itself failed. True while nothing is known."""
        self.draining = False
        self.skip_until = 0.0
        """Skipped until this time, in monotonic seconds."""
        self.available = False
        self.ejected = False
        self.ejected_at = 0.0
        self.ejected_until = 0.0
        self.ejected_by_operator = False
        self.ejections = 0
        """The factor of the ejection time."""
        self.returned_at = 0.0
        self.since = 0.0
        """When it joined, became healthy or returned, whichever was last. Slow start begins at this time too."""
        self.checks_believed = False
        """Whether a passed active check ends its ejection."""
        self.consecutive_failures = 0
        self.last_failed_at = -inf
        self.interval_successes = 0
        self.interval_failures = 0

    @property
    def healthy(self) -> bool:
        return self.passing and not (self.ejected or self.draining)
