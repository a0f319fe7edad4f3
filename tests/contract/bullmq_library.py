"""The real BullMQ, from npm, driven through `tests/workloads/bullmq/drive.mjs`."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dashboard.backends.bullmq import keys
from dashboard.backends.bullmq.backend import BullMQ
from dashboard.model import State
from tests.contract.library import Filled, Library
from tests.processes import Child, child, start
from tests.waiting import CEILING_S

WORKLOAD = Path(__file__).parent.parent / "workloads" / "bullmq"


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
            filled.ids[queue] = ids_by_state(answer["ids"])
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
        served = start_driver(self.alias)
        served.write_line(json.dumps({"command": command, "url": url, "queue": queue, "options": options}))
        told = json.loads(served.read_line())
        assert "error" not in told, f"{self.alias} could not {command} {queue}: {told['error']}"
        return told["answer"]


@functools.cache
def start_driver(alias: str) -> Child:
    """The workload of one release, which serves all commands of this process of the tests: Node is slow to start."""
    served = start(_script("drive.mjs", alias, "serve"), name=f"{alias}-driver", pipes=True)
    atexit.register(kill_driver, served)
    return served


def kill_driver(served: Child) -> None:
    served.kill()
    for pipe in (served.process.stdin, served.process.stdout):
        assert pipe is not None
        with contextlib.suppress(OSError):
            pipe.close()


def _script(script: str, *arguments: str) -> list[str]:
    """The command that runs a script of the workload."""
    binary = shutil.which("node")
    if binary is None or not (WORKLOAD / "node_modules").is_dir():
        pytest.fail("Node or the npm packages of the workload are missing: run the tests with `make test`")
    return [binary, str(WORKLOAD / script), *arguments]


def node(script: str, *arguments: str) -> Any:
    """The line that a script of the workload prints, decoded."""
    with child(_script(script, *arguments), name=script, pipes=True) as process:
        answer = process.read_line()
        assert process.process.wait(CEILING_S) == 0, process.read_log()
    return json.loads(answer)


@contextlib.contextmanager
def running_script(script: str, *arguments: str) -> Iterator[Any]:
    """The first line of a script that stays until the end of the block, decoded."""
    with child(_script(script, *arguments), name=script, pipes=True, gently=False) as process:
        yield json.loads(process.read_line())


def ids_by_state(native: Mapping[str, list[str]]) -> dict[State, list[str]]:
    """Ids by our states, from ids by the library's words."""
    ids: dict[State, list[str]] = {}
    for entry in keys.LISTS:
        ids.setdefault(entry.state, []).extend(native.get(entry.native, ()))
    return ids
