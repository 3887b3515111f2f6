"""Counters that continue when a new source replaces an old one."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from sidecar.daemon.continued import continued


@dataclass
class Source:
    kind: str = "dns"
    name: str = "venue"
    updates: dict[str, int] = field(default_factory=lambda: {"success": 0, "failure": 0})
    last_success: float | None = None
    problem: str | None = None
    endpoints: int = 0


def test_counts_continue_and_the_rest_is_the_new_source_s() -> None:
    old = Source(updates={"success": 5, "failure": 2}, last_success=3.0, endpoints=7)
    new = Source(problem="no answer")
    view = continued(new, [Source(name="event"), old])
    assert view.updates == {"success": 5, "failure": 2}
    new.updates = {"success": 1, "failure": 0}
    old.updates = {"success": 9, "failure": 9}  # it is closed, and nobody reads it any more
    assert view.updates == {"success": 6, "failure": 2}
    assert (view.kind, view.name) == ("dns", "venue")
    assert (view.last_success, view.problem, view.endpoints) == (None, "no answer", 0)


def test_counts_continue_over_several_sources() -> None:
    first = Source(updates={"success": 5, "failure": 2})
    second = Source()
    view = continued(second, [first])
    second.updates["success"] = 3
    assert continued(Source(), [view]).updates == {"success": 8, "failure": 2}


@pytest.mark.parametrize("other", [Source(kind="name"), Source(name="event")])
def test_counts_of_other_labels_are_not_added(other: Source) -> None:
    other.updates["success"] = 5
    new = Source()
    assert continued(new, [other]) is new


def test_shared_counts_are_not_counted_twice() -> None:
    shared = {"success": 5, "failure": 2}
    new = Source(updates=shared)
    assert continued(new, [Source(updates=shared)]) is new
    before = continued(Source(updates=shared), [Source(updates={"success": 6, "failure": 2})])
    view = continued(new, [before])
    assert view.updates == {"success": 6, "failure": 2}
    shared["success"] += 1
    assert view.updates == {"success": 7, "failure": 2}
