"""Jobs with the text in which a search looks."""

from __future__ import annotations

from .base import Value
from .jobs import Job


class Searched(Value, frozen=True, kw_only=True):
    """A job as in a list, with the searchable `text` of its payload and error, each cut at 8 KiB.

    `stack`: the stack of its last failure, both ends of a long one; None if there is none or the library stores none.
    """

    job: Job
    text: str
    stack: str | None = None


class Window(Value, frozen=True, kw_only=True):
    """A range of one list, to search in. `total`: the length of the whole list; None if it cannot be counted.

    `at_least`: there are `total` jobs and possibly more that are not listed. `problems`: as in JobPage.
    """

    rows: tuple[Searched, ...]
    total: int | None
    order: str
    at_least: bool = False
    problems: tuple[str, ...] = ()


class ScanResult(Value, frozen=True, kw_only=True):
    """The jobs in a range of one list that may match a search. The range ends before row `reached`.

    `more`: the list continues there.
    """

    rows: tuple[Searched, ...]
    reached: int
    more: bool
