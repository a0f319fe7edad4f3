"""The findings of the doctor: one line each, with a level and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class FindingLevel(IntEnum):
    """The severity of a finding; WARNING and above change the exit status."""

    OK = 0
    NOTE = 1  # for information, nothing to do
    WARNING = 2  # works, but can cause trouble later
    PROBLEM = 3  # does not work, or loses jobs


@dataclass(frozen=True, slots=True)
class DoctorFinding:
    """One line; `advice` is what to do, empty if nothing is wrong."""

    level: FindingLevel
    text: str
    advice: str = ""

    def __str__(self) -> str:
        stop = "." if self.advice and self.text[-1:] not in ".!?:;" else ""
        line = f"{self.level.name.lower():8} {self.text}{stop} {self.advice}".rstrip()
        # Anyone can choose names in Redis: they must not move the cursor of the terminal or start a new line.
        return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)


def exit_status(findings: Iterable[DoctorFinding]) -> int:
    """Return 0 if all is OK, 1 with warnings, 2 with problems."""
    worst = max((finding.level for finding in findings), default=FindingLevel.OK)
    return {FindingLevel.WARNING: 1, FindingLevel.PROBLEM: 2}.get(worst, 0)


def ok_finding(text: str) -> DoctorFinding:
    """Return a finding that all is OK."""
    return DoctorFinding(FindingLevel.OK, text)


def note_finding(text: str, advice: str = "") -> DoctorFinding:
    """Return a finding for information."""
    return DoctorFinding(FindingLevel.NOTE, text, advice)


def warning_finding(text: str, advice: str = "") -> DoctorFinding:
    """Return a finding about a risk."""
    return DoctorFinding(FindingLevel.WARNING, text, advice)


def problem_finding(text: str, advice: str = "") -> DoctorFinding:
    """Return a finding about a failure."""
    return DoctorFinding(FindingLevel.PROBLEM, text, advice)
