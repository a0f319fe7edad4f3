"""Bounded reads of many jobs' hashes and result streams, in one round trip if scripts are permitted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from redis.exceptions import NoPermissionError, ResponseError

from ...sources.source import Argument, Command, Reply, Source, text
from ..bounded_reads import PAGE_BYTES, shared_script
from ..lua_reads import Scripts
from .keys import QueueKeys, load_script

# A script blocks the server while it runs: this many jobs take about 1 ms.
JOBS_PER_SCRIPT = 100
# A stream of ten results takes a few kilobytes more than the results.
STREAM_OVERHEAD_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class FieldSelection:
    """What to read of each job: `small` fields that RQ keeps short, and `wide` ones that can hold anything."""

    small: tuple[str, ...]
    wide: tuple[str, ...] = ()
    limit_bytes: int = 16 * 1024  # per value
    entries: int = 0  # of the result stream, newest first

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields."""
        return (*self.small, *self.wide)


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of one run of a job; `id` = time in ms and a counter."""

    id: str
    fields: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class JobHash:
    """What was read of one job. `kind` = the type of its key: hash, none, or an unexpected type."""

    kind: str
    fields: dict[str, bytes] = field(default_factory=dict)
    oversized: dict[str, int] = field(default_factory=dict)  # sizes in bytes of the fields that are too large to read
    entries: tuple[RunResult, ...] = ()
    entries_bytes: int | None = None  # size of a stream that is too large to read
    error: str | None = None  # why the key could not be read

    def text(self, name: str) -> str | None:
        """Return a field as text; None if it is unset or too large."""
        raw = self.fields.get(name)
        return None if raw is None else text(raw)


class JobHashReader:
    """Reads jobs of one source."""

    def __init__(self, source: Source, scripts: Scripts) -> None:
        self._source = source
        self._scripts = scripts

    def now_s(self) -> float:
        """Return the time of the source's clock, in seconds since 1970."""
        return self._source.now_s()

    @property
    def without_scripts(self) -> bool:
        """Whether the user was recently refused permission to run scripts."""
        return self._scripts.are_refused

    def fields_command(self, wanted: Sequence[tuple[Argument, Argument]], longest: int) -> Command:
        """Return the command that reads the values of (key, field), like `short_fields` with scripts."""
        arguments = (part for pair in wanted for part in pair)
        return self._scripts.command(shared_script("fields"), longest, PAGE_BYTES, *arguments)

    def read_hashes(
        self, jobs: Sequence[tuple[QueueKeys, str]], shape: FieldSelection, also: Sequence[Command] = ()
    ) -> tuple[list[JobHash], list[Reply]]:
        """Return the records of `jobs`, in order, and the replies to `also`, which are sent along.

        Cost: 1 round trip; 2 if scripts are not permitted, and 1 more at the first refusal.
        """
        chunks = [jobs[start : start + JOBS_PER_SCRIPT] for start in range(0, len(jobs), JOBS_PER_SCRIPT)]
        answered = self._scripts.run(
            load_script("records"), [_script_arguments(chunk, shape) for chunk in chunks], also
        )
        if answered is None:
            return self._read_plainly(jobs, shape, also)
        answers, others = answered
        failed = next((answer for answer in answers if isinstance(answer, ResponseError)), None)
        if failed is not None:
            raise failed
        return [_parse_hash(answer, shape) for answer in chain.from_iterable(answers)], others

    def _read_plainly(
        self, jobs: Sequence[tuple[QueueKeys, str]], shape: FieldSelection, also: Sequence[Command]
    ) -> tuple[list[JobHash], list[Reply]]:
        """Like `read_hashes`, with plain commands: sizes first, then what is small enough."""
        first: list[Command] = []
        for keys, job_id in jobs:
            key = keys.job(job_id)
            first.append(("TYPE", key))
            first += [("HSTRLEN", key, name) for name in shape.fields]
            if shape.entries:
                first.append(("MEMORY", "USAGE", keys.results(job_id)))
        replies = self._source.run_batch([*first, *also])
        width = 1 + len(shape.fields) + bool(shape.entries)
        sizes = [replies[start : start + width] for start in range(0, len(first), width)]
        second = list(
            chain.from_iterable(_value_commands(*job, shape, size) for job, size in zip(jobs, sizes, strict=True))
        )
        values = iter(self._source.run_batch(second))
        records = [_plain_record(shape, size, values) for size in sizes]
        return records, replies[len(first) :]


def _script_arguments(jobs: Sequence[tuple[QueueKeys, str]], shape: FieldSelection) -> list[Argument]:
    keys = chain.from_iterable((keys.job(job_id), keys.results(job_id)) for keys, job_id in jobs)
    return [shape.limit_bytes, shape.entries, _stream_limit(shape), len(shape.fields), *shape.fields, *keys]


def _stream_limit(shape: FieldSelection) -> int:
    return shape.limit_bytes * 4 + STREAM_OVERHEAD_BYTES


def _parse_hash(answer: Reply, shape: FieldSelection) -> JobHash:
    kind, values, stream = answer
    entries, entries_bytes = _parse_run_results(stream)
    record = JobHash(kind=text(kind), entries=entries, entries_bytes=entries_bytes)
    for name, value in zip(shape.fields, values, strict=False):
        if isinstance(value, int):
            record.oversized[name] = value
        elif value:
            record.fields[name] = value
    return record


def _parse_run_results(reply: Reply) -> tuple[tuple[RunResult, ...], int | None]:
    """Return (the entries, None), or ((), the size of a stream that is too large)."""
    if isinstance(reply, int):
        return (), reply
    if not isinstance(reply, list):
        return (), None
    return tuple(RunResult(text(key), _pair_values(values)) for key, values in reply), None


def _pair_values(values: Sequence[bytes]) -> dict[str, bytes]:
    return {text(name): value for name, value in zip(values[::2], values[1::2], strict=True)}


def _small_enough(shape: FieldSelection, sizes: Sequence[Reply]) -> tuple[list[str], bool]:
    """Return the fields that exist and are small enough to read, and whether the stream is."""
    lengths = sizes[1 : 1 + len(shape.fields)]
    names = [
        name
        for name, size in zip(shape.fields, lengths, strict=True)
        if isinstance(size, int) and 0 < size <= shape.limit_bytes
    ]
    stream = sizes[-1] if shape.entries else None
    return names, isinstance(stream, int) and stream <= _stream_limit(shape)


def _value_commands(keys: QueueKeys, job_id: str, shape: FieldSelection, sizes: Sequence[Reply]) -> list[Command]:
    names, with_stream = _small_enough(shape, sizes)
    commands: list[Command] = [("HGET", keys.job(job_id), name) for name in names]
    if with_stream:
        commands.append(("XREVRANGE", keys.results(job_id), "+", "-", "COUNT", shape.entries))
    return commands


def _plain_record(shape: FieldSelection, sizes: Sequence[Reply], values: Iterator[Reply]) -> JobHash:
    kind, first = sizes[0], sizes[1]
    names, with_stream = _small_enough(shape, sizes)
    found = {name: next(values) for name in names}
    stream = next(values) if with_stream else sizes[-1] if shape.entries else None
    if isinstance(kind, ResponseError) or isinstance(first, NoPermissionError):
        return JobHash(kind="unknown", error="the Redis user does not have permission")
    entries, entries_bytes = _parse_run_results(stream)
    record = JobHash(kind=text(kind), entries=entries, entries_bytes=entries_bytes)
    record.fields.update((name, value) for name, value in found.items() if isinstance(value, bytes) and value)
    for name, size in zip(shape.fields, sizes[1:], strict=False):
        if isinstance(size, int) and size > shape.limit_bytes:
            record.oversized[name] = size
    return record
