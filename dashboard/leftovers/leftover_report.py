"""What a scan for leftovers found: how many of how many that were checked, with examples. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from ..model import QueueRef, State

MAX_EXAMPLES = 10


class LeftoverKind(StrEnum):
    """What is left; the value is its heading."""

    UNLISTED = "Jobs in no list"
    MISSING = "IDs without a job"
    UNLOCKED = "Active jobs without a worker"
    PRIVATE = "Private lists of workers that are gone"


class LeftoverExample(NamedTuple):
    """One of them. `ref` is None if its queue is unknown; `state`: the list that names it, None if none does.

    `job_id`: "" for a key that is no job. `detail`: what is wrong, in the words of the library.
    """

    ref: QueueRef | None
    job_id: str
    state: State | None
    detail: str


class Leftovers(NamedTuple):
    """`found` of `checked` ones. If not all were checked, `population` is about how many there are to check, and
    `estimate` about how many leftovers there are; otherwise both are None.
    """

    kind: LeftoverKind
    found: int
    checked: int
    population: int | None
    estimate: int | None
    examples: tuple[LeftoverExample, ...]


@dataclass(frozen=True, slots=True)
class LeftoverReport:
    """`at`: seconds since 1970 by this host's clock. `is_complete`: False if the limit of one scan was reached."""

    at: float
    kinds: tuple[Leftovers, ...]
    scanned_keys: int
    all_keys: int
    is_complete: bool
    commands: int
    round_trips: int
    seconds: float
