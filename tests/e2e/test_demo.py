"""The ports of the demo; tests/e2e/test_demo_story.py tells the rest of it."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Callable, Iterator

import pytest

from dashboard.demo import runner
from tests.e2e.demo_process import DEMO, Demo, demo_starter

pytestmark = pytest.mark.e2e


@pytest.fixture
def demo() -> Iterator[Callable[..., Demo]]:
    """Starts demos, which end with the test."""
    with demo_starter() as start:
        yield start


def test_a_requested_port_in_use_is_reported_in_one_line(demo: Callable[..., Demo]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = demo(*DEMO, "--port", str(port))
        status, printed, errors = running.wait()
    message = f"queuedeck: port {port} is in use or not permitted. Choose another --port.\n"
    assert (status, printed, errors) == (2, "", message)
    running.wait_for_nothing_left()


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
    running.wait_for_nothing_left()
