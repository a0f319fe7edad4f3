"""`make cover`: which lines and branches of the package the tests of the gate run, by area.

python -m tests.cover [--processes N] [PATH …]

Processes that the tests start are measured, too. A whole run (no PATH) writes the table into `docs/testing.md`. Scripts
in Lua are not measured: Redis does not tell which of their lines it ran.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.processes import ROOT
from tests.soak import DOCUMENT, replace_section


def measure(processes: int, paths: list[str], folder: Path) -> dict[str, Any]:
    """The report of coverage.py on a run of the tests, which may fail."""
    environ = {**os.environ, "COVERAGE_FILE": str(folder / "data")}
    report = folder / "report.json"
    for command in (
        ["run", "-m", "pytest", "-q", "-n", str(processes), "--dist", "loadfile", *paths],
        ["combine"],
        ["json", "-o", str(report)],
    ):
        subprocess.run([sys.executable, "-m", "coverage", *command], cwd=ROOT, env=environ, check=False)
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found


def area_of(path: str) -> str:
    """The folder of the package in which a file lies, and the library for a backend; `dashboard` for its own files."""
    folders = Path(path).parts[1:-1]
    return "/".join(folders[: 2 if folders[:1] == ("backends",) else 1]) or "dashboard"


def describe(files: Mapping[str, Any], today: datetime.date) -> str:
    """The table of the document: of each area the share of lines and of branches that ran."""
    totals: dict[str, Counter[str]] = {}
    for path, found in files.items():
        totals.setdefault(area_of(path), Counter()).update(
            {name: found["summary"][name] for name in ("num_statements", "covered_lines")}
            | {name: found["summary"][name] for name in ("num_branches", "covered_branches")}
        )
    rows = [f"Measured on {today.isoformat()}.", "", "| area | lines | lines run | branches run |"]
    rows.append("| --- | --- | --- | --- |")
    for area, total in sorted(totals.items()):
        lines = _share(total["covered_lines"], total["num_statements"])
        branches = _share(total["covered_branches"], total["num_branches"])
        rows.append(f"| {area} | {total['num_statements']:,} | {lines} | {branches} |")
    return "\n".join(rows)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "–"


def main() -> int:
    """Measure, print the table, and write it into the document."""
    parser = argparse.ArgumentParser(description="Measure which lines and branches the tests run.")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("paths", nargs="*", help="tests to run instead of all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="queuedeck-cover-") as folder:
        report = measure(options.processes, options.paths, Path(folder))
    text = describe(report["files"], datetime.datetime.now(datetime.UTC).date())
    print(text)
    if not options.paths:
        document = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(replace_section(document, "coverage", text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
