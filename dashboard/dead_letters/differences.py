"""What differs between the jobs of an error group, and what all of them have in common. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..redact import MASK
from .groups import GroupMember
from .index import KEPT_MESSAGE
from .kept_arguments import KeptArgument

# The newest jobs that are compared, and what is shown of them.
COMPARED_JOBS = 100
SHOWN_VALUES = 4
MAX_FIELDS = 20
MESSAGE, JOB = "error message", "job"


@dataclass(frozen=True, slots=True)
class ValueCount:
    """A value, shortened, and how many of the compared jobs have it."""

    text: str
    count: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A field whose value is not the same in all compared jobs.

    `values` = all of them, sorted, or the SHOWN_VALUES most frequent ones; `distinct` = how many there are; `missing` =
    jobs without the field. `is_argument`: false for what every job has, such as its error message.
    """

    name: str
    values: tuple[ValueCount, ...]
    distinct: int
    missing: int
    is_argument: bool


@dataclass(frozen=True, slots=True)
class JobComparison:
    """The newest `compared` jobs of a group, field by field; fields that have another value in each job come last.

    `job_name` = the name of all of them; None if they differ. `hidden` = fields of which part is masked or too long, so
    that they cannot be compared. `without_arguments` = jobs of which no argument is known.
    """

    compared: int
    job_name: str | None
    same: tuple[KeptArgument, ...]
    different: tuple[Difference, ...]
    hidden: tuple[str, ...]
    without_arguments: int


def compare_jobs(members: Sequence[GroupMember]) -> JobComparison:
    """Compare the newest COMPARED_JOBS of `members`, which are newest first; at most MAX_FIELDS fields."""
    jobs = [list(_fields_of(member)) for member in members[:COMPARED_JOBS]]
    by_name: dict[tuple[str, bool], list[KeptArgument]] = {}
    for fields in jobs:
        for field, is_argument in fields:
            if (field.name, is_argument) in by_name or len(by_name) < MAX_FIELDS:
                by_name.setdefault((field.name, is_argument), []).append(field)
    same: list[KeptArgument] = []
    different: list[Difference] = []
    hidden: list[str] = []
    for (name, is_argument), found in by_name.items():
        if any(field.value is None for field in found):
            hidden += [name] if is_argument else []
        elif len(found) == len(jobs) and len({field.value for field in found}) == 1:
            same += found[:1] if is_argument else []
        else:
            different.append(_difference(name, found, len(jobs), is_argument=is_argument))
    # Not by number of values: rows would change places under the pointer with every death.
    different.sort(key=lambda difference: difference.distinct + difference.missing >= len(jobs))
    job_names = {member.dead_letter.name for member in members[:COMPARED_JOBS]}
    return JobComparison(
        compared=len(jobs),
        job_name=job_names.pop() if len(job_names) == 1 else None,
        same=tuple(same),
        different=tuple(different),
        hidden=tuple(hidden),
        without_arguments=sum(not member.dead_letter.kept_arguments for member in members[:COMPARED_JOBS]),
    )


def _fields_of(member: GroupMember) -> Iterator[tuple[KeptArgument, bool]]:
    """The fields of a job, each once, and whether it is an argument."""
    dead_letter = member.dead_letter
    if dead_letter.message:
        whole = len(dead_letter.message) < KEPT_MESSAGE and MASK not in dead_letter.message
        text = " ".join(dead_letter.message.split())
        yield KeptArgument(MESSAGE, text, dead_letter.message if whole else None), False
    if dead_letter.name:
        yield KeptArgument(JOB, dead_letter.name, dead_letter.name), False
    seen: set[str] = set()
    for argument in dead_letter.arguments:
        if argument.name not in seen:
            seen.add(argument.name)
            yield argument, True


def _difference(name: str, found: Sequence[KeptArgument], jobs: int, *, is_argument: bool) -> Difference:
    counts = Counter(field.value for field in found)
    texts = {field.value: field.text for field in found}
    values = [ValueCount(texts[value], count) for value, count in counts.most_common(SHOWN_VALUES)]
    if len(values) == len(counts):
        values.sort(key=lambda value: value.text)  # their order does not change with every death
    return Difference(name, tuple(values), len(counts), jobs - len(found), is_argument)
