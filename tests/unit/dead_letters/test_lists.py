"""The lists of dead letters in a snapshot, and the queues whose dead letters could not be counted."""

from __future__ import annotations

from typing import cast

import pytest

from dashboard.backends.base import Backend
from dashboard.dead_letters.lists import UnreadList, find_lists, find_uncounted
from dashboard.model import Counts, NativeCount, QueueStats, State

GLOBS = ("*-dlq",)


class _Library:
    states = (State.WAITING, State.DEAD)


def backend_of(_source: str, _library: str) -> Backend:
    return cast("Backend", _Library())


def queue(
    name: str, counts: Counts, *, error: str | None = None, shared: bool = False, native: tuple[NativeCount, ...] = ()
) -> QueueStats:
    return QueueStats(
        source="main", backend="x", name=name, key=name, counts=counts, error=error, shared=shared, native=native
    )


def test_dead_jobs_and_waiting_jobs_of_dead_letter_queues_are_listed_longest_list_first() -> None:
    queues = [queue("mail", Counts(waiting=9, dead=2)), queue("mail-dlq", Counts(waiting=5, dead=0))]
    found = find_lists(queues, backend_of, GLOBS)
    assert [(dead_list.queue.name, dead_list.state, dead_list.count) for dead_list in found] == [
        ("mail-dlq", State.WAITING, 5),
        ("mail", State.DEAD, 2),
    ]


@pytest.mark.parametrize(
    ("unread", "uncounted"),
    [
        (queue("mail", Counts(), error="down"), True),
        (queue("mail", Counts(dead=3), error="down"), False),
        (queue("mail", Counts(), native=(NativeCount(native="failed", state=State.DEAD, count=None),)), False),
    ],
    ids=["nothing was read", "the dead jobs were counted", "the library does not count them"],
)
def test_a_queue_that_cannot_be_read_is_reported_unless_its_dead_jobs_are_counted(
    unread: QueueStats, *, uncounted: bool
) -> None:
    expected = [UnreadList(unread.ref, "down")] if uncounted else []
    assert find_uncounted([unread], backend_of, GLOBS) == expected


def test_with_a_shared_list_only_waiting_jobs_of_dead_letter_queues_are_uncounted() -> None:
    shared = queue("*", Counts(dead=1), shared=True)
    mail, dlq = (queue(name, Counts(), error="down") for name in ("mail", "mail-dlq"))
    assert [unread.ref.name for unread in find_uncounted([shared, mail, dlq], backend_of, GLOBS)] == ["mail-dlq"]
    assert UnreadList(shared.ref, "down").line == "all x queues on main: down"
    assert UnreadList(mail.ref, "down").line == "mail (x on main): down"
