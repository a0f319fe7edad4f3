"""Additions to the summary of a test run.

A failure shows the logs of the processes that ran during it. With `--rerun-alone` each failed test runs once more by
itself, only to report whether it then passes: the run still fails. The summary lists the slowest tests and files, and
the interleavings that the stepping tests drove.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from tests import processes

SLOWEST = 10
SLOWEST_FILES = 40
# A run in which more than this fails has another cause than one unlucky test.
MOST_RERUN = 10
RERUN_LIMIT_S = 900.0

Interleavings = tuple[str, str, int]  # library, act, number of steps


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rerun-alone", action="store_true", help="run each failed test once more alone; still fail")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Reporting(config), "queuedeck-reporting")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Add the logs of the processes that are alive, or ended during this test, to a failure."""
    alive_before = item.stash.setdefault(_STARTED_BEFORE, len(processes.STARTED))
    report: pytest.TestReport = yield  # type: ignore[misc,assignment]  # a wrapper is sent the result
    report.user_properties.append(("processor", _used_since_last()))
    if report.failed:
        for number, child in enumerate(processes.STARTED):
            if number >= alive_before or child.is_alive:
                report.sections.append((f"log of {child.name}", child.read_log() or "(empty)"))
    return report  # type: ignore[return-value]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[_STARTED_BEFORE] = len(processes.STARTED)


_STARTED_BEFORE = pytest.StashKey[int]()


def _used_since_last() -> tuple[float, float]:
    """Seconds of the processor since the last call: of this process, and of programs that it started and that ended."""
    now = os.times()
    own, others = now.user + now.system, now.children_user + now.children_system
    used = own - _USED[0], others - _USED[1]
    _USED[:] = own, others
    return used


_USED = [0.0, 0.0]


def _file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


class Reporting:
    """Collects data for the summary; with several processes, in the controlling one."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.seconds: dict[str, float] = {}
        self.used: dict[str, list[float]] = {}  # by file: as `_used_since_last`
        self.failed: dict[str, None] = {}  # in order
        self.interleavings: list[Interleavings] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        own_and_others = self.used.setdefault(_file_of(report.nodeid), [0.0, 0.0])
        for used in (value for name, value in report.user_properties[-1:] if name == "processor"):
            own_and_others[:] = [sum(pair) for pair in zip(own_and_others, used, strict=True)]
        if report.failed:
            self.failed[report.nodeid] = None
        if report.when == "call":
            self.interleavings += [tuple(value) for name, value in report.user_properties if name == "interleavings"]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        line = terminalreporter.write_line
        if self.interleavings:
            line(f"interleavings driven: {sum(steps for *_, steps in self.interleavings)}")
            for library, act, steps in sorted(self.interleavings):
                line(f"  {library:<10} {act:<60} {steps:>5}")
        if len(self.seconds) > SLOWEST:
            line(f"slowest tests, of {sum(self.seconds.values()):.0f} s in all:")
            for nodeid, seconds in sorted(self.seconds.items(), key=lambda entry: -entry[1])[:SLOWEST]:
                line(f"  {seconds:6.1f} s  {nodeid}")
            by_file: Counter[str] = Counter()
            for nodeid, seconds in self.seconds.items():
                by_file[_file_of(nodeid)] += seconds
            line("slowest files, with the seconds of the processor of the tests and of the programs that they started:")
            for file, seconds in by_file.most_common(SLOWEST_FILES):
                own, others = self.used[file]
                line(f"  {seconds:6.1f} s  {own:6.1f}  {others:6.1f}  {file}")
        if self.failed and self.config.getoption("rerun_alone") and not hasattr(self.config, "workerinput"):
            self._rerun(terminalreporter)

    def _rerun(self, terminalreporter: pytest.TerminalReporter) -> None:
        for nodeid in list(self.failed)[:MOST_RERUN]:
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", nodeid]
            try:
                code = subprocess.run(
                    command, cwd=self.config.rootpath, capture_output=True, check=False, timeout=RERUN_LIMIT_S
                ).returncode
            except subprocess.TimeoutExpired:
                code = -1
            verdict = "failed, then passed alone" if code == pytest.ExitCode.OK else "failed, and failed alone"
            terminalreporter.write_line(f"{verdict}: {nodeid}", red=True)
        left = len(self.failed) - MOST_RERUN
        if left > 0:
            terminalreporter.write_line(f"{left} more that failed did not run again", red=True)
