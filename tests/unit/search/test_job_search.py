"""A search through lists, and its bounds."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.backends.base import WINDOW_ROWS
from dashboard.clock import instant, now_s
from dashboard.errors import NotFound, Unsupported
from dashboard.model import (
    Capability,
    Counts,
    Job,
    JobError,
    JobQuery,
    QueueRef,
    QueueStats,
    ScanResult,
    Searched,
    State,
    Window,
)
from dashboard.search import job_search as engine
from dashboard.search.job_search import search_jobs
from dashboard.search.query import parse_query
from dashboard.search.search_cursor import KEY_LENGTH, MAX_KNOWN, SearchCursor, parse_cursor
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.unit.sampling.list_backend import Lists


class Shelves(Lists):
    """Jobs 0, 1, 2 … in each list, as many as the queue counts; every hundredth is about a timeout."""

    states = {State.WAITING: ("wait",), State.DEAD: ("failed",)}  # noqa: RUF012
    capabilities = frozenset({Capability.SEARCH})
    sizes: dict[State, int] = {}  # noqa: RUF012

    def row(self, ref: QueueRef, state: State, number: int) -> Searched:
        failed = JobError(class_name="Boom", message="timeout") if state is State.DEAD and number % 100 == 0 else None
        at = instant(now_s() - number)
        job = Job(
            id=f"{state.value}-{number}",
            source="main",
            backend="lists",
            queue=ref.name,
            state=state,
            name="send",
            enqueued_at=at,
            error=failed,
        )
        return Searched(job=job, text=f'{{"to": "user{number}@example.com"}}')

    def search_page(self, ref: QueueRef, query: JobQuery) -> Window:
        total = self.sizes[query.state]
        numbers = range(query.offset, min(total, query.offset + query.per_page))
        return Window(rows=tuple(self.row(ref, query.state, n) for n in numbers), total=total, order="newest first")

    def read_job(self, ref: QueueRef, job_id: str) -> Job:
        state, _, number = job_id.rpartition("-")
        if state not in ("waiting", "dead") or int(number) >= self.sizes[State(state)]:
            raise NotFound("none")
        return self.row(ref, State(state), int(number)).job


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Searches one queue of the given sizes."""
    backend = Shelves(Source("main", "redis://127.0.0.1:1/0"), SourceSettings(name="main", url="redis://127.0.0.1:1/0"))
    monkeypatch.setattr(engine, "SECONDS", 60.0)

    def run(text: str, cursor: str | None = None, waiting: int = 1200, dead: int = 300, **fields: Any) -> Any:
        backend.sizes = {State.WAITING: waiting, State.DEAD: dead}
        counts = Counts(waiting=waiting, dead=dead)
        queue = QueueStats(source="main", backend="lists", key="mails", **{"name": "mails", "counts": counts, **fields})
        return search_jobs(parse_query(text), [queue], lambda _: backend, cursor)

    return run


@pytest.fixture
def look_at(look: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Searches 500 waiting jobs in each of several queues."""
    del look
    backend = Shelves(Source("main", "redis://127.0.0.1:1/0"), SourceSettings(name="main", url="redis://127.0.0.1:1/0"))
    backend.sizes = {State.WAITING: 500, State.DEAD: 0}

    def run(names: list[str], text: str, cursor: str | None = None, empty: tuple[str, ...] = ()) -> Any:
        queues = [
            QueueStats(
                source="main",
                backend="lists",
                key=name,
                name=name,
                counts=Counts(waiting=0 if name in empty else 500, dead=0),
            )
            for name in names
        ]
        return search_jobs(parse_query(text), queues, lambda _: backend, cursor)

    return run


def ids(found: Any) -> list[str]:
    return [each.job.id for each in found.jobs]


def place(found: Any) -> tuple[int, int, int]:
    cursor = parse_cursor(found.cursor)
    return cursor.turn, cursor.list_number, cursor.offset


def test_words_are_found_in_payload_and_error(look: Any) -> None:
    assert ids(look("USER7@example.com")) == ["dead-7", "waiting-7"]
    found = look("timeout")
    assert ids(found) == ["dead-0", "dead-100", "dead-200"]
    assert (found.searched, found.total, found.cursor) == (1500, 1500, None)
    assert ids(look("error:boom user100@")) == ["dead-100"]
    assert ids(look("payload:timeout")) == []


def test_lists_are_chosen_by_state_queue_and_library(look: Any) -> None:
    assert look("state:dead nothing").searched == 300
    assert look("state:failed nothing").searched == 300
    assert look("-state:dead nothing").searched == 1200
    assert look("queue:mail* nothing").searched == 1500
    assert look("queue:other nothing").searched == 0
    assert look("library:rq nothing").searched == 0
    assert look("-library:rq nothing").searched == 1500


def test_age_and_exclusion(look: Any) -> None:
    assert set(ids(look("state:dead age:<3s"))) <= {"dead-0", "dead-1", "dead-2", "dead-3"}
    assert "dead-200" not in ids(look("state:dead timeout -user200@"))
    assert len(look("state:dead age:>4m").jobs) >= 58


def test_an_exact_id_ends_the_look_until_more_is_asked(look: Any) -> None:
    found = look("dead-5")
    assert (ids(found), found.searched) == (["dead-5"], 0)
    more = look("dead-5", found.cursor)
    assert ids(more)[:2] == ["dead-50", "dead-51"]  # the job itself is not found twice
    assert (found.found_total, more.found_total) == (1, 1 + len(more.jobs))


def test_a_lookup_by_id_reports_queues_it_could_not_read(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "ID_SECONDS", -1.0)
    assert "only 0 of 1 queues were checked for this id" in look("dead-5").problems[0]


def test_an_exact_id_is_found_at_any_position(look: Any) -> None:
    assert ids(look("waiting-99999", waiting=100_000))[0] == "waiting-99999"
    assert ids(look("id:dead-5"))[0] == "dead-5"


def test_a_look_is_bounded_and_can_be_continued_to_the_end(look: Any) -> None:
    seen, cursor, looks = 0, None, 0
    while True:
        found = look("nowhere-to-be-found", cursor, waiting=12_300, dead=0)
        seen, cursor, looks = seen + found.searched, found.cursor, looks + 1
        assert found.searched <= engine.ROWS_PER_LIST
        if cursor is None:
            break
    assert (seen, looks) == (12_300, 3)


def test_more_than_fits_is_continued_without_loss(look: Any) -> None:
    found = look("state:waiting send")
    assert len(found.jobs) >= engine.MAX_FOUND
    assert found.cursor is not None
    assert found.searched == WINDOW_ROWS
    assert not set(ids(found)) & set(ids(look("state:waiting send", found.cursor)))


def test_time_is_a_bound_too(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SECONDS", -1.0)
    found, parts = look("nowhere-to-be-found"), 1
    assert (found.searched, place(found)) == (300, (0, 0, 0))
    while found.cursor is not None:
        found, parts = look("nowhere-to-be-found", found.cursor), parts + 1
        assert 0 < found.searched <= WINDOW_ROWS
    assert parts == 4


class Sieves(Shelves):
    """Its waiting jobs can be scanned, 700 at once, as long as that is permitted."""

    permitted = True
    asked: list[str] = []  # noqa: RUF012

    def can_scan(self, state: State) -> bool:
        return self.permitted and state is State.WAITING

    def scan_matches(self, ref: QueueRef, state: State, word: str, offset: int) -> ScanResult | None:
        if word == "refused":
            self.permitted = False
            return None
        self.asked.append(word)
        reached = min(self.sizes[state], offset + 700)
        rows = tuple(self.row(ref, state, n) for n in range(offset, reached) if n % 1000 == 7)
        return ScanResult(rows=rows, reached=reached, more=reached < self.sizes[state])


@pytest.fixture
def sieve(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Searches a queue that can be scanned in part."""
    backend = Sieves(Source("main", "redis://127.0.0.1:1/0"), SourceSettings(name="main", url="redis://127.0.0.1:1/0"))
    monkeypatch.setattr(engine, "SECONDS", 60.0)
    backend.asked = []

    def run(text: str, cursor: str | None = None, waiting: int = 50_000, dead: int = 6000) -> Any:
        backend.sizes = {State.WAITING: waiting, State.DEAD: dead}
        queue = QueueStats(
            source="main", backend="lists", key="mails", name="mails", counts=Counts(waiting=waiting, dead=dead)
        )
        return search_jobs(parse_query(text), [queue], lambda _: backend, cursor), backend

    return run


def test_a_list_that_can_be_sifted_is_searched_to_its_end(sieve: Any) -> None:
    found, backend = sieve("user49007@example.com pay -nothing")
    assert (ids(found), found.searched, found.total) == ([], 5000 + 50_000, 56_000)
    found, backend = sieve("USER49007@example.com")
    assert ids(found) == ["waiting-49007"]
    assert (found.searched, place(found)) == (5000 + 50_000, (1, 0, 0))
    assert set(backend.asked) == {"USER49007@example.com", "user49007@example.com"}
    found, backend = sieve("USER49007@example.com", found.cursor)
    assert (ids(found), found.searched, found.cursor) == ([], 1000, None)


def test_what_cannot_be_sifted_is_looked_at_in_windows(sieve: Any) -> None:
    for text in ('"user7 x"', "us", "raw0123", "-user7@", "age:>1s"):
        assert sieve(text)[1].asked == [], text
    found, backend = sieve("refused")
    assert (backend.asked, found.searched, place(found)) == ([], 10_000, (1, 0, 0))


def test_a_search_stops_at_its_time_limit_and_continues_from_there(sieve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(engine, "monotonic_s", lambda: float(next(clock)))
    monkeypatch.setattr(engine, "SECONDS", 8.0)
    seen, cursor, looks = [], None, 0
    while looks == 0 or cursor is not None:
        found, _ = sieve("id:iting-49007", cursor, dead=0)
        seen, cursor, looks = seen + ids(found), found.cursor, looks + 1
    assert (seen, looks > 2) == (["waiting-49007"], True)


def test_an_id_beside_the_choice_of_a_queue_is_looked_up(look: Any) -> None:
    assert (ids(look("queue:mails id:dead-5")), look("queue:mails id:dead-5").searched) == (["dead-5"], 0)
    assert ids(look("library:rq id:dead-5")) == []
    assert look("queue:mails dead-5").searched > 0


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "0.0.0", "1.2.-3.0.0.0..", "1.2.99999999999.0.0.0..", "0.0.0.0.0.0.short.", "0.0.0.0.0.0.." + "x" * 2000],
)
def test_a_cursor_that_is_none_is_refused(look: Any, cursor: str) -> None:
    with pytest.raises(Unsupported):
        look("x", cursor)


def search_to_the_end(look: Any, text: str, **sizes: int) -> list[Any]:
    parts = [look(text, None, **sizes)]
    while parts[-1].cursor is not None:
        parts.append(look(text, parts[-1].cursor, **sizes))
    return parts


def test_totals_add_up_over_all_parts_and_are_complete_only_at_the_end(look: Any) -> None:
    parts = search_to_the_end(look, "user1", waiting=12_300, dead=0)
    assert len(parts) > 2
    assert [part.is_complete for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].searched_total == sum(part.searched for part in parts) == parts[-1].total == 12_300
    assert parts[-1].found_total == sum(len(part.jobs) for part in parts)
    assert parts[0].found_total == len(parts[0].jobs)


def test_no_job_is_found_twice_when_a_list_grows_between_two_parts(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = look("state:waiting send", waiting=1200)
    grown = 200  # jobs added in front since: what the first part read last is read again
    row = Shelves.row
    monkeypatch.setattr(Shelves, "row", lambda self, ref, state, number: row(self, ref, state, number - grown))
    second = look("state:waiting send", first.cursor, waiting=1200 + grown)
    known = ids(first)[-MAX_KNOWN:]
    assert not set(known) & set(ids(second))
    assert len(ids(second)) == WINDOW_ROWS - MAX_KNOWN


def test_lists_that_become_empty_do_not_move_the_place_in_the_others(look_at: Any) -> None:
    names = ["alpha", "beta", "gamma"]
    second = look_at(names, "send", look_at(names, "send").cursor)
    assert {each.queue.name for each in second.jobs} == {"beta"}
    third = look_at(names, "send", second.cursor, empty=("alpha", "beta"))
    assert {each.queue.name for each in third.jobs} == {"gamma"}


def test_a_queue_that_is_gone_does_not_move_the_place_in_the_others(look_at: Any) -> None:
    first = look_at(["alpha", "beta", "gamma"], "send")
    assert {each.queue.name for each in first.jobs} == {"alpha"}
    second = look_at(["alpha", "beta", "gamma"], "send", first.cursor)
    assert {each.queue.name for each in second.jobs} == {"beta"}
    third = look_at(["beta", "gamma"], "send", second.cursor)
    assert {each.queue.name for each in third.jobs} == {"gamma"}


@pytest.mark.parametrize("left", [["gamma"], ["alpha", "gamma"], ["alpha", "gamma", "new"]])
def test_the_search_goes_on_behind_a_list_that_is_gone(look_at: Any, left: list[str]) -> None:
    """Its queue had lists of other states, too, and one before it may be gone as well."""
    first = look_at(["alpha", "beta", "gamma"], "send")
    second = look_at(["alpha", "beta", "gamma"], "send", first.cursor)
    assert place(second)[2] == 500
    found, cursor = set(), second.cursor
    while cursor is not None:
        part = look_at(left, "send", cursor)
        found |= {each.queue.name for each in part.jobs}
        cursor = part.cursor
    assert found >= {name for name in left if name != "alpha"}


def test_a_cursor_is_short_enough_for_a_url() -> None:
    known = tuple(str(number).zfill(KEY_LENGTH) for number in range(1000))
    text = SearchCursor(1, 2, 3, 4, 5, 6, 7, 8, "x" * KEY_LENGTH, known).text
    assert len(text) < 1300
    assert parse_cursor(text) == SearchCursor(1, 2, 3, 4, 5, 6, 7, 8, "x" * KEY_LENGTH, known[-MAX_KNOWN:])


def test_a_part_that_could_not_be_read_leaves_the_search_incomplete(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise NotFound("The list is gone.")

    page = Shelves.search_page
    monkeypatch.setattr(Shelves, "search_page", refuse)
    first = look("nothing", waiting=6000, dead=0)
    monkeypatch.setattr(Shelves, "search_page", page)
    last = look("nothing", first.cursor, waiting=6000, dead=0)
    assert (first.unread, last.problems, last.unread, last.is_complete) == (1, (), 1, False)
    assert (last.cursor, last.searched_total, last.total) == (None, 1000, 6000)


def test_later_turns_read_only_lists_that_go_on(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = look("nothing", waiting=6000, dead=300)
    read: list[tuple[State, int]] = []
    page = Shelves.search_page

    def note(self: Shelves, ref: QueueRef, query: JobQuery) -> Window:
        read.append((query.state, query.offset))
        return page(self, ref, query)

    monkeypatch.setattr(Shelves, "search_page", note)
    assert look("nothing", first.cursor, waiting=6000, dead=300).searched_total == 6300
    assert read == [(State.WAITING, 5000), (State.WAITING, 5500), (State.WAITING, 6000)]
    read.clear()
    look("nothing", first.cursor, waiting=6000, dead=300, at_least=(State.DEAD,))
    assert (State.DEAD, 5000) in read  # there may be more than were counted


def test_a_result_says_where_it_matches(look: Any) -> None:
    (job,) = look("error:timeout id:dead-100 -nothing").jobs
    assert (job.matched_in, job.snippet) == (("id", "error"), None)
    (job,) = look("state:dead user7@example").jobs
    assert (job.matched_in, job.snippet) == (("payload",), '{"to": "user7@example.com"}')


def test_a_query_for_one_list_names_it(look: Any) -> None:
    queue, state = look("state:dead timeout").only_list
    assert (queue.name, state) == ("mails", State.DEAD)
    assert look("timeout").only_list is None
    assert look("timeout", waiting=0).only_list[1] is State.DEAD
