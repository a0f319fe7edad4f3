"""One test per backend for `make quick`: queues of the real library are found, counted, listed and acted on."""

from __future__ import annotations

import pytest

from dashboard.backends.actions import Action, JobBackup, Outcome
from dashboard.model import JobQuery, State
from tests.contract.conftest import ACTING, LIBRARIES, Stage, directly
from tests.contract.library import Library

ONE_EACH = tuple({library.backend.name: library for library in reversed(ACTING)}.values())


@pytest.mark.parametrize("library", LIBRARIES, ids=repr)
def test_every_library_with_actions_is_tested_for_them(library: Library) -> None:
    assert library.acts == bool(library.backend.job_actions)


@directly
@pytest.mark.parametrize("any_server", ["redis-7"], indirect=True)
@pytest.mark.parametrize("key_space", ONE_EACH, ids=repr, indirect=True)
def test_queues_are_read_and_dead_jobs_are_deleted_and_restored(stage: Stage) -> None:
    name = "*" if stage.library.shared else "alpha"
    ref = stage.ref(name)
    (stats,) = stage.backend.read_stats([ref])
    dead = stage.filled.ids[name][State.DEAD]
    assert stats.counts.of(State.DEAD) == len(dead)
    assert sorted(stage.rows(ref, State.DEAD)) == sorted(dead)
    assert Action.DELETE in stage.backend.job_actions[State.DEAD]
    job_refs = stage.backend.list_job_refs(ref, JobQuery(state=State.DEAD))
    backups = [each for each in stage.backend.backup_jobs(ref, State.DEAD, job_refs) if isinstance(each, JobBackup)]
    assert [each.id for each in backups] == [job_ref.id for job_ref in job_refs]
    assert {each.outcome for each in stage.backend.delete_jobs(ref, State.DEAD, backups)} == {Outcome.DONE}
    assert stage.rows(ref, State.DEAD) == {}
    assert {each.outcome for each in stage.backend.restore_jobs(ref, State.DEAD, backups)} == {Outcome.DONE}
    assert sorted(stage.rows(ref, State.DEAD)) == sorted(dead)
