"""Tests that fail now and then: listed in `quarantine.toml`, run in `make soak`, printed with their age."""

from __future__ import annotations

import datetime
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).with_name("quarantine.toml")
FIELDS = {"test": str, "issue": int, "since": datetime.date}


@dataclass(frozen=True)
class Quarantined:
    """One entry: the node id of a test, the issue in which its cause is looked for, and the day it was listed."""

    test: str
    issue: int
    since: datetime.date

    def matches(self, nodeid: str) -> bool:
        """Whether the entry means this test; an entry without parameters means all of them."""
        return nodeid == self.test or nodeid.startswith(f"{self.test}[")

    def age_days(self, today: datetime.date) -> int:
        """Whole days since it was listed."""
        return (today - self.since).days


def load_quarantine(text: str) -> list[Quarantined]:
    """The entries of a quarantine file, in order. Raises ValueError for a field that is missing, wrong or unknown."""
    document = tomllib.loads(text)
    if set(document) - {"quarantined"}:
        raise ValueError(f"unknown in the quarantine: {', '.join(sorted(set(document) - {'quarantined'}))}")
    return [_entry(table) for table in document.get("quarantined", [])]


def _entry(table: dict[str, Any]) -> Quarantined:
    if set(table) != set(FIELDS):
        raise ValueError(f"an entry has the fields {', '.join(FIELDS)}, not {', '.join(sorted(table))}")
    for name, kind in FIELDS.items():
        if not isinstance(table[name], kind):
            raise ValueError(f"{name} = {table[name]!r} is not a {kind.__name__}")  # noqa: TRY004 a file's fault
    return Quarantined(**table)


class QuarantinePlugin:
    """Marks what is quarantined as `soak`, and prints the list at the end of a run."""

    def __init__(self, entries: list[Quarantined]) -> None:
        self.entries = entries

    @pytest.hookimpl(tryfirst=True)  # before the marks select what runs
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if any(entry.matches(item.nodeid) for entry in self.entries):
                item.add_marker("soak")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        today = datetime.datetime.now(datetime.UTC).date()
        terminalreporter.write_line(f"quarantined tests: {len(self.entries)}", yellow=bool(self.entries))
        for entry in self.entries:
            age = entry.age_days(today)
            terminalreporter.write_line(f"  {entry.test}: issue {entry.issue}, for {age} days", yellow=True)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(QuarantinePlugin(load_quarantine(FILE.read_text())), "queuedeck-quarantine")
