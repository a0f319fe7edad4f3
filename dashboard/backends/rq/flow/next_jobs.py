"""The next jobs of queues: their times to live decide whether a job will leave a record when it finishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ....model import QueueRef, State
from ....sources.source import Reply, text
from ..keys import QueueKeys
from .findings import DEFAULT_TTLS, FlowCursor, FlowFindings, NextJob

LISTS_PER_SCRIPT = 100


class NextJobSettings:
    """Reads the times to live of the next jobs, and whether they can be retried."""

    def __init__(self, refs: Sequence[tuple[QueueRef, QueueKeys]], before: FlowCursor, now: float) -> None:
        self._lists: dict[str, list[tuple[QueueKeys, str, NextJob | None]]] = {}  # by prefix, with the former next job
        for _, queue in refs:
            lists = self._lists.setdefault(queue.prefix, [])
            seen = before.queues.get(queue.queue)
            lists.append((queue, f"l{queue.queue}", seen.next_job if seen else None))
            if seen is not None and seen.failed.hides_jobs(now):
                lists += [(queue, f"z{queue.list_of(state)}", None) for state in (State.SCHEDULED, State.ACTIVE)]

    def script_calls(self) -> list[list[str]]:
        """Return the calls of the script."""
        return [
            [
                *("orders", f"{prefix}:job:"),
                *(part for _, key, job in lists[at : at + LISTS_PER_SCRIPT] for part in (key, job.id if job else "")),
            ]
            for prefix, lists in self._lists.items()
            for at in range(0, len(lists), LISTS_PER_SCRIPT)
        ]

    def take_replies(self, found: Mapping[str, FlowFindings], replies: Sequence[Reply]) -> None:
        """Add the replies to `script_calls` to `found`."""
        chunks = [
            lists[at : at + LISTS_PER_SCRIPT]
            for lists in self._lists.values()
            for at in range(0, len(lists), LISTS_PER_SCRIPT)
        ]
        for chunk, reply in zip(chunks, replies, strict=True):
            for (queue, key, before), row in zip(chunk, reply if isinstance(reply, list) else (), strict=False):
                answer = found.get(queue.queue)
                if answer is None or row is None:
                    continue
                job = before if isinstance(row, bytes) else _next_job(row)
                if job is not None:
                    answer.retries = answer.retries or job.retries
                    answer.other_ttls = answer.other_ttls or job.ttls not in DEFAULT_TTLS
                    answer.traceless = answer.traceless or job.leaves_nothing
                    answer.next_job = job if key.startswith("l") else answer.next_job


def _next_job(row: Reply) -> NextJob | None:
    if not isinstance(row, list):
        return None
    job_id, *ttls, retries_left = row
    kept_s = tuple(text(raw) if isinstance(raw, bytes) else None for raw in ttls)
    return NextJob(text(job_id), retries_left is not None, kept_s)
