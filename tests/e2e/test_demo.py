"""The demo as users start it: queues of two libraries change, and no process or file remains when it stops."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dashboard.demo import runner
from tests.e2e.demo_process import DEMO, Demo, demo_starter
from tests.serving import get_json
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e


@pytest.fixture
def demo() -> Iterator[Callable[..., Demo]]:
    """Starts demos, which end with the test."""
    with demo_starter() as start:
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
