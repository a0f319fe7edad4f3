"""Completion of the search term under the caret: names of fields, and the values of a field that are known. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ..globs import GLOB_LIMIT, is_plain
from ..model import State
from .query import ALIASES, FIELDS
from .time_terms import TIMES

MAX_COMPLETIONS = 12
LONGEST_VALUE = 120
# A shorter word says too little to complete it with names.
SHORTEST_WORD = 2
_TOKEN = re.compile(r'(-?)(?:([A-Za-z]+):)?("[^"]*"?|\S*)')
# What a field matches. A field without a description is offered without one, and only those in FIELDS are offered.
DESCRIPTIONS = {
    "id": "the ID of a job",
    "name": "part of the job's name",
    "queue": "the name of a queue; * matches any characters",
    "state": "waiting, active, dead, …",
    "library": "the queue library",
    "source": "the Redis server",
    "error": "part of the error",
    "payload": "part of the payload",
    "age": "time since the job was enqueued",
    "from": "from this time on, in UTC",
    "to": "up to this time, in UTC",
    "by": "which time from: and to: mean",
}
AGES = (
    (">5m", "older than 5 minutes"),
    (">1h", "older than an hour"),
    (">1d", "older than a day"),
    ("<10m", "younger than 10 minutes"),
    ("<1h", "younger than an hour"),
)
SINCE = (("-1h", "within the last hour"), ("-1d", "within the last day"), ("-7d", "within the last week"))
UNTIL = (("-1h", "more than an hour ago"), ("-1d", "more than a day ago"), ("-7d", "more than a week ago"))


@dataclass(frozen=True, slots=True)
class KnownValue:
    """A value that jobs or queues have now; `detail` says more about it."""

    value: str
    detail: str = ""


# The values of a field (first argument), in the order to offer them. Values that do not contain the second argument,
# ignoring case, may be absent.
KnownValues = Callable[[str, str], Iterable[KnownValue]]


@dataclass(frozen=True, slots=True)
class SearchCompletion:
    """`text` replaces the term; `label` is what to show, and `detail` says more about it."""

    text: str
    label: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Completions:
    """What can replace the characters from `start` to `end` of the query, best first."""

    start: int
    end: int
    offered: tuple[SearchCompletion, ...] = ()


@dataclass(frozen=True, slots=True)
class _Term:
    """The term under the caret; `value` is what of its value is before the caret."""

    start: int
    end: int
    minus: str
    field: str | None
    value: str


# Fields that have a fixed set of values, whatever jobs there are.
FIXED_VALUES: Mapping[str, tuple[KnownValue, ...]] = {
    "state": tuple(KnownValue(state.value) for state in State),
    "age": tuple(KnownValue(value, detail) for value, detail in AGES),
    "from": tuple(KnownValue(value, detail) for value, detail in SINCE),
    "to": tuple(KnownValue(value, detail) for value, detail in UNTIL),
    "by": tuple(map(KnownValue, TIMES)),
}


def complete_query(text: str, caret: int, known: KnownValues) -> Completions:
    """At most MAX_COMPLETIONS completions of the term of `text` at `caret`, a number of characters.

    Time: linear in the query and in the known values.
    """
    term = _term_at(text, min(max(caret, 0), len(text)))
    space = "" if text[term.end : term.end + 1].isspace() else " "
    if term.field is not None:
        values = (*FIXED_VALUES.get(term.field, ()), *known(term.field, term.value))
        offered = _complete_value(term.field, term.value, values)
    else:
        offered = _complete_word(term.value, known)
    shown = tuple(
        SearchCompletion(
            term.minus + each.text + ("" if each.text.endswith(":") else space), term.minus + each.label, each.detail
        )
        for each in offered[:MAX_COMPLETIONS]
        if term.minus + each.text != text[term.start : term.end]
    )
    return Completions(term.start, term.end, shown)


def _term_at(text: str, caret: int) -> _Term:
    for found in _TOKEN.finditer(text):
        if found.start() > caret:
            break
        if found.end() < caret or found.start() == found.end():
            continue
        field = (found[2] or "").lower()
        field = ALIASES.get(field, field)
        if field in FIELDS and caret >= found.start(3):
            value = text[found.start(3) : caret].removeprefix('"')
            return _Term(found.start(), found.end(), found[1], field, value)
        # An unknown field is text; within a known one, its name is completed and its value stays.
        start = found.start() + len(found[1])
        end = found.start(3) if field in FIELDS else found.end()
        return _Term(found.start(), end, found[1], None, text[start : max(start, caret)])
    return _Term(caret, caret, "", None, "")


def _complete_word(word: str, known: KnownValues) -> list[SearchCompletion]:
    """The fields whose names begin with `word`; then the queues and jobs whose names contain it."""
    wanted = word.casefold()
    offered = [
        SearchCompletion(f"{field}:", f"{field}:", DESCRIPTIONS.get(field, ""))
        for field in FIELDS
        if field.startswith(wanted)
    ]
    if len(word) >= SHORTEST_WORD and not word.startswith('"'):
        for field in ("queue", "name"):
            offered += _complete_value(field, word, known(field, word))
    return offered


def _complete_value(field: str, part: str, values: Iterable[KnownValue]) -> list[SearchCompletion]:
    """Terms with the values that contain `part`, ignoring case; those that begin with it first."""
    wanted = part.casefold()
    found: dict[str, tuple[bool, SearchCompletion]] = {}
    for each in values:
        folded = each.value.casefold()
        if wanted in folded and each.value not in found and (term := write_term(field, each.value)) is not None:
            found[each.value] = (not folded.startswith(wanted), SearchCompletion(term, term, each.detail))
    ranked = sorted(found.values(), key=lambda entry: entry[0])
    return [completion for _, completion in ranked[:MAX_COMPLETIONS]]


def write_term(field: str, value: str) -> str | None:
    """The term that asks for this value; None if there is none, or if users cannot read it."""
    if not value or len(value) > LONGEST_VALUE or '"' in value or not value.isprintable():
        return None
    if field == "queue" and len(value) > GLOB_LIMIT and not is_plain(value):
        return None
    quoted = f'"{value}"' if any(char.isspace() for char in value) else value
    return f"{field}:{quoted}"
