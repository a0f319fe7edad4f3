"""Actions on messages that wait in a queue's lists: delete, restore, move to another queue, promote.

A message is identified by its bytes and removed from its list by them: one that a worker picked up first is `gone`, and
one that changed since it was listed is `changed`. The scripts also receive positions, so that they find all messages of
a call together, a few positions further on if workers picked up some in the meantime, and remove them in one pass.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Sequence

from ....model import QueueRef
from ....sources.source import Source
from ...actions import (
    MAX_KEPT_BYTES,
    ActionOptions,
    ActionResult,
    JobBackup,
    JobRef,
    Outcome,
    back_before,
    refused_result,
)
from ...lua_reads import Scripts
from ...lua_writes import JobCall, split_by_cost
from ...payloads.decoding import text_or_none
from .. import keys, protocol
from ..job_decoding import decode_envelope, headers_of
from ..messages import lookup
from ..messages.lookup import LocatedMessage
from .backups import MessageBackup, pack_backup, unpack_backup
from .destination_queues import DestinationQueues
from .duplicate import UNREAD
from .scripts import WRITES

# Limits of one script call, so that it takes one or two milliseconds.
JOBS_PER_SCRIPT, BYTES_PER_SCRIPT = 100, 300_000
# How many list entries one script may pass to restore messages: 25 to 100 ns each.
STEPS_PER_SCRIPT = 25_000
# How many times a message is searched for in a list that keeps moving.
LOOKS = 3
LOST = b"lost"
# In a longer list, a message is restored as the next to run, not at its old position.
PLACE_KEPT_UP_TO = 5000
NO_MESSAGE = "it is not a Celery message; it can only be deleted"
NOT_TIMED = "it has no ETA; it runs when its turn comes"


class QueuedActions:
    """Acts on the waiting messages of one source."""

    def __init__(self, broker: Source, scripts: Scripts, own: Source | None, name: str) -> None:
        self._broker = broker
        self._scripts = scripts
        self._own = own
        self._notes = (keys.notes_key(name).encode(),)
        self._name = name

    def backup_messages(self, ref: QueueRef, job_refs: Sequence[JobRef]) -> list[JobBackup | ActionResult]:
        """Return backups of messages; this only reads them."""
        found = lookup.find_waiting(self._broker, self._scripts, keys.location_of(ref), job_refs)
        return [_backup_of(one) if isinstance(one, LocatedMessage) else one for one in found]

    def delete_messages(self, ref: QueueRef, backups: Sequence[JobBackup]) -> list[ActionResult]:
        """Remove messages from their lists. One without a backup (too large) is found again by its stamp."""
        lists = keys.location_of(ref).list_keys()
        answers: dict[int, ActionResult] = {}
        places = {n: one for n, job in enumerate(backups) if (one := _unpack_message(job)) is not None}
        for look in range(LOOKS):
            left = [n for n in range(len(backups)) if n not in answers]
            again = left if look else [n for n in left if n not in places]
            self._locate_again(ref, backups, again, places, answers)
            left = [n for n in left if n not in answers]
            if not left:
                break
            # The next to run first: messages behind them move up by as many as are removed.
            left.sort(key=lambda n: (places[n].step, places[n].before))
            taken: Counter[int] = Counter()
            for portion in split_by_cost(
                ((n, len(places[n].raw)) for n in left), most=JOBS_PER_SCRIPT, cost=BYTES_PER_SCRIPT
            ):
                calls = [
                    JobCall((lists[one.step],), (one.raw, one.note, one.before - taken[one.step]))
                    for one in (places[n] for n in portion)
                ]
                now = (self._broker.now_s(), keys.NOTES_KEPT_S)
                replies = WRITES.run_for_each(self._broker, "drop_messages", calls, keys=self._notes, arguments=now)
                done = {n: reply for n, reply in zip(portion, replies, strict=True) if reply != LOST}
                answers |= {n: WRITES.result_from_reply(backups[n].id, reply) for n, reply in done.items()}
                taken.update(places[n].step for n, reply in done.items() if reply == b"done")
        return [answers.get(n) or _moved_on(job.id) for n, job in enumerate(backups)]

    def _locate_again(
        self,
        ref: QueueRef,
        backups: Sequence[JobBackup],
        asked: Sequence[int],
        places: dict[int, MessageBackup],
        answers: dict[int, ActionResult],
    ) -> None:
        """Find the current positions of messages: add them to `places`, or the reason to `answers` if not found."""
        job_refs = [JobRef(id=backups[n].id, version=backups[n].version) for n in asked]
        for n, found in zip(
            asked,
            lookup.find_waiting(self._broker, self._scripts, keys.location_of(ref), job_refs) if job_refs else (),
            strict=True,
        ):
            before = places.get(n)
            if isinstance(found, ActionResult):
                answers[n] = found
            elif before is not None and before.raw != found.raw:
                answers[n] = ActionResult(
                    id=backups[n].id, outcome=Outcome.CHANGED, detail="its message changed since it was read"
                )
            else:
                note = before.note if before is not None else uuid.uuid4().hex
                places[n] = MessageBackup(raw=found.raw, step=found.step, before=found.before, note=note)

    def restore_messages(self, ref: QueueRef, backups: Sequence[JobBackup]) -> list[ActionResult]:
        """Restore deleted messages at their old position if those before them still exist; each only once."""
        lists = keys.location_of(ref).list_keys()
        places = {n: one for n, job in enumerate(backups) if (one := _unpack_message(job)) is not None}
        answers: dict[int, ActionResult] = {}
        order = sorted(places, key=lambda n: (places[n].step, places[n].before))
        for portion in split_by_cost(
            ((n, PLACE_KEPT_UP_TO) for n in order), most=JOBS_PER_SCRIPT, cost=STEPS_PER_SCRIPT
        ):
            calls = [
                JobCall((lists[one.step],), (one.raw, one.note, one.before)) for one in (places[n] for n in portion)
            ]
            replies = WRITES.run_for_each(
                self._broker, "put_back", calls, keys=self._notes, arguments=(PLACE_KEPT_UP_TO,)
            )
            for n, reply in zip(portion, replies, strict=True):
                answers[n] = WRITES.result_from_reply(backups[n].id, reply)
                if answers[n].outcome is Outcome.CHANGED:
                    answers[n] = back_before(backups[n].id)
        return [
            answers.get(n) or refused_result(job.id, "it was too large to back up") for n, job in enumerate(backups)
        ]

    def move_messages(self, ref: QueueRef, job_refs: Sequence[JobRef], options: ActionOptions) -> list[ActionResult]:
        """Move messages to the end of another queue, at their priority. In a repeated call they are `gone`."""
        place = keys.location_of(ref)
        target = options.target or ""
        targets = DestinationQueues(self._broker, self._own, self._name, place)
        targets.look_up({target} if target else ())
        if target in ("", place.queue):
            return [refused_result(job_ref.id, "choose a different destination queue") for job_ref in job_refs]
        if not targets.exists(target):
            return [
                refused_result(job_ref.id, f"there is no queue {target[:100]!r} under this key prefix")
                for job_ref in job_refs
            ]
        lists = targets.list_keys(target)

        def moved(one: LocatedMessage) -> tuple[bytes, bytes] | str:
            message = decode_envelope(one.raw)
            if not headers_of(message) or message is None:
                return NO_MESSAGE
            return lists[one.step], protocol.moved(message, target)

        return self._replace_messages(ref, job_refs, "LPUSH", moved)

    def promote_messages(self, ref: QueueRef, job_refs: Sequence[JobRef]) -> list[ActionResult]:
        """Remove the ETA of messages that have one, and make them next to run."""
        lists = keys.location_of(ref).list_keys()

        def due(one: LocatedMessage) -> tuple[bytes, bytes] | str:
            message = decode_envelope(one.raw)
            if not headers_of(message) or message is None:
                return NO_MESSAGE
            if headers_of(message).get("eta") is None:
                return NOT_TIMED
            changed = protocol.due_now(message)
            return UNREAD if changed is None else (lists[one.step], changed)

        return self._replace_messages(ref, job_refs, "RPUSH", due)

    def _replace_messages(
        self,
        ref: QueueRef,
        job_refs: Sequence[JobRef],
        push: str,
        becomes: Callable[[LocatedMessage], tuple[bytes, bytes] | str],
    ) -> list[ActionResult]:
        answers: dict[int, ActionResult] = {}
        for _ in range(LOOKS):
            left = [n for n in range(len(job_refs)) if n not in answers]
            if not left:
                break
            work: list[tuple[int, LocatedMessage, bytes, bytes]] = []
            looked = lookup.find_waiting(
                self._broker, self._scripts, keys.location_of(ref), [job_refs[n] for n in left]
            )
            for n, one in zip(left, looked, strict=True):
                if isinstance(one, ActionResult):
                    answers[n] = one
                    continue
                what = becomes(one)
                if isinstance(what, str):
                    answers[n] = refused_result(one.job_ref.id, what)
                else:
                    work.append((n, one, *what))
            # In queue order, to keep that order; when pushing to the front, the first message is pushed last.
            work.sort(key=lambda job: (job[1].step, job[1].before), reverse=push == "RPUSH")
            answers |= self._replace_step(keys.location_of(ref).list_keys(), push, work)
        return [answers.get(n) or _moved_on(job_ref.id) for n, job_ref in enumerate(job_refs)]

    def _replace_step(
        self, lists: Sequence[bytes], push: str, work: Sequence[tuple[int, LocatedMessage, bytes, bytes]]
    ) -> dict[int, ActionResult]:
        """Return the result of each message, except those that are no longer where they were found."""
        answers: dict[int, ActionResult] = {}
        moved: Counter[bytes] = Counter()  # list -> how much further from its end the rest is than when it was found
        for portion in split_by_cost(
            ((job, len(job[1].raw) + len(job[3])) for job in work), most=JOBS_PER_SCRIPT, cost=BYTES_PER_SCRIPT
        ):
            calls = [
                JobCall((lists[one.step], target), (one.raw, changed, one.before + moved[lists[one.step]]))
                for _, one, target, changed in portion
            ]
            replies = WRITES.run_for_each(self._broker, "replace", calls, keys=self._notes, arguments=(push,))
            for (n, one, target, _), reply in zip(portion, replies, strict=True):
                if reply == LOST:
                    continue
                answers[n] = WRITES.result_from_reply(one.job_ref.id, reply)
                if reply == b"done" and push == "RPUSH":
                    moved[target] += 1  # the removed message was behind the ones still to process
                elif reply == b"done":
                    moved[lists[one.step]] -= 1
        return answers


def _moved_on(job_id: str) -> ActionResult:
    return ActionResult(id=job_id, outcome=Outcome.CHANGED, detail="the job changed or moved; refresh and retry")


def _to_keep(one: LocatedMessage) -> MessageBackup:
    return MessageBackup(raw=one.raw, step=one.step, before=one.before, note=uuid.uuid4().hex)


def _backup_of(one: LocatedMessage) -> JobBackup:
    message = _to_keep(one)
    small = one.size <= MAX_KEPT_BYTES
    headers = headers_of(decode_envelope(one.raw)) if small else {}
    return JobBackup(
        id=one.job_ref.id,
        version=one.job_ref.version,
        blob=pack_backup(message) if small else None,
        size_bytes=one.size,
        name=text_or_none(headers.get("task"), 300),
    )


def _unpack_message(job: JobBackup) -> MessageBackup | None:
    found = unpack_backup(job.blob)
    valid = isinstance(found, MessageBackup) and 0 <= found.step <= len(keys.STEPS) and found.before >= 0
    return found if isinstance(found, MessageBackup) and valid else None
