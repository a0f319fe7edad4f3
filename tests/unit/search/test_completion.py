"""The term under the caret is completed, and nothing else of the query changes."""

from __future__ import annotations

import pytest

from dashboard.search import completion
from dashboard.search.completion import MAX_COMPLETIONS, KnownValue, KnownValues, complete_query
from dashboard.search.query import FIELDS, parse_query

KNOWN = {
    "queue": [KnownValue("mails", "RQ"), KnownValue("late mails", "RQ"), KnownValue("reports", "BullMQ")],
    "name": [KnownValue("app.send_mail")],
    "error": [KnownValue("ConnectionError", "12 jobs")],
}


def known_values(field: str, part: str) -> list[KnownValue]:
    del part
    return KNOWN.get(field, [])


def queues(*names: str) -> KnownValues:
    return lambda field, part: [KnownValue(name) for name in names] if field == "queue" else []


def labels(text: str, caret: int | None = None) -> list[str]:
    return [each.label for each in complete_query(text, len(text) if caret is None else caret, known_values).offered]


def taken(text: str, caret: int | None = None, choice: int = 0) -> str:
    """The query after a completion was taken."""
    found = complete_query(text, len(text) if caret is None else caret, known_values)
    return text[: found.start] + found.offered[choice].text + text[found.end :]


def test_a_word_is_completed_with_fields_and_then_with_names() -> None:
    assert labels("") == [f"{field}:" for field in FIELDS][:MAX_COMPLETIONS]
    assert labels("sta") == ["state:"]
    assert labels("STA") == ["state:"]
    assert labels("ma") == ["queue:mails", 'queue:"late mails"', "name:app.send_mail"]
    assert labels("m") == []
    assert labels("nothing") == []


def test_every_field_of_the_language_is_offered() -> None:
    for field in FIELDS:
        assert f"{field}:" in labels(field[:-1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("queue:", ["queue:mails", 'queue:"late mails"', "queue:reports"]),
        ("queue:REP", ["queue:reports"]),
        ('queue:"late m', ['queue:"late mails"']),
        ("-queue:rep", ["-queue:reports"]),
        ("error:conn", ["error:ConnectionError"]),
        ("backend:", []),
        ("id:47", []),
        ("state:dea", ["state:dead"]),
        ("age:<", ["age:<10m", "age:<1h"]),
        ("user:x", []),
    ],
)
def test_a_value_is_completed_from_those_known(text: str, expected: list[str]) -> None:
    assert labels(text) == expected


def test_values_that_begin_with_what_was_typed_are_first() -> None:
    found = complete_query("queue:mail", 10, queues("late-mails", "mails")).offered
    assert [each.label for each in found] == ["queue:mails", "queue:late-mails"]


def test_fields_follow_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "FIELDS", ("id", "from", "by", "brand_new"))
    assert labels("") == ["id:", "from:", "by:", "brand_new:"]
    assert labels("from:-1") == ["from:-1h", "from:-1d"]
    assert labels("by:fin") == ["by:finished"]
    assert labels("brand") == ["brand_new:"]
    monkeypatch.setattr(completion, "FIELDS", ("id",))
    assert labels("by:fin") == []


def test_only_the_term_under_the_caret_is_replaced() -> None:
    assert taken("sta") == "state:"
    assert taken("queue:ma state:dead", 8) == "queue:mails state:dead"
    assert taken("state:dead queue:la") == 'state:dead queue:"late mails" '
    assert taken("sta:dead", 2) == "state:"  # no field, so all of it is one word
    assert labels("queue:mails", 2) == []  # its field is complete
    assert taken('queue:"late" x', 11) == 'queue:"late mails" x'
    assert taken("x  y", 2) == "x id: y"


def test_what_is_complete_is_not_offered_again() -> None:
    assert labels("queue:reports") == []
    assert labels("queue:reports", 9) == []


def test_a_caret_beyond_the_query_is_at_its_end() -> None:
    assert labels("sta", 99) == ["state:"]
    assert labels("sta", -1) == labels("sta", 0)


def test_values_that_no_term_can_have_are_left_out() -> None:
    odd = ['say "hi"', "line\nbreak", "\udc80bytes", "x" * 121, "*" * 65, ""]
    assert complete_query("queue:", 6, queues(*odd)).offered == ()


def test_there_are_never_many() -> None:
    many = queues(*(f"queue {number}" for number in range(1000)))
    assert len(complete_query("queue:", 6, many).offered) == MAX_COMPLETIONS


def test_what_is_taken_means_the_value() -> None:
    for value in ("mails", "late mails", "a:b", "x-y"):
        found = complete_query("queue:", 6, queues(value))
        [term] = parse_query(found.offered[0].text).terms
        assert (term.field, term.text) == ("queue", value)
