"""`queuedeck demo` as users start it, for tests."""

from __future__ import annotations

import re
import signal
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import psutil

from tests.processes import Child, child
from tests.serving import get_json
from tests.waiting import CEILING_S, wait_until

TAG = "DEMO_UNDER_TEST"  # every process of the demo inherits it, whatever its session, group or parent
DEMO = ("-m", "dashboard.cli", "demo")


class Demo:
    """`queuedeck demo` as a process, and everything that it started."""

    def __init__(self, process: Child, tag: str) -> None:
        self.process = process
        self.tag = tag
        self.printed: list[str] = []
        self.browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        self.sign_in_url: str | None = None

    def read_line(self) -> str:
        """The next line that it prints."""
        self.printed.append(self.process.read_line())
        return self.printed[-1]

    def wait_for_line(self, pattern: str) -> re.Match[str]:
        """The match of the first line from now on that `pattern` matches."""
        while (found := re.match(pattern, self.read_line())) is None:
            pass
        return found

    def announced_url(self) -> str:
        """Its address, without the slash at the end, once it prints it; its browser is let in then."""
        found = self.wait_for_line(r"Open ((http://127\.0\.0\.1:\d+)/\S*)   ")
        self.sign_in_url = found[1]
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

    def wait_for_nothing_left(self, started: Sequence[psutil.Process] = ()) -> None:
        """Return once no process remains, those `started` first; killed children can take a moment to disappear."""
        wait_until(lambda: not any(self._is_ours(each) for each in started), what="the end of the demo's processes")
        wait_until(lambda: not self.alive(), what="the end of all processes of the demo")

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(TAG) == self.tag and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


@contextmanager
def demo_starter() -> Iterator[Callable[..., Demo]]:
    """Starts a demo by these arguments of Python; all that is left of it is killed at the end."""
    with ExitStack() as stack:

        def start(*command: str) -> Demo:
            tag = uuid4().hex
            process = child([sys.executable, *command], name="demo", environ={TAG: tag}, pipes=True, gently=False)
            started = Demo(stack.enter_context(process), tag)
            stack.callback(lambda: [process.kill() for process in started.alive()])
            return started

        yield start
