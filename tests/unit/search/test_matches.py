"""Where a job matches: what is marked, and which part of the payload is shown."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.model import Counts, Job, JobError, QueueStats, Searched
from dashboard.search.matches import AFTER, BEFORE, FoundJob, describe_match, find_spans, first_span
from dashboard.search.query import parse_query

QUEUE = QueueStats(source="main", backend="rq", key="mail", name="mail", counts=Counts())


def match(query: str, text: str = "", **fields: Any) -> FoundJob:
    job = Job(**{"id": "job-1", "source": "main", "backend": "rq", "queue": "mail", **fields})
    return describe_match(parse_query(query), QUEUE, Searched(job=job, text=text))


def marked(text: str, *words: str) -> list[str]:
    return [text[start:end] for start, end in find_spans(text, words)]


def test_words_are_marked_ignoring_case() -> None:
    assert marked("Timeout after TIMEOUT", "timeout") == ["Timeout", "TIMEOUT"]
    assert marked("nothing", "timeout") == []
    assert marked("anything", "") == []


def test_words_that_touch_or_overlap_are_marked_once() -> None:
    assert marked("abcdef", "bcd", "cde") == ["bcde"]
    assert marked("abcdef", "ab", "cd") == ["abcd"]
    assert marked("abcdef", "abc", "b", "f") == ["abc", "f"]


def test_characters_that_fold_to_several_are_marked_as_a_whole() -> None:
    assert marked("Straße und STRASSE", "strasse") == ["Straße", "STRASSE"]
    assert marked("ßx", "sx") == ["ßx"]


def test_fields_are_named_where_the_words_are() -> None:
    error = JobError(class_name="Boom", message="timeout")
    assert match("boom", "boom", error=error).matched_in == ("error",)
    assert match("name:send boom", name="app.send", error=error).matched_in == ("name", "error")
    assert match("job", name="jobs").matched_in == ("id", "name")
    assert match("error:timeout", '{"note": "timeout"}', error=error).matched_in == ("error",)
    assert match("-job state:dead").matched_in == ()


def test_the_payload_is_shown_around_the_match() -> None:
    text = "a" * 500 + " needle " + "b" * 500
    found = match("NEEDLE", text)
    assert found.matched_in == ("payload",)
    assert found.snippet == "…" + "a" * (BEFORE - 1) + " needle " + "b" * (AFTER - 1) + "…"
    assert match("payload:x", '{"x":\n  1}').snippet == '{"x": 1}'


def test_a_term_for_the_payload_shows_it_although_the_error_says_the_same() -> None:
    error = JobError(class_name="Boom", message="timeout")
    found = match("payload:TimeOut", '{"note": "timeout"}\ntimeout', error=error)
    assert (found.matched_in, found.snippet) == (("payload",), '{"note": "timeout"} timeout')
    both = match("payload:timeout error:timeout", '{"note": "timeout"}\ntimeout', error=error)
    assert both.matched_in == ("error", "payload")


def test_the_first_match_is_that_of_all_matches() -> None:
    texts = ("abcdef abc", "Straße und STRASSE", "ßßx", "none", "")
    for text in texts:
        for words in (("def", "abc", "ab"), ("strasse", "und"), ("sx", "x"), ("", "e")):
            spans = find_spans(text, words)
            first = first_span(text, words)
            assert (first is None) == (not spans)
            assert first is None or (first[0] == spans[0][0] and first[1] <= spans[0][1])


def test_a_letter_in_a_long_payload_costs_no_span_for_each_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word of one letter is in 16 KiB of text thousands of times, in each of a thousand rows."""
    monkeypatch.setattr("dashboard.search.matches._occurrences", lambda *_: pytest.fail("all places are collected"))
    assert match("payload:a", "a" * 16_384).snippet == "a" * (1 + AFTER) + "…"


def test_the_payload_is_not_repeated_where_the_summary_shows_the_match() -> None:
    assert match("needle", '{"args": ["needle"]}', summary="needle").snippet is None
    assert match("needle", '{"args": ["needle"]}', summary="x" * 120 + "needle").snippet is not None


def test_a_snippet_is_bounded_also_for_a_long_word() -> None:
    word = "x" * 480
    assert len(match(word, "y" * 100 + word + "z" * 5000).snippet or "") <= BEFORE + 480 + AFTER + 2
