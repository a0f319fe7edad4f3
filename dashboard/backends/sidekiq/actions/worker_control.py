"""Actions on Sidekiq's queues, schedules and workers. Each is one script that checks its conditions itself.

Source: sidekiq `lib/sidekiq/api.rb` (Queue#clear, Process#quiet!, #stop!), sidekiq-cron `lib/sidekiq/cron/job.rb`
(enable!, disable!, enque!), sidekiq-scheduler `lib/sidekiq-scheduler/scheduler.rb` (toggle_job_enabled).
"""

from __future__ import annotations

import json
import re

from redis.exceptions import ResponseError

from ....model import QueueRef, Schedule, Worker, WorkerState
from ....sources.source import Source
from ...actions import Action, ActionResult, Outcome, refused_result
from ...bounded_reads import short_fields
from ...payloads.decoding import DECODE_LIMIT_BYTES, loads_dict
from .. import keys
from ..schedules import CRON, SCHEDULER_KIND, STATES
from . import payload_edit
from .scripts import WRITES

SIGNALS = {Action.QUIET: "TSTP", Action.STOP_WORKER: "TERM"}
_TRUE = re.compile(rb"(true|t|yes|y|1)\Z", re.IGNORECASE)
ONLY_THE_APP = "only the app knows the class and its options; trigger it in the app"


def on_queue(source: Source, ref: QueueRef, action: Action) -> ActionResult:
    """Delete a queue with all its waiting jobs, in one step however long it is."""
    place = keys.location_of(ref)
    if action is not Action.OBLITERATE or place.queue is None:
        return refused_result(ref.name, "this entry represents the sets shared by all queues and is not a queue")
    names = [place.key, f"{place.namespace}queues"]
    waited = WRITES.run_script(source, "clear", names, [place.queue])
    if isinstance(waited, ResponseError):
        return WRITES.result_from_reply(ref.name, waited)
    if waited < 0:
        return ActionResult(id=ref.name, outcome=Outcome.GONE)
    jobs = "1 waiting job" if waited == 1 else f"{waited} waiting jobs"
    return ActionResult(id=ref.name, outcome=Outcome.DONE, detail=f"deleted with {jobs}")


def on_worker(source: Source, worker: Worker, action: Action) -> ActionResult:
    """Send a signal to a process. DONE means it was sent; the process acts on it at its next heartbeat (5 to 10 s)."""
    if worker.state is WorkerState.DEAD:
        return refused_result(worker.id, "the process is dead and cannot receive signals")
    space = dict(worker.facts).get(keys.NAMESPACE, "")
    identity = worker.id.removeprefix(space)
    names = [f"{space}{identity}-signals", f"{space}processes"]
    reply = WRITES.run_script(source, "signal", names, [identity, SIGNALS[action], f"{space}{identity}"])
    return WRITES.result_from_reply(worker.id, reply)


def on_schedule(source: Source, schedule: Schedule, action: Action) -> ActionResult:
    """Trigger, pause or resume a schedule of one of the add-ons. Cost: 2 round trips."""
    space = dict(schedule.facts).get(keys.NAMESPACE, "")
    name = schedule.id.removeprefix(space)
    if schedule.kind == CRON:
        record = f"{space}{keys.CRON_JOB}{name}"
        if action is Action.TRIGGER:
            return _fire_schedule(source, space, schedule, record)
        return _set_cron_enabled(source, schedule, record, on=action is Action.RESUME_SCHEDULE)
    if schedule.kind != SCHEDULER_KIND:
        return refused_result(schedule.id, f"schedules of {schedule.kind} are not supported")
    if action is Action.TRIGGER:
        return refused_result(schedule.id, ONLY_THE_APP)
    return _set_scheduler_enabled(source, space, schedule, name, on=action is Action.RESUME_SCHEDULE)


def _set_cron_enabled(source: Source, schedule: Schedule, record: str, *, on: bool) -> ActionResult:
    (status,) = short_fields(source, [(record, "status")], DECODE_LIMIT_BYTES)
    wanted = "enabled" if on else "disabled"
    arguments = ["status", status if isinstance(status, bytes) else "", wanted, "klass"]
    reply = WRITES.run_script(source, "set_field", [record, record], arguments)
    return WRITES.result_from_reply(schedule.id, reply)


def _set_scheduler_enabled(source: Source, space: str, schedule: Schedule, name: str, *, on: bool) -> ActionResult:
    states = f"{space}{STATES}"
    (old,) = short_fields(source, [(states, name)], DECODE_LIMIT_BYTES)
    raw = old if isinstance(old, bytes) else None
    new = json.dumps({**loads_dict(raw), "enabled": on}, ensure_ascii=False, separators=(",", ":"))
    reply = WRITES.run_script(source, "set_field", [states, f"{space}schedules"], [name, raw or "", new, name])
    return WRITES.result_from_reply(schedule.id, reply)


def _fire_schedule(source: Source, space: str, schedule: Schedule, record: str) -> ActionResult:
    """Push one run of a sidekiq-cron schedule, from the message that the app stored for it."""
    found = short_fields(
        source, [(record, name) for name in ("message", "active_job", "date_as_argument")], DECODE_LIMIT_BYTES
    )
    refusal = next((reply for reply in found if isinstance(reply, ResponseError)), None)
    if refusal is not None:
        return WRITES.result_from_reply(schedule.id, refusal)
    message, active_job, dated = found
    if message is None:
        return ActionResult(id=schedule.id, outcome=Outcome.GONE)
    if any(flag is not None and _TRUE.match(flag) for flag in (active_job, dated)):
        return refused_result(schedule.id, "the app builds the arguments of each run; trigger it in the app")
    try:
        # Without `retry` the class was unknown when the message was written, and may be an Active Job.
        if "retry" not in payload_edit.decode_fields(message):
            return refused_result(schedule.id, ONLY_THE_APP)
        push = payload_edit.of_message(message, payload_edit.DEFAULT_QUEUE, source.now_s())
    except payload_edit.MalformedEntry as exc:
        return refused_result(schedule.id, str(exc))
    names = [record, f"{space}{keys.QUEUE}{push.queue}", f"{space}queues"]
    reply = WRITES.run_script(source, "trigger", names, [message, push.queue, push.payload])
    return WRITES.result_from_reply(schedule.id, reply, new_id=push.jid)
