"""The demo as users start it: queues of two libraries change, and no process or file remains when it stops."""

from __future__ import annotations

import re
import signal
import socket
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import psutil
import pytest

from dashboard.demo import runner
from tests.processes import Child, child
from tests.serving import get_json
from tests.waiting import CEILING_S, wait_until

pytestmark = pytest.mark.e2e

TAG = "DEMO_UNDER_TEST"  # every process of the demo inherits it, whatever its session, group or parent
DEMO = ("-m", "dashboard.cli", "demo")


class Demo:
    """`queuedeck demo` as a process, and everything that it started."""

    def __init__(self, process: Child, tag: str) -> None:
        self.process = process
        self.tag = tag
        self.printed: list[str] = []
        self.browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def read_line(self) -> str:
        """The next line that it prints."""
        self.printed.append(self.process.read_line())
        return self.printed[-1]

    def announced_url(self) -> str:
        """Its address, without the slash at the end, once it prints it; its browser is let in then."""
        found = None
        while found is None:
            found = re.match(r"Open ((http://127\.0\.0\.1:\d+)/\S*)   ", self.read_line())
        self.browser.open(found[1], timeout=CEILING_S).close()
        return found[2]

    def overview(self, url: str) -> list[Any]:
        """The queues that it shows."""
        found: list[Any] = get_json(f"{url}/api/v1/overview", browser=self.browser).get("queues", [])
        return found

    def end(self, number: signal.Signals) -> tuple[int, str, str]:
        """Its exit status after that signal, all that it printed and its errors."""
        self.process.send(number)
        return self.wait()

    def wait(self) -> tuple[int, str, str]:
        """Its exit status once it stops on its own, with its output and errors."""
        status = self.process.process.wait(CEILING_S)
        assert self.process.process.stdout is not None
        rest = self.process.process.stdout.read().decode()
        return status, "".join(f"{line}\n" for line in self.printed) + rest, self.process.read_log()

    def queues(self, url: str) -> dict[tuple[str, str], Any]:
        """(library, name) -> figures of the queues that move by now."""
        assert self.process.is_alive, self.process.read_log()
        return {
            (queue["backend"], queue["name"]): queue
            for queue in self.overview(url)
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
    """Starts a demo by these arguments of Python; all that is left of it is killed at the end."""
    with ExitStack() as stack:

        def start(*command: str) -> Demo:
            tag = uuid4().hex
            process = child([sys.executable, *command], name="demo", environ={TAG: tag}, pipes=True, gently=False)
            started = Demo(stack.enter_context(process), tag)
            stack.callback(lambda: [process.kill() for process in started.alive()])
            return started

        yield start


def are_moving(queues: dict[tuple[str, str], Any]) -> bool:
    """Whether there are queues of all libraries of the demo, that of the workers in Node among them."""
    return len(queues) >= 6 and {library for library, _ in queues} >= {"bullmq", "rq"} and ("bullmq", "mails") in queues


def wait_for_nothing_left(demo: Demo) -> None:
    """Return once no process of a stopped demo remains; killed children can take a moment to disappear."""
    wait_until(lambda: not demo.alive(), what="the end of all processes of the demo")


def finished(queues: dict[tuple[str, str], Any]) -> int:
    return sum((queue["counts"]["completed"] or 0) + (queue["counts"]["dead"] or 0) for queue in queues.values())


def test_queues_of_both_libraries_change_and_ctrl_c_stops_everything(demo: Callable[..., Demo]) -> None:
    running = demo(*DEMO, "--port", "0")
    url = running.announced_url()
    before = wait_until(
        lambda: found if are_moving(found := running.queues(url)) else None, what="six queues of both libraries moving"
    )
    wait_until(lambda: finished(running.queues(url)) > finished(before), what="finished work")

    assert get_json(f"{url}/api/v1/overview")["error"]["code"] == "forbidden"
    assert {queue["error"] for queue in running.overview(url)} == {None}
    wait_until(
        lambda: any(queue["paused"] and queue["counts"]["waiting"] for queue in running.overview(url)),
        what="jobs piling up in a paused queue",
    )
    assert len(running.alive()) > 8

    status, printed, errors = running.end(signal.SIGINT)
    assert (status, errors) == (0, "")
    (address,) = re.findall(r"https?://\S+", printed)
    assert re.fullmatch(rf"{url}/\?token=[\w-]{{43}}", address)
    assert "ended:" not in printed
    wait_for_nothing_left(running)


def test_child_processes_stop_when_the_demo_is_killed(demo: Callable[..., Demo]) -> None:
    running = demo(*DEMO, "--port", "0", "--no-auth")
    url = running.announced_url()
    wait_until(lambda: are_moving(running.queues(url)), what="six queues of both libraries moving")
    running.process.send(signal.SIGKILL)  # not its group: they have to see that it is gone
    wait_for_nothing_left(running)


def test_a_requested_port_in_use_is_reported_in_one_line(demo: Callable[..., Demo]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = demo(*DEMO, "--port", str(port))
        status, printed, errors = running.wait()
    message = f"queuedeck: port {port} is in use or not permitted. Choose another --port.\n"
    assert (status, printed, errors) == (2, "", message)
    wait_for_nothing_left(running)


def test_another_port_is_used_if_the_default_is_in_use(demo: Callable[..., Demo]) -> None:
    assert runner.DEFAULT_PORT == 9181
    with socket.create_server(("127.0.0.1", 0)) as taken:  # in place of the default, which is anybody's
        port = taken.getsockname()[1]
        program = f"""if True:
            from dashboard import cli
            from dashboard.demo import runner
            runner.DEFAULT_PORT = {port}
            raise SystemExit(cli.main(["demo"]))
        """
        running = demo("-c", program)
        found = re.fullmatch(rf"Port {port} is in use; using (\d+)\.", running.read_line())
    assert found, running.printed
    assert int(found[1]) > port
    assert running.end(signal.SIGTERM)[0] == 0
    wait_for_nothing_left(running)
