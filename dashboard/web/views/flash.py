"""The result of an action, carried in the URL to the page that shows it: counts and fixed words, no free text.

A forged URL shows a wrong sentence at worst: it names no job, and an undo looks up its batches in the trash.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...actions.audit_filter import NOT_DONE
from ...actions.trash import is_undo_batch
from ...backends.actions import Action, ActionResult, Outcome
from ...units import format_count

PAST = {
    "retry": "retried",
    "delete": "deleted",
    "promote": "promoted",
    "kill": "moved to dead letters",
    "cancel": "canceled",
    "stop": "asked to stop",
    "duplicate": "duplicated",
    "edit": "re-run with the new payload",
    "move": "moved",
    "redrive": "redriven",
    "pause": "paused",
    "resume": "resumed",
    "purge": "purged",
    "obliterate": "deleted",
    "trigger": "triggered",
    "pause_schedule": "paused",
    "resume_schedule": "resumed",
    "remove_schedule": "removed",
    "quiet": "asked to stop fetching jobs",
    "stop_worker": "asked to stop",
    **dict.fromkeys(("undo", "undo_schedule", "undo_items"), "restored"),
}
# Words of the audit log where they differ from the name of the action.
_AUDIT_LABELS = {
    "undo": "restore",
    "kill": "move to dead letters",
    "obliterate": "delete queue",
    "edit": "edit and re-run",
    "notice error group": "stop ignoring error group",
    "note error group": "edit notes of error group",
}
# Button labels. Buttons of DANGER are set apart, in red.
VERBS = {
    "retry": "Retry",
    "delete": "Delete",
    "promote": "Promote",
    "kill": "Move to dead letters",
    "cancel": "Cancel",
    "stop": "Stop",
    "duplicate": "Duplicate",
    "edit": "Edit and re-run",
    "move": "Move",
    "undo": "Restore",
    "pause": "Pause",
    "resume": "Resume",
    "purge": "Purge waiting jobs",
    "obliterate": "Delete queue",
    "trigger": "Trigger",
    "pause_schedule": "Pause",
    "resume_schedule": "Resume",
    "remove_schedule": "Remove",
    "quiet": "Quiet",
    "stop_worker": "Stop",
}
DANGER = frozenset({"delete", "kill", "stop", "cancel", "purge", "obliterate", "remove_schedule", "stop_worker"})
# Many jobs at once are moved only out of a dead-letter queue. The words before and after the jobs, where they are not
# those of one job.
_BULK_WORDS = {"move": ("Redrive", ""), "kill": ("Move", "to dead letters")}
# The same as PAST, for many jobs.
BULK_PAST = {**PAST, "move": PAST["redrive"]}
MAX_UNDO_BATCHES = 50
_BETWEEN = "."
_SECONDS = re.compile(r"[0-9]{1,11}\.[0-9]{3}")
MISSED = {
    Outcome.GONE: "no longer exists",
    Outcome.CHANGED: "skipped: state changed",
    Outcome.REFUSED: "refused",
    Outcome.INVALID: "invalid request",
    Outcome.UNSUPPORTED: "not supported",
}
# The choices of the audit log's filter: value -> label.
OUTCOME_CHOICES = {
    NOT_DONE: "Not or only partly done",
    Outcome.DONE.value: "Done",
    **{kind.value: words.capitalize() for kind, words in MISSED.items()},
    "unknown": "Unknown: connection lost",
}
# What is said instead of MISSED after a restore.
NOT_RESTORED = {
    Outcome.GONE: "no longer in the trash",
    Outcome.CHANGED: "skipped: already restored, or the id is in use again",
}
THINGS = {
    **dict.fromkeys(("pause", "resume", "purge", "obliterate"), "queue"),
    **dict.fromkeys(("trigger", "pause_schedule", "resume_schedule", "remove_schedule", "undo_schedule"), "schedule"),
    "undo_items": "item",  # jobs and schedules together
    **dict.fromkeys(("quiet", "stop_worker"), "worker"),
}


@dataclass(frozen=True, slots=True)
class ActionFlash:
    """One action and its outcomes. `verb`: a key of PAST. `undo_batches`: the deleted jobs, at most MAX_UNDO_BATCHES.

    `acted_at` = just before the action, in seconds since 1970; None where its page does not follow up.
    `unknown`: targets whose outcome is unknown, because Redis stopped responding; `untried`: those that followed.
    """

    verb: str
    counts: tuple[tuple[Outcome, int], ...]
    undo_batches: tuple[str, ...] = ()
    acted_at: float | None = None
    unknown: int = 0
    untried: int = 0

    @classmethod
    def of(
        cls,
        action: Action | str,
        results: Sequence[ActionResult],
        *undo_batches: str | None,
        unknown: int = 0,
        untried: int = 0,
    ) -> ActionFlash:
        """The result of `action`, with the outcome of each of its targets."""
        counts = tuple((kind, sum(each.outcome is kind for each in results)) for kind in Outcome)
        restorable = tuple(undo_batch for undo_batch in undo_batches if undo_batch is not None)
        known = tuple((kind, count) for kind, count in counts if count)
        return cls(str(action), known, restorable[:MAX_UNDO_BATCHES], unknown=unknown, untried=untried)

    @classmethod
    def read(cls, args: Mapping[str, str]) -> ActionFlash | None:
        """The result in the arguments of a URL; None when there is none."""
        verb = args.get("did", "")
        if verb not in PAST:
            return None
        counts = tuple((kind, count) for kind in Outcome if (count := _read_count(args, kind.value)))
        undo_batches = args.get("batch", "").split(_BETWEEN)[:MAX_UNDO_BATCHES]
        restorable = tuple(undo_batch for undo_batch in undo_batches if is_undo_batch(undo_batch))
        return cls(
            verb,
            counts,
            restorable,
            acted_at=_read_seconds(args.get("acted_at", "")),
            unknown=_read_count(args, "unknown"),
            untried=_read_count(args, "untried"),
        )

    @property
    def query(self) -> dict[str, Any]:
        """The URL arguments that carry the result."""
        args: dict[str, Any] = {"did": self.verb, **{kind.value: count for kind, count in self.counts}}
        args |= {name: count for name, count in (("unknown", self.unknown), ("untried", self.untried)) if count}
        if self.undo_batches:
            args["batch"] = _BETWEEN.join(self.undo_batches)
        return args if self.acted_at is None else args | {"acted_at": f"{self.acted_at:.3f}"}

    @property
    def done(self) -> int:
        """How many targets the action succeeded on."""
        return dict(self.counts).get(Outcome.DONE, 0)

    @property
    def fine(self) -> bool:
        """Whether it succeeded on every target."""
        known = all(kind is Outcome.DONE for kind, _ in self.counts) and self.done > 0
        return known and not self.unknown and not self.untried

    @property
    def text(self) -> str:
        """The result in words, such as "3 jobs retried; 1 no longer exists"."""
        thing = THINGS.get(self.verb, "job")
        parts = []
        if self.done:
            parts.append(f"{format_count(self.done, thing)} {PAST[self.verb]}")
        for kind, count in self.counts:
            if kind is not Outcome.DONE:
                parts.append(outcome_text(kind.value, count, restored=self.verb.startswith("undo")))
        if self.unknown:
            parts.append(f"{self.unknown:,} with an unknown outcome, because Redis stopped responding: check the list")
        if self.untried:
            parts.append(f"{self.untried:,} not tried, because Redis stopped responding")
        return "; ".join(parts) or "No changes made"


def bulk_words(action: str) -> tuple[str, str]:
    """The words of an action on many jobs, before and after the jobs: ("Move", "to dead letters"), ("Retry", "")."""
    return _BULK_WORDS.get(action) or (VERBS[action], "")


def bulk_verb(action: str, jobs: str = "") -> str:
    """An action on many jobs, as its button and its question say it: "Retry all 2,800", "Move 3 to dead letters"."""
    before, after = bulk_words(action)
    return " ".join(filter(None, (before, jobs, after)))


def bulk_plan(action: str, jobs: str) -> str:
    """What a bulk operation does: "Retries 12 jobs", "Moves 12 jobs to dead letters"."""
    before, after = bulk_words(action)
    verb = f"{before[:-1]}ies" if before.endswith("y") else f"{before}s"
    return " ".join(filter(None, (verb, jobs, after)))


def _read_seconds(text: str) -> float | None:
    return float(text) if _SECONDS.fullmatch(text) else None


def _read_count(args: Mapping[str, str], name: str) -> int:
    text = args.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0


def audit_label(action: str) -> str:
    """An action of the audit log in the words of its button: "kill" is "move to dead letters"."""
    return _AUDIT_LABELS.get(action, action.replace("_", " "))


def outcome_text(outcome: str, count: int, *, restored: bool = False) -> str:
    """An outcome and its count as text: "3 done", "1 no longer exists"; `restored` = of a restore from the trash."""
    known = next((kind for kind in Outcome if kind.value == outcome), None)
    if known in (None, Outcome.DONE):
        return f"{count:,} {outcome}"
    return f"{count:,} {(NOT_RESTORED.get(known) if restored else None) or _missed(known, count)}"


def _missed(kind: Outcome, count: int) -> str:
    return "no longer exist" if kind is Outcome.GONE and count > 1 else MISSED[kind]
