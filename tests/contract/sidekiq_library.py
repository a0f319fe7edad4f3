"""The real Sidekiq of this machine, driven through `tests/workloads/sidekiq/drive.rb`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dashboard.backends.sidekiq.backend import Sidekiq
from dashboard.model import State
from tests.contract.library import Filled, Library
from tests.processes import child
from tests.waiting import CEILING_S

DRIVER = Path(__file__).parent.parent / "workloads" / "sidekiq" / "drive.rb"


class SidekiqLibrary(Library):
    """Keeps scheduled, retried and dead jobs of all queues together, and forgets what succeeded."""

    backend = Sidekiq
    shared = True
    hashes = False

    def __repr__(self) -> str:
        return "sidekiq"

    def fill(self, url: str) -> Filled:
        answer = self.drive("fill", url, "")
        ids = {queue: {State(state): found for state, found in lists.items()} for queue, lists in answer["ids"].items()}
        return Filled(ids=ids, native_counts=answer["counts"])

    def own_counts(self, url: str, queue: str) -> Mapping[str, int]:
        counts: dict[str, int] = self.drive("counts", url, queue)
        return counts

    def run_jobs(self, url: str, queue: str, *, good: int, bad: int) -> None:
        self.drive("run", url, queue, str(good), str(bad))

    def job_key(self, queue: str, job_id: str) -> bytes:
        raise AssertionError("a job of Sidekiq has no key of its own")

    def states(self, queue: str) -> tuple[State, ...]:
        shared = (State.SCHEDULED, State.RETRYING, State.DEAD)
        return shared if queue == "*" else (State.WAITING, State.ACTIVE)

    def drive(self, command: str, url: str, queue: str, *arguments: str) -> Any:
        """What the driver answers to one command."""
        ruby = shutil.which("ruby")
        if ruby is None:
            pytest.fail("Ruby with Sidekiq is missing: run the tests with `make test`")
        with child([ruby, DRIVER, command, url, queue, *arguments], name="sidekiq-drive", pipes=True) as process:
            answer = json.loads(process.read_line())
            assert process.process.wait(CEILING_S) == 0, process.read_log()
        return answer
