"""What alerts learn about error groups: which are new, whose they are, and nothing that cannot be known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dashboard.dead_letters.annotations import Annotation, Annotations
from dashboard.dead_letters.fingerprint import normalize_error
from dashboard.dead_letters.group_watch import MAX_DETAIL, MAX_TITLE, NEW_WITHIN_S, WatchedGroup, watched_groups
from dashboard.dead_letters.groups import GroupedDeadLetters, GroupQueue
from dashboard.dead_letters.service import GroupList
from dashboard.model import QueueRef, State
from dashboard.sources.metering import Meter
from tests.unit.dead_letters.test_annotations import group

NOW = 1_700_000_000.0


def reading(annotation: Annotation, *, error: Any = None, problem: str | None = None, **fields: Any) -> GroupList:
    """A reading of one group whose first job died a minute ago."""
    names = fields.pop("names", ("mail",))
    queues = tuple(
        GroupQueue(QueueRef(source="main", backend="rq", name=name, key=name), name, State.DEAD, 1) for name in names
    )
    found = replace(group("no answer", first=NOW - 60, last=NOW - 1, count=2), queues=queues)
    found = replace(found, error=error or found.error, **{k: v for k, v in fields.items() if k != "reading"})
    grouped = GroupedDeadLetters((found,), 2, 2, NOW, reading=fields.get("reading", False))
    return GroupList(grouped, Annotations({found.error.fingerprint: annotation}, problem), 0.1, Meter())


def only(group_list: GroupList) -> WatchedGroup:
    found = watched_groups(group_list, NOW)
    assert found is not None
    return found[0]


def test_a_group_seen_soon_after_its_first_death_is_new() -> None:
    found = only(reading(Annotation(first_at=NOW - 58, newest_at=NOW - 1, owner="anna")))
    assert (found.is_new, found.is_regressed, found.count, found.owner) == (True, False, 2, "anna")
    assert (found.title, found.places) == ("E: no answer", (("main", "rq", "mail"),))


@pytest.mark.parametrize(
    ("annotation", "fields"),
    [
        (Annotation(first_at=NOW - 58), {"first_at": NOW - 60 - NEW_WITHIN_S}),  # it had failed before anyone looked
        (Annotation(first_at=NOW - 58), {"first_at": None}),
        (Annotation(first_at=NOW - 58, ack_at=NOW - 5, ack_by="anna"), {}),
        (Annotation(first_at=NOW - 58, ignored_until=NOW + 60), {}),
        (Annotation(), {}),
    ],
)
def test_other_groups_are_not_new(annotation: Annotation, fields: dict[str, Any]) -> None:
    assert not only(reading(annotation, **fields)).is_new


def test_a_group_that_returned_has_regressed_unless_it_is_ignored() -> None:
    back = Annotation(first_at=NOW - 9e5, newest_at=NOW - 1, back_at=NOW - 1)
    assert (only(reading(back)).is_new, only(reading(back)).is_regressed) == (False, True)
    assert not only(reading(Annotation(first_at=1.0, back_at=NOW - 1, ignored_above=5))).is_regressed


def test_nothing_is_known_without_the_store_or_before_all_jobs_are_read() -> None:
    """An older job of the same error that is not read yet would make it an old one."""
    known = Annotation(first_at=NOW - 58)
    assert watched_groups(reading(known, problem="refused"), NOW) is None
    assert watched_groups(reading(known, reading=True), NOW) is None


def test_hostile_texts_are_short_and_can_be_stored() -> None:
    error = normalize_error("E\ud800", "\x1b[2J" + "x" * 2000)
    found = only(reading(Annotation(first_at=NOW), error=error, names=("a\udcff" + "y" * 400, "b", "c")))
    assert len(found.title) <= MAX_TITLE
    assert len(found.detail) <= MAX_DETAIL
    assert (found.title + found.detail).isprintable()
    assert (found.title + found.detail).encode()
    assert "and 2 more queues: " in only(reading(Annotation(), names=("a", "b", "c"))).detail
