"""Acting on messages that wait in a queue's lists: deleted, put back, moved to another queue, made due.

A message is its bytes: it is taken out of its list by them, so that one which a worker was faster with is `gone`, and
one that changed since it was seen is `changed`. Taking out costs the server the way to the message from the end that is
served next; scripts get as many jobs as make up a bounded way.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

from dashboard.backends.acting import MAX_KEPT_BYTES, Acted, Kept, Outcome, Pick, Wishes
from dashboard.backends.celery import envelope, keys, locate
from dashboard.backends.celery.asking import acted, ask, portions, refused
from dashboard.backends.celery.bin import KeptMessage, packed, unpacked
from dashboard.backends.celery.locate import Found
from dashboard.backends.celery.message import decode, headers_of, words
from dashboard.backends.celery.targets import Targets
from dashboard.clock import now_s
from dashboard.model import QueueRef
from dashboard.sources import Source

JOBS_PER_SCRIPT = 200
# How many entries of a list one script may pass by: 25 to 100 ns each.
STEPS_PER_SCRIPT = 25_000
# In a longer list a message is put back as the next to run, not where it was.
PLACE_KEPT_UP_TO = 5000
NO_MESSAGE = "it is no Celery message; it can only be deleted"
NOT_TIMED = "it has no set time: it waits its turn"


class Waiting:
    """Acts on the waiting messages of one source."""

    def __init__(self, broker: Source, own: Source | None, name: str) -> None:
        self._broker = broker
        self._own = own
        self._name = name

    def take(self, ref: QueueRef, picks: Sequence[Pick]) -> list[Kept | Acted]:
        """Messages to be kept; read and not changed."""
        found = locate.waiting(self._broker, keys.place(ref), picks)
        return [_kept(one) if isinstance(one, Found) else one for one in found]

    def delete(self, ref: QueueRef, kept: Sequence[Kept]) -> list[Acted]:
        """Take messages out of their lists. One that was not kept (too large) is found again by its stamp."""
        lists = keys.place(ref).lists()
        places = {n: one for n, job in enumerate(kept) if (one := _message(job)) is not None}
        rest = [n for n in range(len(kept)) if n not in places]
        again = [Pick(id=kept[n].id, stamp=kept[n].stamp) for n in rest]
        looked = locate.waiting(self._broker, keys.place(ref), again) if again else []
        answers: dict[int, Acted] = {}
        for n, found in zip(rest, looked, strict=True):
            if isinstance(found, Acted):
                answers[n] = found
            else:
                places[n] = _to_keep(found)
        # The next to run first: those behind them then have a shorter way.
        order = sorted(places, key=lambda n: (places[n].step, places[n].before))
        for portion in portions(
            ((n, places[n].before + 10) for n in order), most=JOBS_PER_SCRIPT, cost=STEPS_PER_SCRIPT
        ):
            arguments: list[bytes | str | float] = [now_s(), keys.NOTES_KEPT_S]
            for n in portion:
                arguments += [places[n].raw, places[n].note]
            names = [keys.notes_key(self._name).encode(), *(lists[places[n].step] for n in portion)]
            replies = ask(self._broker, "drop_messages", names, arguments, len(portion))
            answers |= {n: acted(kept[n].id, reply) for n, reply in zip(portion, replies, strict=True)}
        return [answers[n] for n in range(len(kept))]

    def restore(self, ref: QueueRef, kept: Sequence[Kept]) -> list[Acted]:
        """Put deleted messages back where they stood, as far as those before them are still there; each once."""
        lists = keys.place(ref).lists()
        places = {n: one for n, job in enumerate(kept) if (one := _message(job)) is not None}
        answers: dict[int, Acted] = {}
        order = sorted(places, key=lambda n: (places[n].step, places[n].before))
        for portion in portions(((n, PLACE_KEPT_UP_TO) for n in order), most=JOBS_PER_SCRIPT, cost=STEPS_PER_SCRIPT):
            arguments: list[bytes | str | int] = [PLACE_KEPT_UP_TO]
            for n in portion:
                arguments += [places[n].raw, places[n].note, places[n].before]
            names = [keys.notes_key(self._name).encode(), *(lists[places[n].step] for n in portion)]
            for n, reply in zip(portion, ask(self._broker, "put_back", names, arguments, len(portion)), strict=True):
                answers[n] = acted(kept[n].id, reply)
                if answers[n].outcome is Outcome.CHANGED:
                    answers[n] = Acted(id=kept[n].id, outcome=Outcome.CHANGED, detail="it was put back before")
        return [answers.get(n) or refused(job.id, "it was too large to be kept") for n, job in enumerate(kept)]

    def move(self, ref: QueueRef, picks: Sequence[Pick], wishes: Wishes) -> list[Acted]:
        """Put messages last in line of another queue, in their priority. Asked again, they are gone from here."""
        place = keys.place(ref)
        target = wishes.target or ""
        targets = Targets(self._broker, self._own, self._name, place)
        targets.look_up({target} if target else ())
        if target in ("", place.queue):
            return [refused(pick.id, "it is to be moved to no other queue") for pick in picks]
        if not targets.there(target):
            return [refused(pick.id, f"there is no queue {target[:100]!r} under this key prefix") for pick in picks]
        lists = targets.lists(target)

        def moved(one: Found) -> tuple[bytes, bytes] | str:
            message = decode(one.raw)
            if not headers_of(message) or message is None:
                return NO_MESSAGE
            return lists[one.step], envelope.moved(message, target)

        return self._replace(ref, picks, "LPUSH", moved)

    def promote(self, ref: QueueRef, picks: Sequence[Pick]) -> list[Acted]:
        """Make messages due that have a set time, and next to run."""
        lists = keys.place(ref).lists()

        def due(one: Found) -> tuple[bytes, bytes] | str:
            message = decode(one.raw)
            if not headers_of(message) or message is None:
                return NO_MESSAGE
            if headers_of(message).get("eta") is None:
                return NOT_TIMED
            return lists[one.step], envelope.due_now(message)

        return self._replace(ref, picks, "RPUSH", due)

    def _replace(
        self, ref: QueueRef, picks: Sequence[Pick], push: str, becomes: Callable[[Found], tuple[bytes, bytes] | str]
    ) -> list[Acted]:
        lists = keys.place(ref).lists()
        answers: dict[int, Acted] = {}
        work: list[tuple[int, Found, bytes, bytes]] = []
        for n, one in enumerate(locate.waiting(self._broker, keys.place(ref), picks)):
            if isinstance(one, Acted):
                answers[n] = one
                continue
            what = becomes(one)
            if isinstance(what, str):
                answers[n] = refused(one.pick.id, what)
            else:
                work.append((n, one, *what))
        # In the order of the line, so that it is kept; pushed to the front, the first of them comes last.
        work.sort(key=lambda job: (job[1].step, job[1].before), reverse=push == "RPUSH")
        for portion in portions(
            ((job, job[1].before + 10) for job in work), most=JOBS_PER_SCRIPT, cost=STEPS_PER_SCRIPT
        ):
            names = [name for _, one, target, _ in portion for name in (lists[one.step], target)]
            arguments: list[bytes | str] = [
                push,
                *(part for _, one, _, changed in portion for part in (one.raw, changed)),
            ]
            replies = ask(self._broker, "replace", names, arguments, len(portion))
            answers |= {n: acted(one.pick.id, reply) for (n, one, _, _), reply in zip(portion, replies, strict=True)}
        return [answers[n] for n in range(len(picks))]


def _to_keep(one: Found) -> KeptMessage:
    return KeptMessage(raw=one.raw, step=one.step, before=one.before, note=uuid.uuid4().hex)


def _kept(one: Found) -> Kept:
    message = _to_keep(one)
    small = len(one.raw) <= MAX_KEPT_BYTES
    headers = headers_of(decode(one.raw)) if small else {}
    return Kept(
        id=one.pick.id,
        stamp=one.pick.stamp,
        blob=packed(message) if small else None,
        size_bytes=len(one.raw),
        name=words(headers.get("task"), 300),
    )


def _message(job: Kept) -> KeptMessage | None:
    found = unpacked(job.blob)
    valid = isinstance(found, KeptMessage) and 0 <= found.step <= len(keys.STEPS) and found.before >= 0
    return found if isinstance(found, KeptMessage) and valid else None
