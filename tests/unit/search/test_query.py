"""The grammar of searching."""

from __future__ import annotations

import pytest

from dashboard.errors import Unsupported
from dashboard.search.query import SearchTerm, parse_query


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", ()),
        ("time out", (SearchTerm("time"), SearchTerm("out"))),
        ('"time out"', (SearchTerm("time out"),)),
        ('error:"410 Gone"', (SearchTerm("410 gone", "error"),)),
        ("-state:Completed", (SearchTerm("completed", "state", excluded=True),)),
        ("backend:rq", (SearchTerm("rq", "library"),)),
        ("http://x", (SearchTerm("http://x"),)),
        ("id:AbC", (SearchTerm("AbC", "id"),)),
        ('"open', (SearchTerm("open"),)),
        ("name:", (SearchTerm("name:"),)),
    ],
)
def test_terms(text: str, terms: tuple[SearchTerm, ...]) -> None:
    assert parse_query(text).terms == terms


def test_a_wrong_age_says_how_to_write_one() -> None:
    with pytest.raises(Unsupported, match="age"):
        parse_query("age:old")


def test_a_pattern_of_names_is_short() -> None:
    with pytest.raises(Unsupported, match="Pattern too long"):
        parse_query("queue:" + "*a" * 33)
    assert parse_query("queue:" + "a" * 65).terms[0].text == "a" * 65
