"""`make soak`: races by luck, crowds, kills at random moments and load, for as long as one likes.

python -m tests.soak [--rounds N] [--seed N] [--processes N] [PATH …]

Each round has a seed of its own, printed before it runs; the same seed draws the same numbers again. A whole run (no
PATH) writes its date, seeds and counts into `docs/testing.md`. Exits 1 when a test failed in any round.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from dashboard import __version__
from tests.processes import ROOT

DOCUMENT = ROOT / "docs" / "testing.md"
SEED = "TEST_SEED"
LATE = ROOT / "tests" / "late"
LATE_ENVIRON = {
    "PYTHONPATH": os.pathsep.join((str(LATE), str(ROOT))),
    "TEST_LATE_S": "0.5",
    "TEST_LATE_STEPS_S": "2.5",
}


@dataclass(frozen=True)
class Round:
    """What came out of one round."""

    seed: int
    passed: int
    failed: int
    skipped: int
    seconds: float

    @property
    def row(self) -> str:
        """Its line in the table."""
        minutes, seconds = divmod(round(self.seconds), 60)
        return f"| {self.seed} | {self.passed} | {self.failed} | {self.skipped} | {minutes}:{seconds:02} |"


def run_round(seed: int, processes: int, paths: list[str]) -> Round:
    """Run all tests of the soak once, then those of the browser with answers and steps that come late; or `paths`."""
    print(f"seed {seed}: repeat with `make soak SEED={seed}`", flush=True)
    began = time.monotonic()
    runs = [run_tests(seed, processes, ["-m", "soak", *paths], {})]
    if not paths:
        runs.append(run_tests(seed, processes, ["-m", "not soak", "-p", "late_steps", "tests/e2e"], LATE_ENVIRON))
    passed, failed, skipped = (sum(counts) for counts in zip(*runs, strict=True))
    return Round(seed, passed, failed, skipped, time.monotonic() - began)


def run_tests(seed: int, processes: int, chosen: list[str], environ: dict[str, str]) -> tuple[int, int, int]:
    """(passed, failed, skipped) of a run of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", *chosen, "-n", str(processes), "--dist", "loadfile"]
        command += ["--no-loadscope-reorder", f"--junitxml={report}"]
        subprocess.run(command, cwd=ROOT, env={**os.environ, SEED: str(seed), **environ}, check=False)
        return read_counts(report.read_text()) if report.exists() else (0, 1, 0)  # pytest itself did not start


def read_counts(report: str) -> tuple[int, int, int]:
    """(passed, failed, skipped) of a JUnit report that our own pytest wrote; errors are failures."""
    (suite,) = ElementTree.fromstring(report).iter("testsuite")
    tests, failed, skipped = (int(suite.get(name, 0)) for name in ("tests", "failures", "skipped"))
    failed += int(suite.get("errors", 0))
    return tests - failed - skipped, failed, skipped


def replace_section(document: str, name: str, text: str) -> str:
    """`document` with `text` between its comments `name:begin` and `name:end`. Raises ValueError without them."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if document.find(begin) < 0 or document.find(end) < document.find(begin):
        raise ValueError(f"the document has no {begin} before a {end}")
    return f"{document[: document.index(begin)]}{begin}\n{text.strip()}\n{document[document.index(end) :]}"


def describe(rounds: list[Round], today: datetime.date) -> str:
    """The section of the document: when, on what, and what each round brought."""
    version = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    commit = version.stdout.strip() if re.fullmatch(r"[0-9a-f]+\s*", version.stdout) else "no commit"
    place = f"Python {platform.python_version()}, {os.cpu_count()} cores"
    head = f"Last full run: {today.isoformat()}, Queuedeck {__version__} at {commit}, {place}."
    table = ["| seed | passed | failed | skipped | min |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([head, "", *table, *(each.row for each in rounds)])


def main() -> int:
    """Run the rounds and write the document."""
    parser = argparse.ArgumentParser(description="Run the tests that need luck or much time.")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, help="of the first round; the next ones count up from it")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("paths", nargs="*", help="tests to run instead of all")
    options = parser.parse_args()
    first = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    rounds = [run_round(first + n, options.processes, options.paths) for n in range(options.rounds)]
    if not options.paths:
        today = datetime.datetime.now(datetime.UTC).date()
        text = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(replace_section(text, "soak", describe(rounds, today)), encoding="utf-8")
    return int(any(each.failed or each.skipped for each in rounds))


if __name__ == "__main__":
    sys.exit(main())
