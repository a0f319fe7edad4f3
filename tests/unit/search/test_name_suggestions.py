"""Names of jobs are remembered within bounds."""

from __future__ import annotations

import pytest

from dashboard.model import Work, Worker, WorkerState
from dashboard.search import name_suggestions
from dashboard.search.name_suggestions import NameSuggestions


def test_names_are_known_once_and_sorted() -> None:
    seen = NameSuggestions()
    seen.add_names([("main", "rq", "mail", "send"), ("main", "rq", "mail", None), ("main", "rq", "web", "fetch")])
    seen.add_names([("main", "celery", "mail", "send"), ("main", "rq", "mail", "x" * 121)])
    assert seen.newest_names(10) == ["fetch", "send"]


def test_the_newest_stay_of_a_queue_and_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_suggestions, "PER_QUEUE", 2)
    monkeypatch.setattr(name_suggestions, "QUEUES", 2)
    seen = NameSuggestions()
    for name in ("a", "b", "a", "c"):
        seen.add_names([("main", "rq", "mail", name)])
    assert seen.newest_names(10) == ["a", "c"]
    seen.add_names([("main", "rq", "web", "w"), ("main", "rq", "pdf", "p")])
    assert seen.newest_names(10) == ["p", "w"]
    assert seen.newest_names(1) == ["p"]


def test_names_of_running_jobs_are_known() -> None:
    seen = NameSuggestions()
    work = (Work(job_id="1", job_name="send", queue="mail"), Work(job_id="2", job_name=None))
    seen.add_workers([Worker(id="a", source="main", backend="rq", state=WorkerState.BUSY, work=work)])
    assert seen.newest_names(10) == ["send"]


def test_names_are_found_by_any_part_newest_queue_first() -> None:
    seen = NameSuggestions()
    seen.add_names([("main", "rq", "mail", "app.send"), ("main", "rq", "web", "Resend"), ("main", "rq", "web", "get")])
    assert seen.find_names("SEND", 10) == ["Resend", "app.send"]
    assert seen.find_names("send", 1) == ["Resend"]
    assert seen.find_names("x", 10) == []
