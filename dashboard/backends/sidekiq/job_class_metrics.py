"""Metrics of each job class, which Sidekiq 7 and 8 store per minute in UTC: the last hour, and what a sample adds.

Layout: sidekiq `lib/sidekiq/metrics/tracking.rb` and `shared.rb`, 7.0 to 8.1. A minute is a hash of `CLASS|p`
(attempts), `CLASS|f` (failed attempts) and `CLASS|ms` (run time of successful attempts); the run times of a class in a
minute are a string of 16-bit counters, one per bucket.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from typing import NamedTuple

from ...clock import instant
from ...model import ClassBoard, ClassFlow, ClassStats
from ...sources.source import Command, Reply, Source, text
from ..class_tally import MAX_RUNTIMES, share_out

MINUTES = 60
SCOPE = "across all queues: Sidekiq counts attempts per class, not per queue, at each heartbeat"
# How many fields of a minute are read, three per class; a minute with many more is cut off.
FIELDS = 1500
MOST = 50
# The upper bounds of the buckets, in ms; the last counter counts everything that took longer.
BELOW_MS = (
    *(20, 30, 45, 65, 100, 150, 225, 335, 500, 750, 1100, 1700, 2500, 3800, 5750, 8500),
    *(13_000, 20_000, 30_000, 45_000, 65_000, 100_000, 150_000, 225_000, 335_000),
)
COUNTERS = len(BELOW_MS) + 1
MIDDLES_S = tuple(bound / 1000 / 1.5**0.5 for bound in (*BELOW_MS, 1.5 * BELOW_MS[-1]))
# How many run times of class and minute one sample reads.
TIMES_READ = 100
MAX_NAME = 200
Minute = tuple[datetime, int]  # and the major version whose format it has


class ClassSums(NamedTuple):
    """The totals of one class, and the minutes in which some of its jobs succeeded."""

    counts: dict[bytes, int]
    minutes: list[Minute]


def read_class_stats(source: Source, namespace: str) -> ClassBoard | None:
    """The classes that ran within the hour; None if nothing is stored. Cost: 2 round trips, 1 if there are none."""
    at = instant(source.now_s() // 60 * 60)
    if at is None:
        return None
    minutes = [(at - timedelta(minutes=n), major) for n in range(MINUTES) for major in (7, 8)]
    replies = source.run_batch([("HSCAN", f"{namespace}{_minute_key(*each)}", 0, "COUNT", FIELDS) for each in minutes])
    sums, cut = _sum_minutes(minutes, replies)
    if not sums:
        return None
    ordered = sorted(sums.items(), key=lambda entry: (-entry[1].counts[b"ms"], -entry[1].counts[b"p"], entry[0]))[:MOST]
    times = _read_times(source, namespace, ordered)
    return ClassBoard(
        classes=tuple(_build_class_stats(name, each.counts, times[name]) for name, each in ordered),
        total=len(sums),
        span_s=MINUTES * 60.0,
        scope=SCOPE,
        cut=cut,
    )


def _minute_key(at: datetime, major: int) -> str:
    """The key of a minute. Version 8 writes two digits for it, as one digit stands for ten minutes there."""
    return f"j|{at:%Y%m%d}|{at.hour}:{at.minute}" if major == 7 else f"j|{at:%y%m%d}|{at.hour}:{at:%M}"


def _histogram_key(name: bytes, at: datetime, major: int) -> bytes:
    """The key of the run times of a class in a minute."""
    window = f"{at:%d-%H}:{at.minute}" if major == 7 else f"{at.day}-{at.hour}:{at.minute}"
    return (b"" if major == 7 else b"h|") + name + b"-" + window.encode()


def _sum_minutes(minutes: Sequence[Minute], replies: Sequence[Reply]) -> tuple[dict[bytes, ClassSums], bool]:
    """(the totals by class, whether a minute held more than was read)."""
    sums: dict[bytes, ClassSums] = defaultdict(lambda: ClassSums({b"p": 0, b"f": 0, b"ms": 0}, []))
    cut = False
    for minute, reply in zip(minutes, replies, strict=True):
        if not isinstance(reply, list):
            continue
        cursor, flat = reply
        cut = cut or cursor != b"0"
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        for field, value in fields.items():
            name, _, what = field.rpartition(b"|")
            if not name or what not in (b"p", b"f", b"ms"):
                continue
            sums[name].counts[what] += _parse_count(value)
            if what == b"p" and _parse_count(value) > _parse_count(fields.get(name + b"|f")):
                sums[name].minutes.append(minute)
    return sums, cut


def _read_times(
    source: Source, namespace: str, classes: Iterable[tuple[bytes, ClassSums]]
) -> Mapping[bytes, list[int]]:
    """The counters of each class, added up over the minutes."""
    wanted = [(name, minute) for name, sums in classes for minute in sums.minutes]
    space = namespace.encode("utf-8", "surrogateescape")
    replies = source.run_batch(
        [("GETRANGE", space + _histogram_key(name, *minute), 0, 2 * COUNTERS - 1) for name, minute in wanted]
    )
    added: dict[bytes, list[int]] = defaultdict(lambda: [0] * COUNTERS)
    for (name, _), raw in zip(wanted, replies, strict=True):
        if isinstance(raw, bytes):
            added[name] = [sofar + count for sofar, count in zip(added[name], _counters_of(raw), strict=True)]
    return added


def _build_class_stats(name: bytes, counts: Mapping[bytes, int], times: Sequence[int]) -> ClassStats:
    runs, failed = counts[b"p"], counts[b"f"]
    return ClassStats(
        name=text(name),
        runs=runs,
        failed=failed,
        runtime_mean_s=counts[b"ms"] / (runs - failed) / 1000 if runs > failed else None,
        runtime_p50_below_s=_below_s(times, 0.5),
        runtime_p95_below_s=_below_s(times, 0.95),
    )


def _below_s(times: Sequence[int], share: float) -> float | None:
    """The lowest bucket bound that at least `share` of the run times stay below; None if there is none."""
    total = sum(times)
    below = (bound for bound, sofar in zip(BELOW_MS, accumulate(times), strict=False) if sofar >= share * total)
    return next(below, 0) / 1000 or None if total else None


def _parse_count(value: bytes | None) -> int:
    return int(value) if value is not None and value.isdigit() and len(value) < 19 else 0


class MinuteCounts(NamedTuple):
    """What the newest minutes of a namespace held at a sample, by minute and class."""

    counts: Mapping[tuple[Minute, bytes], tuple[int, int]] = {}  # attempts, and failed ones
    times: Mapping[tuple[Minute, bytes], Sequence[int]] = {}  # counters by bucket, as far as they were read
    majors: frozenset[int] = frozenset()  # of the versions that wrote there; none that has such metrics if empty


def newest_minutes(now_s: float, before: MinuteCounts) -> list[Minute]:
    """The minutes that workers write to now: the current one, and the last one, as clocks differ."""
    at = instant(now_s // 60 * 60)
    majors = sorted(before.majors or (7, 8))
    return [] if at is None else [(at - timedelta(minutes=n), major) for n in (0, 1) for major in majors]


def minute_commands(namespace: str, minutes: Sequence[Minute]) -> list[Command]:
    """Return the commands whose replies `parse_minutes` reads."""
    return [("HSCAN", f"{namespace}{_minute_key(*each)}", 0, "COUNT", FIELDS) for each in minutes]


def parse_minutes(minutes: Sequence[Minute], replies: Sequence[Reply], before: MinuteCounts) -> MinuteCounts:
    """What the minutes hold; run times as in `before`."""
    counts: dict[tuple[Minute, bytes], tuple[int, int]] = {}
    for minute, reply in zip(minutes, replies, strict=True):
        fields = dict(zip(reply[1][::2], reply[1][1::2], strict=True)) if isinstance(reply, list) else {}
        for field, value in fields.items():
            if field.endswith(b"|p") and (name := field[:-2]):
                runs = _parse_count(value)
                counts[minute, name] = runs, min(runs, _parse_count(fields.get(name + b"|f")))
    times = {key: found for key, found in before.times.items() if key in counts}
    return MinuteCounts(counts, times, before.majors | {major for (_, major), _ in counts})


def attempts_since(now: MinuteCounts, before: MinuteCounts) -> dict[tuple[Minute, bytes], tuple[int, int]]:
    """The attempts since `before`, and how many failed, by minute and class; only classes with any."""
    added: dict[tuple[Minute, bytes], tuple[int, int]] = {}
    for key, (runs, failed) in now.counts.items():
        old_runs, old_failed = before.counts.get(key, (0, 0))
        if runs < old_runs:  # Redis was emptied
            old_runs = old_failed = 0
        if runs > old_runs:
            added[key] = runs - old_runs, max(0, min(failed - old_failed, runs - old_runs))
    return added


def times_commands(namespace: str, keys: Iterable[tuple[Minute, bytes]]) -> list[Command]:
    """Return the commands that read the run times of classes in minutes."""
    space = namespace.encode("utf-8", "surrogateescape")
    return [("GETRANGE", space + _histogram_key(name, *minute), 0, 2 * COUNTERS - 1) for minute, name in keys]


def add_times(
    now: MinuteCounts, before: MinuteCounts, keys: Sequence[tuple[Minute, bytes]], replies: Sequence[Reply]
) -> tuple[MinuteCounts, dict[bytes, list[int]]]:
    """Return (`now` with the run times that were read, the counters since `before` by class).

    The first run times of a class that ran earlier in that minute are not counted: they are of those attempts, too.
    """
    added: dict[bytes, list[int]] = {}
    times = dict(now.times)
    for key, reply in zip(keys, replies, strict=True):
        if not isinstance(reply, bytes):
            continue
        counters = _counters_of(reply)
        former = times.get(key, [0] * COUNTERS)
        times[key] = counters
        if key in before.counts and key not in before.times:
            continue
        sums = added.setdefault(key[1], [0] * COUNTERS)
        for place, (count, old) in enumerate(zip(counters, former, strict=True)):
            sums[place] += max(0, count - old)
    return now._replace(times=times), added


def class_flows(
    attempts: Mapping[tuple[Minute, bytes], tuple[int, int]], times: Mapping[bytes, Sequence[int]]
) -> tuple[ClassFlow, ...]:
    """The flow of each class, from `attempts_since` and `add_times`."""
    sums: dict[bytes, tuple[int, int]] = {}
    for (_, name), (runs, failed) in attempts.items():
        old = sums.get(name, (0, 0))
        sums[name] = old[0] + runs, old[1] + failed
    return tuple(
        ClassFlow(
            job_class=text(name)[:MAX_NAME],
            completed=runs - failed,
            dead=failed,
            runtimes_s=_runtimes_of(times.get(name, ())),
        )
        for name, (runs, failed) in sums.items()
    )


def _runtimes_of(counters: Sequence[int]) -> tuple[float, ...]:
    """At most MAX_RUNTIMES run times in the proportions of the counters: the geometric middles of their buckets."""
    total = sum(counters)
    shares = share_out(counters, MAX_RUNTIMES) if total > MAX_RUNTIMES else counters
    return tuple(middle for middle, share in zip(MIDDLES_S, shares, strict=False) for _ in range(share))


def _counters_of(raw: bytes) -> list[int]:
    """The counters of run times by bucket. The string ends with its last counter that is not 0."""
    found = [count for (count,) in struct.iter_unpack(">H", raw[: len(raw) // 2 * 2])]
    return [*found, *([0] * (COUNTERS - len(found)))]
