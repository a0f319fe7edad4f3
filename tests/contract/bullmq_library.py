"""The real BullMQ, from npm, driven through `tests/workloads/bullmq/drive.mjs`."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dashboard.backends.bullmq import keys
from dashboard.backends.bullmq.backend import BullMQ
from dashboard.model import State
from tests.contract.library import Filled, Library

WORKLOAD = Path(__file__).parent.parent / "workloads" / "bullmq"
TIMEOUT_S = 120


class BullMQLibrary(Library):
    """One release of BullMQ: `alias` is its name in the workload's package.json."""

    backend = BullMQ

    def __init__(self, alias: str = "bullmq") -> None:
        self.alias = alias

    def __repr__(self) -> str:
        return self.alias

    def fill(self, url: str) -> Filled:
        filled = Filled()
        for queue, options in (("alpha", {}), ("beta", {"paused": True})):
            answer = self.drive("fill", url, queue, **options)
            filled.ids[queue] = by_state(answer["ids"])
            filled.native_counts[queue] = answer["counts"]
        return filled

    def own_counts(self, url: str, queue: str) -> Mapping[str, int]:
        counts: dict[str, int] = self.drive("counts", url, queue)
        return counts

    def run_jobs(self, url: str, queue: str, *, good: int, bad: int) -> None:
        self.drive("run", url, queue, good=good, bad=bad)

    def job_key(self, queue: str, job_id: str) -> bytes:
        return f"bull:{queue}:{job_id}".encode("utf-8", "surrogateescape")

    def drive(self, command: str, url: str, queue: str, **options: object) -> Any:
        """What the workload answers to one command."""
        return node("drive.mjs", self.alias, command, url, queue, json.dumps(options))


def node(script: str, *arguments: str) -> Any:
    """The last line that a script of the workload prints, decoded."""
    binary = shutil.which("node")
    if binary is None or not (WORKLOAD / "node_modules").is_dir():
        pytest.fail("Node or the npm packages of the workload are missing: run the tests with `make test`")
    done = subprocess.run(
        [binary, str(WORKLOAD / script), *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def by_state(native: Mapping[str, list[str]]) -> dict[State, list[str]]:
    """Ids by our states, from ids by the library's words."""
    ids: dict[State, list[str]] = {}
    for entry in keys.LISTS:
        ids.setdefault(entry.state, []).extend(native.get(entry.native, ()))
    return ids
