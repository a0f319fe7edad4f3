"""Why the rates of a queue are unknown, or not exact."""

from __future__ import annotations

from ....model import State

NO_SCRIPTS = "this Redis user may not run scripts, so only retained finished jobs are counted"
NO_EVENTS = "this queue has no events, so only retained finished jobs are counted"
NOTHING_KEPT = "neither events nor finished jobs are retained, so the rates are unknown"
FIRST_BUSY = "more events than one sample reads: the first sample covers {span}"
FIRST_TRIMMED = "the events stream is short: the first sample covers {span}"
CUT = "events were trimmed or exceed one sample: counted from assigned ids and retained jobs"
CUT_KEPT = "events were trimmed or exceed one sample: counted from retained finished jobs"
UNSPLIT = "events were trimmed or exceed one sample, and finished jobs are removed: the number of failures is unknown"
UNKNOWN_ENDED = (
    "events were trimmed or exceed one sample, and finished jobs are removed: the number of finished ones is unknown"
)
REMOVED_BEFORE = "not all finished jobs are retained, and nothing else counts them: rates start with the second sample"
HIDDEN = {
    (State.COMPLETED,): "completed jobs leave no trace here: removeOnComplete is set",
    (State.DEAD,): "failed jobs leave no trace here: removeOnFail is set",
    (State.COMPLETED, State.DEAD): "finished jobs leave no trace here: removeOnComplete and removeOnFail are set",
}
UNTRACED = "more jobs finished than are retained: the app removes them immediately, or unfinished jobs were deleted"
