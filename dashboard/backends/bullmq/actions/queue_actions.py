"""Actions on queues and schedules: pause, resume, obliterate; trigger, remove."""

from __future__ import annotations

import json
from typing import Any

from ....model import QueueRef, Schedule
from ....sources.source import Source, raw_bytes
from ...actions import Action, ActionResult, Outcome, refused_result
from ...bounded_reads import short_fields
from ..repeat_keys import parse_repeat_key
from .duplicate import COPIED_BYTES, UNREADABLE_OPTIONS, add_jobs, copied_options, new_job
from .schedule_removal import remove_schedule
from .scripts import WRITES

# How many jobs one call of OBLITERATE deletes, and how many ids one call of PAUSE or RESUME moves.
OBLITERATE_STEP, MOVED_AT_ONCE = 200, 1_000


def act_on_queue(source: Source, ref: QueueRef, action: Action) -> ActionResult:
    """See `Backend.act_on_queue`. Cost: 1 round trip per step."""
    base = f"{ref.key}:"
    if action is Action.OBLITERATE:
        reply = WRITES.run_script(source, "obliterate", [f"{base}meta"], [base, OBLITERATE_STEP])
        if reply == b"more":
            return ActionResult(id=ref.name, outcome=Outcome.DONE, more=True)
        return WRITES.result_from_reply(ref.name, reply)
    reply = WRITES.run_script(source, "pause", [f"{base}meta"], [base, action.value, MOVED_AT_ONCE])
    if isinstance(reply, int):
        return ActionResult(id=ref.name, outcome=Outcome.DONE, more=reply > 0)
    return WRITES.result_from_reply(ref.name, reply)


def act_on_schedule(source: Source, schedule: Schedule, action: Action) -> ActionResult:
    """See `Backend.act_on_schedule`. Cost: 1 round trip, 2 for TRIGGER; 4 if only the next job has the template."""
    if schedule.ref is None:
        return ActionResult(id=schedule.id, outcome=Outcome.GONE)
    if action is Action.REMOVE_SCHEDULE:
        return remove_schedule(source, schedule, None)
    base = f"{schedule.ref.key}:"
    old = parse_repeat_key(schedule.id)
    runs = [raw_bytes(start) for start in old.jobs] if old else []
    fields = _read_template(source, base, schedule.id, runs)
    if isinstance(fields, str):
        return refused_result(schedule.id, fields)
    options = copied_options(fields[2])
    if options is None:
        return refused_result(schedule.id, UNREADABLE_OPTIONS)
    priority = json.loads(options).get("priority")
    job = new_job(fields[0], fields[1], options, priority if type(priority) is int else 0)
    return add_jobs(source, base, {schedule.id: job})[0]


def _read_template(source: Source, base: str, schedule_id: str, runs: list[bytes]) -> list[Any] | str:
    """Return the name, data and options of a schedule's jobs, or why they are unknown."""
    key = raw_bytes(f"{base}repeat:{schedule_id}")
    found = short_fields(source, [(key, name) for name in ("name", "data", "opts", "ic")], COPIED_BYTES)
    *fields, count = found
    if isinstance(fields[0], bytes) and isinstance(fields[1], bytes):
        return fields
    # Before job schedulers, only the job of the next run holds the data and the options.
    starts = [raw_bytes(f"repeat:{schedule_id}:"), *runs]
    run = WRITES.run_script(source, "nextrun", [f"{base}repeat"], [base, raw_bytes(schedule_id), *starts])
    if isinstance(run, bytes):
        key = raw_bytes(base) + run
        fields = list(short_fields(source, [(key, name) for name in ("name", "data", "opts")], COPIED_BYTES))
        if isinstance(fields[0], bytes) and isinstance(fields[1], bytes):
            return fields
    elif isinstance(fields[0], bytes) and count is not None:
        return fields  # a scheduler whose template has no data
    return "its data is stored in the job of its next run, which was not found or is too large"
