"""The demo as people start it: queues of two libraries move, and nothing is left of it when it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psutil
import pytest

from dashboard.demo.embedded import die_with_parent, free_port
from tests.serving import ROOT, get_json, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

TAG = "DEMO_UNDER_TEST"  # every process of the demo inherits it, whatever its session, group or parent


class Demo:
    """`queuedeck demo` as a process, and everything that it started."""

    def __init__(self, port: int | None) -> None:
        self.tag = uuid4().hex
        self.port = port
        arguments = ["--port", str(port)] if port else []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dashboard.cli", "demo", *arguments],
            cwd=ROOT,
            env={**os.environ, TAG: self.tag},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent(),
        )

    def overview(self) -> Any:
        assert self.process.poll() is None, self.process.communicate()
        return get_json(f"http://127.0.0.1:{self.port}/api/v1/overview")

    def queues(self) -> dict[tuple[str, str], Any]:
        """(library, name) -> figures of the queues that move by now."""
        return {
            (queue["backend"], queue["name"]): queue
            for queue in self.overview().get("queues", ())
            if queue["counts"]["completed"] or queue["counts"]["active"]
        }

    def alive(self) -> list[psutil.Process]:
        """The processes that carry the tag and are no zombies."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(TAG) == self.tag and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


@pytest.fixture
def demo() -> Iterator[Callable[..., Demo]]:
    started: list[Demo] = []

    def start(port: int | None = None) -> Demo:
        started.append(Demo(port))
        return started[-1]

    yield start
    for instance in started:
        for process in (instance.process, *instance.alive()):
            process.kill()
        instance.process.communicate()


def is_moving(demo: Demo) -> bool:
    queues = demo.queues()
    return len(queues) >= 6 and {library for library, _ in queues} >= {"bullmq", "rq"}


def nothing_left(demo: Demo) -> None:
    """Nothing is left of a demo that has ended; what it has killed may take a moment to be gone."""
    wait_until(lambda: not demo.alive(), within_s=5, what="the end of all children")


def finished(queues: dict[tuple[str, str], Any]) -> int:
    return sum((queue["counts"]["completed"] or 0) + (queue["counts"]["dead"] or 0) for queue in queues.values())


def test_queues_of_both_libraries_move_and_ctrl_c_leaves_nothing(demo: Callable[..., Demo]) -> None:
    running = demo(free_port())
    wait_until(lambda: is_moving(running), within_s=60, what="six queues of both libraries moving")
    before = running.queues()
    wait_until(lambda: finished(running.queues()) > finished(before), what="work being finished")
    every = running.overview()["queues"]
    assert [queue["error"] for queue in every] == [None] * len(every)
    wait_until(
        lambda: any(queue["paused"] and queue["counts"]["waiting"] for queue in running.overview()["queues"]),
        within_s=60,
        what="jobs piling up in a paused queue",
    )
    assert len(running.alive()) > 8

    running.process.send_signal(signal.SIGINT)
    out, err = running.process.communicate(timeout=60)
    assert running.process.returncode == 0
    assert err == ""
    assert re.findall(r"https?://\S+", out) == [f"http://127.0.0.1:{running.port}/"]
    assert "ended:" not in out
    nothing_left(running)


def test_node_takes_part(demo: Callable[..., Demo]) -> None:
    running = demo(free_port())
    wait_until(
        lambda: ("bullmq", "mails") in running.queues(), within_s=60, what="the queue of the Node workers moving"
    )
    running.process.terminate()
    running.process.communicate(timeout=60)
    assert running.process.returncode == 0
    nothing_left(running)


def test_children_end_with_a_demo_that_is_killed(demo: Callable[..., Demo]) -> None:
    running = demo(free_port())
    wait_until(lambda: is_moving(running), within_s=60, what="six queues of both libraries moving")
    running.process.kill()
    wait_until(lambda: not running.alive(), within_s=60, what="the end of all children")


def test_a_port_that_was_asked_for_and_is_taken_is_one_line(demo: Callable[..., Demo]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = demo(port)
        out, err = running.process.communicate(timeout=60)
    assert running.process.returncode == 2
    assert (out, err) == ("", f"queuedeck: port {port} is taken or not permitted. Choose another --port.\n")
    nothing_left(running)


def test_the_default_port_gives_way_and_says_so(demo: Callable[..., Demo]) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 9181))
            taken.listen()
        except OSError:
            pass  # somebody else has it, which serves as well
        running = demo()
        assert running.process.stdout is not None
        first = running.process.stdout.readline()
    found = re.fullmatch(r"Port 9181 is taken; using (\d+)\.\n", first)
    assert found, first
    assert int(found[1]) > 9181
    running.process.terminate()
    assert running.process.wait(60) == 0
