"""What the doctor says: one line per finding, how bad it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class FindingLevel(IntEnum):
    """How bad a finding is; from WARNING on it changes the exit status."""

    OK = 0
    NOTE = 1  # good to know, nothing to do
    WARNING = 2  # works, and may hurt one day
    PROBLEM = 3  # does not work, or loses jobs


@dataclass(frozen=True, slots=True)
class DoctorFinding:
    """One line; `advice` is what to do, empty for what is fine."""

    level: FindingLevel
    text: str
    advice: str = ""

    def __str__(self) -> str:
        stop = "." if self.advice and self.text[-1:] not in ".!?:;" else ""
        line = f"{self.level.name.lower():8} {self.text}{stop} {self.advice}".rstrip()
        # Names in Redis are anybody's: none may move the cursor of the terminal or start a line of its own.
        return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)


def exit_status(findings: Iterable[DoctorFinding]) -> int:
    """0 fine, 1 with warnings, 2 with problems."""
    worst = max((finding.level for finding in findings), default=FindingLevel.OK)
    return {FindingLevel.WARNING: 1, FindingLevel.PROBLEM: 2}.get(worst, 0)


def ok_finding(text: str) -> DoctorFinding:
    """What is as it should be."""
    return DoctorFinding(FindingLevel.OK, text)


def note_finding(text: str, advice: str = "") -> DoctorFinding:
    """What is good to know."""
    return DoctorFinding(FindingLevel.NOTE, text, advice)


def warning_finding(text: str, advice: str = "") -> DoctorFinding:
    """What is risky."""
    return DoctorFinding(FindingLevel.WARNING, text, advice)


def problem_finding(text: str, advice: str = "") -> DoctorFinding:
    """What is wrong."""
    return DoctorFinding(FindingLevel.PROBLEM, text, advice)
