"""What came of an act, carried in the address to the page that tells it: counts and words of ours, no free text.

Whoever is sent a made-up address reads a wrong sentence at worst: it names no job, and undoing asks the bin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...actions.trash import is_batch
from ...backends.actions import Action, ActionResult, Outcome

PAST = {
    "retry": "retried",
    "delete": "deleted",
    "promote": "started now",
    "kill": "moved to the dead letters",
    "cancel": "canceled",
    "stop": "told to stop",
    "duplicate": "duplicated",
    "edit": "run again with the new payload",
    "move": "moved",
    "pause": "paused",
    "resume": "resumed",
    "purge": "emptied",
    "obliterate": "removed",
    "trigger": "run once now",
    "pause_schedule": "paused",
    "resume_schedule": "resumed",
    "remove_schedule": "removed",
    "quiet": "asked to take nothing new",
    "stop_worker": "asked to stop",
    "undo": "put back",
}
# The words on the buttons; those of DANGER stand apart, in red.
VERBS = {
    "retry": "Retry",
    "delete": "Delete",
    "promote": "Run now",
    "kill": "Kill",
    "cancel": "Cancel",
    "stop": "Stop",
    "duplicate": "Duplicate",
    "edit": "Edit and run",
    "move": "Move",
    "undo": "Put back",
    "pause": "Pause",
    "resume": "Resume",
    "purge": "Empty",
    "obliterate": "Remove queue",
    "trigger": "Run now",
    "pause_schedule": "Pause",
    "resume_schedule": "Resume",
    "remove_schedule": "Remove",
    "quiet": "Quiet",
    "stop_worker": "Stop",
}
DANGER = frozenset({"delete", "kill", "stop", "cancel", "purge", "obliterate", "remove_schedule", "stop_worker"})
MAX_BATCHES = 50
_BETWEEN = "."
MISSED = {
    Outcome.GONE: "already gone",
    Outcome.CHANGED: "changed meanwhile",
    Outcome.REFUSED: "refused",
    Outcome.INVALID: "not usable as sent",
    Outcome.UNSUPPORTED: "not possible",
}
THINGS = {
    **dict.fromkeys(("pause", "resume", "purge", "obliterate"), "queue"),
    **dict.fromkeys(("trigger", "pause_schedule", "resume_schedule", "remove_schedule"), "schedule"),
    **dict.fromkeys(("quiet", "stop_worker"), "worker"),
}


@dataclass(frozen=True, slots=True)
class ActionFlash:
    """One act and its outcomes. `batches` hold what it deleted: one for each list, MAX_BATCHES of them at most."""

    verb: str
    counts: tuple[tuple[Outcome, int], ...]
    batches: tuple[str, ...] = ()

    @classmethod
    def of(cls, action: Action | str, acted: Sequence[ActionResult], *batches: str | None) -> ActionFlash:
        """What came of an act."""
        counts = tuple((kind, sum(each.outcome is kind for each in acted)) for kind in Outcome)
        there = tuple(batch for batch in batches if batch is not None)
        return cls(str(action), tuple((kind, count) for kind, count in counts if count), there[:MAX_BATCHES])

    @classmethod
    def read(cls, args: Mapping[str, str]) -> ActionFlash | None:
        """The act that the address tells of; None when it tells of none."""
        verb = args.get("did", "")
        if verb not in PAST:
            return None
        counts = []
        for kind in Outcome:
            text = args.get(kind.value, "")
            if text.isascii() and text.isdigit() and len(text) < 8 and int(text):
                counts.append((kind, int(text)))
        batches = args.get("batch", "").split(_BETWEEN)[:MAX_BATCHES]
        return cls(verb, tuple(counts), tuple(batch for batch in batches if is_batch(batch)))

    @property
    def query(self) -> dict[str, Any]:
        """The part of the address that tells it."""
        told = {"did": self.verb, **{kind.value: count for kind, count in self.counts}}
        return told | ({"batch": _BETWEEN.join(self.batches)} if self.batches else {})

    @property
    def done(self) -> int:
        """On how many things it was done."""
        return dict(self.counts).get(Outcome.DONE, 0)

    @property
    def fine(self) -> bool:
        """Whether it was done on all."""
        return all(kind is Outcome.DONE for kind, _ in self.counts) and self.done > 0

    @property
    def text(self) -> str:
        """As "3 jobs retried; 1 already gone"."""
        thing = THINGS.get(self.verb, "job")
        parts = []
        if self.done:
            parts.append(f"{self.done:,} {thing}{'' if self.done == 1 else 's'} {PAST[self.verb]}")
        for kind, count in self.counts:
            if kind is not Outcome.DONE:
                parts.append(f"{count:,} {MISSED[kind]}")
        return "; ".join(parts) or "Nothing was done"
