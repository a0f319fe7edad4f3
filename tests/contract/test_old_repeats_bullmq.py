"""Repeatable jobs of BullMQ 4 and 5.0 to 5.15. The keys are those that real releases wrote: 5.4.5 and 5.8.7 (an id of
the app, `repeat.key`; another hash, `repeatKeyHashAlgorithm`; a pattern of the app's own `repeatStrategy`), and 5.12.15
and 5.15.0 (a hash for each schedule, without its data).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import redis

from dashboard.backends.actions import Action, ActionResult, Outcome
from dashboard.backends.bullmq.backend import BullMQ
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import JobQuery, Schedule, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.test_actions_bullmq import REF

HOUR_MS = 3_600_000
NEXT_MS = (int(time.time() * 1000) // HOUR_MS + 2) * HOUR_MS
SHA = "7f5835f07fa64dfed0357f019e6684cdcd6f25513d8d3c4b9e6136847af244b2"
RULE = "DTSTART:20221202T000000Z\nRRULE:FREQ=DAILY"
# name -> (id of the schedule, middle of the id of its runs, its options, what the schedule has in a hash)
SHAPES = {
    "key": ("key::::3600000", "mykey", {"every": HOUR_MS, "key": "mykey"}, {}),
    "sha": ("sha::::1800000", SHA, {"every": HOUR_MS // 2}, {}),
    "rule": (f"rule::::{RULE}", "d41d8cd98f00b204e9800998ecf8427e", {"pattern": RULE}, {}),
    "hash": ("aa3f56cc3cc4b9adb5023ec3ce9446dd",) * 2 + ({"every": HOUR_MS}, {"name": "hash", "every": HOUR_MS}),
}


@pytest.fixture
def backend(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[BullMQ]:
    source = Source("main", server.url)
    yield BullMQ(source, SourceSettings(name="main", url=server.url))
    source.close()


@pytest.fixture
def runs(redis_client: redis.Redis) -> dict[str, str]:
    """The id of the next run of each schedule, by its name."""
    redis_client.hset("bull:alpha:meta", "opts.maxLenEvents", 10_000)
    made = {}
    for n, (name, (member, middle, repeat, kept)) in enumerate(SHAPES.items()):
        run = f"repeat:{middle}:{NEXT_MS}"
        options = {"prevMillis": NEXT_MS, "jobId": run, "repeat": {**repeat, "count": 1}, "delay": 9, "attempts": 3}
        job = {"rjk": member, "name": name, "data": json.dumps({"of": name}), "opts": json.dumps(options)}
        redis_client.hset(f"bull:alpha:{run}", mapping={**job, "timestamp": 1, "delay": 9, "priority": 0})
        redis_client.zadd("bull:alpha:repeat", {member: NEXT_MS})
        redis_client.zadd("bull:alpha:delayed", {run: NEXT_MS * 4096 + n})
        if kept:
            redis_client.hset(f"bull:alpha:repeat:{member}", mapping=kept)
        made[name] = run
    return made


def schedules_by_name(backend: BullMQ) -> dict[str, Schedule]:
    return {schedule.name or "": schedule for schedule in backend.list_schedules([REF])}


def test_a_next_run_of_any_format_is_found_and_cannot_be_deleted(
    backend: BullMQ, redis_client: redis.Redis, runs: dict[str, str]
) -> None:
    for place in ("delayed", "wait", "active", "prioritized"):
        if place != "delayed":
            redis_client.delete("bull:alpha:delayed", "bull:alpha:wait", "bull:alpha:active")
            if place == "prioritized":
                redis_client.zadd("bull:alpha:prioritized", dict.fromkeys(runs.values(), 1))
            else:
                redis_client.rpush(f"bull:alpha:{place}", *runs.values())
        schedules = schedules_by_name(backend)
        assert {name: each.problem for name, each in schedules.items()} == dict.fromkeys(SHAPES), place
        assert {each.next_run_at and each.next_run_at.timestamp() * 1000 for each in schedules.values()} == {NEXT_MS}
    assert schedules["rule"].pattern == RULE
    assert [json.loads(each.payload.text) for each in schedules.values() if each.payload] == [
        {"of": name} for name in schedules
    ]
    redis_client.delete("bull:alpha:prioritized")
    redis_client.zadd("bull:alpha:delayed", dict.fromkeys(runs.values(), NEXT_MS * 4096))
    job_refs = backend.list_job_refs(REF, JobQuery(state=State.SCHEDULED))
    refused = backend.backup_jobs(REF, State.SCHEDULED, job_refs)
    assert {each.detail for each in refused if isinstance(each, ActionResult)} == {
        "it is the next run of a schedule; remove the schedule instead"
    }
    assert len(refused) == len(SHAPES)


def test_a_missing_next_run_is_reported_only_if_it_is_certain(
    backend: BullMQ, redis_client: redis.Redis, runs: dict[str, str]
) -> None:
    redis_client.delete("bull:alpha:delayed", *(f"bull:alpha:{run}" for run in runs.values()))
    for schedule in backend.list_schedules([REF]):
        if schedule.id != SHAPES["rule"][0]:  # of which nothing but the id is left
            missing = "it will not run again: the job of its next run no longer exists."
            assert (schedule.problem or "").startswith(missing), schedule
    redis_client.rpush("bull:alpha:wait", *range(500))
    problems = {schedule.id: schedule.problem for schedule in backend.list_schedules([REF])}
    assert problems["key::::3600000"] is None
    assert problems[SHAPES["hash"][0]] is not None  # whose runs have one form only


@pytest.mark.parametrize("name", SHAPES)
def test_a_schedule_is_triggered_with_its_data_and_removed_with_its_next_run(
    backend: BullMQ, redis_client: redis.Redis, runs: dict[str, str], name: str
) -> None:
    schedule = schedules_by_name(backend)[name]
    result = backend.act_on_schedule(schedule, Action.TRIGGER)
    assert result.outcome is Outcome.DONE, result
    made = redis_client.hgetall(f"bull:alpha:{result.new_id}")
    assert (made[b"name"], json.loads(made[b"data"])) == (name.encode(), {"of": name})
    assert json.loads(made[b"opts"]) == {"attempts": 3}
    assert backend.act_on_schedule(schedule, Action.REMOVE_SCHEDULE).outcome is Outcome.DONE
    others = {run.encode() for each, run in runs.items() if each != name}
    assert set(redis_client.zrange("bull:alpha:delayed", 0, -1)) == others
    assert redis_client.exists(f"bull:alpha:{runs[name]}", f"bull:alpha:repeat:{SHAPES[name][0]}") == 0
    assert redis_client.zcard("bull:alpha:repeat") == len(others)


def test_a_schedule_without_its_next_run_has_an_unknown_template(
    backend: BullMQ, redis_client: redis.Redis, runs: dict[str, str]
) -> None:
    redis_client.delete("bull:alpha:delayed", *(f"bull:alpha:{run}" for run in runs.values()))
    for schedule in backend.list_schedules([REF]):
        result = backend.act_on_schedule(schedule, Action.TRIGGER)
        assert result.outcome is Outcome.REFUSED
        assert "the job of its next run" in (result.detail or "")
    assert redis_client.exists("bull:alpha:wait", "bull:alpha:id") == 0
