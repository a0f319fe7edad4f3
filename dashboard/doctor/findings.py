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
    """One line: `text`, `why` it matters for jobs, and `advice`, what to do; both are empty if nothing is wrong.

    `command` does what is advised, for redis-cli; it is empty if no single command does.
    """

    level: FindingLevel
    text: str
    advice: str = ""
    why: str = ""
    command: str = ""

    def __str__(self) -> str:
        said = f"{self.text}: {self.why}" if self.why else self.text
        stop = "." if (self.advice or self.why) and said[-1:] not in ".!?:;" else ""
        line = f"{self.level.name.lower():8} {said}{stop} {self.advice}".rstrip()
        # Anyone can choose names in Redis: they must not move the cursor of the terminal or start a new line.
        return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)


def exit_status(findings: Iterable[DoctorFinding]) -> int:
    """Return 0 if all is OK, 1 with warnings, 2 with problems."""
    worst = max((finding.level for finding in findings), default=FindingLevel.OK)
    return {FindingLevel.WARNING: 1, FindingLevel.PROBLEM: 2}.get(worst, 0)


def ok_finding(text: str) -> DoctorFinding:
    """Return a finding that all is OK."""
    return DoctorFinding(FindingLevel.OK, text)


def note_finding(text: str, advice: str = "", *, why: str = "", command: str = "") -> DoctorFinding:
    """Return a finding for information."""
    return DoctorFinding(FindingLevel.NOTE, text, advice, why, command)


def warning_finding(text: str, advice: str = "", *, why: str = "", command: str = "") -> DoctorFinding:
    """Return a finding about a risk."""
    return DoctorFinding(FindingLevel.WARNING, text, advice, why, command)


def problem_finding(text: str, advice: str = "", *, why: str = "", command: str = "") -> DoctorFinding:
    """Return a finding about a failure."""
    return DoctorFinding(FindingLevel.PROBLEM, text, advice, why, command)
