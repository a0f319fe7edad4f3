"""Where a job matches a search: the fields, the characters to mark, and an excerpt of its payload.

Only texts whose secrets are masked are looked at, as by the search itself, so that nothing here can reveal one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..model import Job, QueueStats, Searched
from .query import SearchQuery

FIELDS = ("id", "name", "error", "payload")
# Characters of the payload before and after the match.
BEFORE, AFTER = 60, 140


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job that a search found, with the queue in whose list it is.

    `matched_in`: the fields of FIELDS that contain a word of the search. `snippet`: the payload around the first one,
    secrets masked, if it is in the payload and not in the summary; otherwise None.
    """

    queue: QueueStats
    job: Job
    matched_in: tuple[str, ...] = ()
    snippet: str | None = None


def describe_match(query: SearchQuery, queue: QueueStats, row: Searched) -> FoundJob:
    """The job with where it matches. Linear in its text."""
    job = row.job
    error = error_text(job)
    texts = {"id": job.id, "name": job.name or "", "error": error}
    matched = [field for field, text in texts.items() if _contains_any(text, query.words_of(field))]
    # The searched text ends with the error: what may be there only because of it is taken for the error, unless the
    # search asks for the payload.
    asked, folded = query.words_in("payload"), error.casefold()
    words = tuple(word for word in query.words_of("payload") if word in asked or word not in folded)
    span = first_span(row.text, words)
    if span is None:
        return FoundJob(queue, job, tuple(matched))
    shown = job.summary is not None and _contains_any(job.summary[:120], words)
    return FoundJob(queue, job, (*matched, "payload"), None if shown else _cut_around(row.text, *span))


def error_text(job: Job) -> str:
    """The class and message of the last failure; empty for none."""
    return f"{job.error.class_name or ''} {job.error.message or ''}".strip() if job.error else ""


def find_spans(text: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """(start, end) of each occurrence of the `words`, ignoring case, in order; those that touch are one.

    `words` are in lower case, as casefold makes it. Cost: linear in `text` for each word.
    """
    folded = text.casefold()
    origins = None if len(folded) == len(text) else _origins(text)
    spans = sorted(span for word in words if word for span in _occurrences(folded, word))
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if origins is not None:
            start, end = origins[start], origins[end - 1] + 1
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def first_span(text: str, words: Sequence[str]) -> tuple[int, int] | None:
    """(start, end) of the first occurrence of any of the `words`, the longest one there; None if there is none.

    The same `words` and cost as for find_spans, but nothing after the first occurrence is collected.
    """
    folded = text.casefold()
    found = [(at, -len(word)) for word in words if word and (at := folded.find(word)) >= 0]
    if not found:
        return None
    start, length = min(found)
    if len(folded) == len(text):
        return start, start - length
    origins = _origins(text)
    return origins[start], origins[start - length - 1] + 1


def excerpt(text: str, words: Sequence[str], limit: int) -> str:
    """`text` from its start, or, if the first of the `words` is beyond `limit` characters, from shortly before it."""
    span = first_span(text, words)
    if span is None or span[1] <= limit:
        return text
    return f"…{text[max(0, span[0] - limit // 4) :]}"


def _occurrences(text: str, word: str) -> list[tuple[int, int]]:
    found = []
    at = text.find(word)
    while at >= 0:
        found.append((at, at + len(word)))
        at = text.find(word, at + len(word))
    return found


def _origins(text: str) -> list[int]:
    """For each character of the casefolded text the number of the character it comes from: ß becomes ss."""
    return [number for number, char in enumerate(text) for _ in char.casefold()]


def _contains_any(text: str, words: Sequence[str]) -> bool:
    folded = text.casefold()
    return any(word in folded for word in words)


def _cut_around(text: str, start: int, end: int) -> str:
    first, last = max(0, start - BEFORE), min(len(text), end + AFTER)
    return f"{'…' if first else ''}{' '.join(text[first:last].split())}{'…' if last < len(text) else ''}"
