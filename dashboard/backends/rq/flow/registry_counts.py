"""Counts of RQ's registries, from which follows how many jobs were added between two samples.

A registry stores each job with the time of its expiry as the score, so counting the members above a fixed time twice
gives the number that was added in between, minus those that were removed. Several such bounds are read; none of them
counts more than were really added, so the largest result is the best:

- high: jobs that finished since shortly before the anchor with RQ's default time to live. It is not affected when old
  jobs are retried or deleted by the thousand.
- low: jobs with a time to live above half a minute, minus those that were removed.
- brief: jobs with any time to live, minus those that were removed or expired.
- never: failed jobs without expiry, which RQ stores with the score -1.
"""

from __future__ import annotations

from collections.abc import Sequence

from ....model import State
from ....sources.source import Command, Reply, text
from ...base import FLOW_WINDOW_S
from ..keys import QueueKeys
from .findings import TTLS_S, AnchorCounts, FlowCursor, FlowFindings
from .job_samples import SKEW_S, ids_to_read

QUEUES_PER_SCRIPT = 50
# `low` must stay ahead of the clock for as long as an anchor is used.
LOW_S = 30.0
BOUNDS = 3 * len(TTLS_S) + 1
CHECKSUM_WEIGHTS = (1, 3, 5, 7, 11, 13, 17)
REASON = "Counted from RQ's registries, which do not show jobs that were deleted or retried between two samples."
FIRST_REASON = "First sample: looks back over the last five minutes and assumes RQ's default times to live."


class FlowCommands:
    """The commands of one sample, and how to parse their replies, queue by queue."""

    def __init__(self, before: FlowCursor, anchor: float, now: float, queues: int) -> None:
        self._before = before
        self._anchor = anchor
        self._now = now
        busy = sum(seen.busy for seen in before.queues.values())
        self._all, self._each = ids_to_read(queues, busy)

    def queue_groups(self, wanted: Sequence[QueueKeys]) -> list[tuple[str, list[QueueKeys]]]:
        """Return the queues by prefix, in chunks that one call of the script reads."""
        spaces: dict[str, list[QueueKeys]] = {}
        for queue in wanted:
            spaces.setdefault(queue.prefix, []).append(queue)
        return [
            (prefix, queues[at : at + QUEUES_PER_SCRIPT])
            for prefix, queues in spaces.items()
            for at in range(0, len(queues), QUEUES_PER_SCRIPT)
        ]

    def script_call(self, prefix: str, queues: Sequence[QueueKeys]) -> list[str]:
        """Return the call of the script that reads the same as `commands_for` each queue."""
        former = self._before.anchor
        windows = [bound for state in TTLS_S for bound in _window_bounds(state, self._now)]
        newest = " ".join(str(self._now + ttl_s + SKEW_S) for ttl_s in TTLS_S.values())
        call = ["ended", prefix, *_anchor_bounds(self._anchor)]
        call += _anchor_bounds(former) if former != self._anchor else [""] * 6
        call += [*windows, newest, f"({self._now}", str(self._each)]
        for queue in queues:
            seen = self._before.queues.get(queue.queue)
            call += (queue.name, ("wn" if self._all else "w") if seen is None else seen.counts.mark)
        return call

    def commands_for(self, queue: QueueKeys) -> list[Command]:
        """Return the commands for one queue."""
        seen = self._before.queues.get(queue.queue)
        commands = _bound_commands(queue, self._anchor)
        if seen is None:
            commands += [_window_command(queue, state, self._now) for state in TTLS_S]
        elif seen.anchor != self._anchor:
            commands += _bound_commands(queue, seen.anchor)
        if self._all or (seen is not None and seen.busy):
            commands += [_newest_command(queue, state, self._now, self._each) for state in TTLS_S]
        return commands

    def parse_replies(self, queue: QueueKeys, replies: list[Reply]) -> FlowFindings | None:
        """Parse the replies; None if a registry cannot be read."""
        seen = self._before.queues.get(queue.queue)
        if seen is not None and replies == seen.counts.numbers:
            # Nothing was added or removed, as in most queues in most samples.
            span_s = self._now - self._before.at
            nothing = dict.fromkeys(TTLS_S, 0)
            return FlowFindings(queue, nothing, span_s, REASON, seen.counts, [], seen.newest, {}, set())
        numbers = [reply for reply in replies if isinstance(reply, int)]
        lists = [reply for reply in replies if isinstance(reply, list)]
        if len(numbers) + len(lists) < len(replies):
            return None
        first, rest = numbers[:BOUNDS], numbers[BOUNDS:]
        counts = _parse_counts(first)
        brief: dict[State, int] = {}
        disturbed: set[State] = set()
        if seen is None:
            came, span_s, reason, newest = dict(zip(TTLS_S, rest, strict=True)), FLOW_WINDOW_S, FIRST_REASON, 0.0
        else:
            again = _parse_counts(rest) if rest else counts
            came, brief = again.since(seen.counts, low_holds=self._now < seen.anchor + LOW_S)
            disturbed = again.disturbed_states(seen.counts)
            span_s, reason, newest = self._now - self._before.at, REASON, seen.newest
        # Jobs of the same second have no order: some that finished before the last sample may be among the first.
        newest_ids = [
            (state, text(job_id))
            for state, ids in zip(TTLS_S, lists, strict=False)
            for job_id in ids[: came[state] and came[state] + came[state] // 2 + 1]
        ]
        found = FlowFindings(queue, came, span_s, reason, counts, newest_ids, newest, brief, disturbed)
        found.first = seen is None
        return found


def _anchor_bounds(anchor: float) -> list[str]:
    """Return the bounds of an anchor, for each state from the highest to the lowest."""
    bounds = []
    for ttl_s in TTLS_S.values():
        # Scores are whole seconds.
        bounds += [f"({anchor - SKEW_S + ttl_s}", f"({anchor + LOW_S}", str(int(anchor))]
    return bounds


def _bound_commands(queue: QueueKeys, anchor: float) -> list[Command]:
    states = [state for state in TTLS_S for _ in range(3)]
    commands: list[Command] = [
        ("ZCOUNT", queue.list_of(state), bound, "+inf")
        for state, bound in zip(states, _anchor_bounds(anchor), strict=True)
    ]
    return [*commands, ("ZCOUNT", queue.list_of(State.DEAD), "-inf", "(0")]


def _parse_counts(numbers: Sequence[int]) -> AnchorCounts:
    high_done, low_done, brief_done, high_dead, low_dead, brief_dead, never = numbers
    done, dead = State.COMPLETED, State.DEAD
    checksum = sum(weight * number for weight, number in zip(CHECKSUM_WEIGHTS, numbers, strict=True))
    return AnchorCounts(
        numbers,
        {done: high_done, dead: high_dead},
        {done: low_done, dead: low_dead},
        {done: brief_done, dead: brief_dead},
        never,
        f"c{checksum} {' '.join(map(str, numbers))}",
    )


def _window_command(queue: QueueKeys, state: State, now: float) -> Command:
    """Return the command that counts jobs that finished in the last FLOW_WINDOW_S, given the default time to live."""
    return ("ZCOUNT", queue.list_of(state), *_window_bounds(state, now))


def _window_bounds(state: State, now: float) -> tuple[str, str]:
    end = now + TTLS_S[state]
    return f"({end - FLOW_WINDOW_S}", str(end + SKEW_S)


def _newest_command(queue: QueueKeys, state: State, now: float, count: int) -> Command:
    """Return the command for the ids of the newest jobs, without those that never expire, which have no order."""
    return ("ZREVRANGEBYSCORE", queue.list_of(state), now + TTLS_S[state] + SKEW_S, f"({now}", "LIMIT", 0, count)
