"""Order and skips of the test run.

A skipped test fails the run, and the summary counts them. Files are interleaved across folders: some folders mostly
wait for other processes and some mostly compute, so a mix keeps all cores busy.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Generator
from pathlib import Path

import pytest

_SKIPPED = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SKIPPED] = []
    config.pluginmanager.register(_SkipRecorder(config.stash[_SKIPPED]), "queuedeck-skips")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First the first file of each folder, then the second ones, and so on; the tests of a file stay together."""
    place = {}
    folders: dict[Path, itertools.count[int]] = {}
    for path in dict.fromkeys(item.path for item in items):
        place[path] = next(folders.setdefault(path.parent, itertools.count()))
    items.sort(key=lambda item: (place[item.path], item.path))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What was collected stays until the end: looking through it for garbage cost 0.18 s each time.

    What tests leave behind is looked for more rarely than by default: there is little of it.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 10, 10)
        gc.enable()


class _SkipRecorder:
    """Records skipped tests; the hooks for reports get no config."""

    def __init__(self, skipped: list[str]) -> None:
        self._skipped = skipped

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skipped.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._skipped.append(report.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    passed = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    if passed and session.config.stash[_SKIPPED]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    skipped = config.stash[_SKIPPED]
    terminalreporter.write_line(f"skipped tests: {len(skipped)}", red=bool(skipped))
    for nodeid in skipped:
        terminalreporter.write_line(f"  not expected to be skipped: {nodeid}", red=True)
