"""The users that `queuedeck doctor --acl` prints may do all that is offered for each library, undo too, and no more."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest
import redis

from dashboard.actions.audit_log import Actor, AuditLog
from dashboard.actions.service import ActionService
from dashboard.actions.trash import Trash
from dashboard.backends.actions import Action, ActionOptions, JobRef
from dashboard.backends.base import Backend
from dashboard.doctor import acl
from dashboard.errors import Unsupported
from dashboard.model import Job, JobQuery, QueueRef, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from dashboard.store.redis_store import Store
from tests.contract.conftest import ACTING, KeySpace, Stage, directly
from tests.contract.least_user import as_least_user, create_least_user, run_command
from tests.processes import ROOT

ACTOR = Actor(name="anna", role="admin")
newer = pytest.mark.parametrize("any_server", ["redis-7", "valkey-9"], indirect=True)
that_act = pytest.mark.parametrize("key_space", ACTING, ids=repr, indirect=True)


def reset_keys(stage: Stage, key_space: KeySpace) -> None:
    """The key space as it was filled; users stay."""
    stage.client.flushall()
    with stage.client.pipeline(transaction=False) as pipeline:
        for key, (value, ttl_ms) in key_space.keys.items():
            pipeline.restore(key, ttl_ms, value)
        pipeline.execute()


def create_user(stage: Stage, *, acts: bool = True) -> str:
    """The address with the user of the printed lines, who is made."""
    create_least_user(stage.client, stage.backend, list(stage.discover().values()), acts=acts)
    return as_least_user(stage.url)


@contextmanager
def open_actions(stage: Stage, url: str) -> Iterator[tuple[Backend, ActionService]]:
    source = Source("main", url)
    backend = type(stage.backend)(source, SourceSettings(name="main", url=url))
    backend.own_source = source
    try:
        stage.library.prepare(backend, stage.client)
        yield backend, ActionService(lambda *_: backend, Trash(Store(source), 1024 * 1024), AuditLog(source))
    finally:
        backend.close()
        source.close()


def try_all_actions(stage: Stage, key_space: KeySpace, url: str) -> dict[tuple[str, str, str], str]:
    """What comes of each act that is offered for a first job of each state, for queues, schedules and workers."""
    found: dict[tuple[str, str, str], str] = {}
    with open_actions(stage, url) as (backend, actions):
        for ref in stage.discover().values():
            for state, offered in backend.job_actions.items():
                for action in offered:
                    reset_keys(stage, key_space)
                    jobs: Sequence[Job] = ()
                    with suppress(Unsupported):  # kept in each queue, or for all of them
                        jobs = backend.list_jobs(ref, JobQuery(state=state)).jobs
                    if jobs:
                        found[ref.name, state.value, action.value] = try_action(actions, ref, state, action, jobs[0])
            for action in backend.queue_actions:
                reset_keys(stage, key_space)
                done = backend.act_on_queue(ref, action)
                found[ref.name, "queue", action.value] = f"{done.outcome} {done.detail}"
        refs = list(stage.discover().values())
        for what, offered, things, act in (
            ("schedule", backend.schedule_actions, backend.list_schedules, backend.act_on_schedule),
            ("worker", backend.worker_actions, backend.list_workers, backend.act_on_worker),
        ):
            for action in offered:
                reset_keys(stage, key_space)
                for thing in list(things(refs))[:1]:
                    done = act(thing, action)
                    found[what, thing.id, action.value] = f"{done.outcome} {done.detail}"
    return found


def try_action(actions: ActionService, ref: QueueRef, state: State, action: Action, job: Job) -> str:
    """How it ended, and the undo of it where there is one."""
    target = "beta" if ref.name == "alpha" else "alpha"
    options = ActionOptions(payload=job.payload.text if job.payload else None, target=target)
    done = actions.on_jobs(ACTOR, ref, state, action, [JobRef(id=job.id, version=job.version)], options)
    told = f"{done.results[0].outcome} {done.results[0].detail}"
    if done.undo_batch is not None:
        (back,) = actions.restore_batch(ACTOR, done.undo_batch).results
        told += f", undone: {back.outcome} {back.detail}"
    return told


@directly
@newer
@that_act
def test_the_printed_user_may_do_all_that_is_offered(stage: Stage, key_space: KeySpace) -> None:
    expected = try_all_actions(stage, key_space, stage.url)
    assert any("done" in told for told in expected.values())
    assert try_all_actions(stage, key_space, create_user(stage)) == expected
    log = [entry["object"] for entry in stage.client.acl_log()]
    assert log == []


@directly
@newer
@that_act
def test_the_printed_user_may_do_nothing_else(stage: Stage, key_space: KeySpace) -> None:
    with redis.Redis.from_url(create_user(stage)) as client:
        for command in (
            *(("SET", "shop:orders", 1), ("DEL", "shop:orders"), ("FLUSHALL",), ("FLUSHDB",), ("KEYS", "*")),
            *(("CONFIG", "GET", "*"), ("ACL", "LIST"), ("MONITOR",), ("SHUTDOWN",), ("SWAPDB", 0, 1), ("MOVE", "a", 1)),
            *(("EVAL", "return redis.call('SET', 'shop:orders', 1)", 0), ("FUNCTION", "LIST")),
            *(("PUBLISH", "shop", "x"), ("SCRIPT", "FLUSH"), ("REPLICAOF", "no", "one"), ("SUBSCRIBE", "shop")),
        ):
            with pytest.raises(redis.exceptions.ResponseError, match=r"(?i)permission|can't access|can't run"):
                client.execute_command(*command)


@directly
@newer
@that_act
def test_without_the_acting_line_every_act_is_refused(stage: Stage, key_space: KeySpace) -> None:
    url = create_user(stage, acts=False)
    with open_actions(stage, url) as (backend, _):
        refs = list(stage.discover().values())
        missing = acl.missing_grants(backend, refs)
    assert missing
    run_command(stage.client, f"ACL SETUSER queuedeck {' '.join(missing)}")
    with open_actions(stage, url) as (backend, _):
        assert acl.missing_grants(backend, refs) == ()
    stage.client.acl_deluser("queuedeck")
    url = create_user(stage)
    with open_actions(stage, url) as (backend, _):
        assert acl.missing_grants(backend, list(stage.discover().values())) == ()


# Those inside Queuedeck: a backend of another package documents its own line.
OURS = [library for library in ACTING if library.backend.__module__.startswith("dashboard.")]


@directly
@pytest.mark.parametrize("key_space", OURS, ids=repr, indirect=True)
def test_the_readme_shows_these_lines(stage: Stage) -> None:
    readme = (ROOT / "README.md").read_text().splitlines()
    assert {acl.reading_line(), acl.publishing_line(), acl.acting_line(stage.backend, [])} <= set(readme)


def test_our_own_scripts_run_no_other_commands() -> None:
    """Those that keep our own data; a command that is tried only, and has another way, may be refused."""
    used: set[str] = set()
    for folder in ("actions", "alerts", "dead_letters", "sampling", "store", "web"):
        paths = list((ROOT / "dashboard" / folder).rglob("*.py"))
        assert paths
        for path in paths:
            used |= {word.lower() for word in re.findall(r"redis\.call\('([A-Z]+)'", path.read_text())}
    assert "set" in used
    assert used & acl.WRITING <= set(acl.own_commands())


@directly
def test_redis_6_cannot_say_who_may_act(stage: Stage) -> None:
    if stage.client.info("server")["redis_version"] < "7":
        with pytest.raises(Unsupported, match="cannot report"):
            acl.missing_grants(stage.backend, list(stage.discover().values()))
