"""`make mutants`: removes one guard of the product after the other, and sees that a test fails each time.

python -m tests.mutants.run [--area AREA] [--processes N] [ID …]

Each mutant is applied to a copy of the checkout, never to the checkout itself. Prints a line per mutant, and exits 1
when one survived or its tests could not run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.mutants.catalogue import Mutant, faults, load_mutants
from tests.processes import ROOT

COPIED = ("dashboard", "templates", "static", "tests", "docs", "pyproject.toml", "wsgi.py")
COPIED += ("README.md", "CHANGELOG.md", "Makefile")
CAUGHT, SURVIVED, BROKEN = "caught", "SURVIVED", "BROKEN"


def make_copy(folder: Path) -> Path:
    """A copy of what the tests need, with the Node packages of the checkout."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("node_modules", "__pycache__")
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    for packages in [*ROOT.glob("tests/workloads/*/node_modules"), *ROOT.glob("dashboard/demo/*/node_modules")]:
        (folder / packages.relative_to(ROOT)).symlink_to(packages)
    return folder


def run_tests(root: Path, tests: Sequence[str]) -> tuple[int, str]:
    """(pytest's exit code, its output) of the tests in a copy."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environ = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout[-4000:] + done.stderr[-2000:]


def imported_from(root: Path) -> str:
    """The file from which a process in the copy imports the package."""
    command = [sys.executable, "-c", "import dashboard; print(dashboard.__file__)"]
    environ = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=True).stdout.strip()


def judge(mutant: Mutant, root: Path, passing: dict[tuple[str, ...], bool], lock: threading.Lock) -> tuple[str, str]:
    """(CAUGHT, SURVIVED or BROKEN, the output where it is BROKEN). The tests must pass without the mutant."""
    with lock:
        known = passing.get(mutant.tests)
    if known is None:
        code, output = run_tests(root, mutant.tests)
        with lock:
            passing[mutant.tests] = known = code == 0
        if not known:
            return BROKEN, output
    before = mutant.apply(root)
    try:
        code, output = run_tests(root, mutant.tests)
    finally:
        (root / mutant.file).write_text(before, encoding="utf-8")
    return {0: (SURVIVED, ""), 1: (CAUGHT, "")}.get(code, (BROKEN, output)) if known else (BROKEN, "fails unchanged")


def main() -> int:
    """Try the mutants that were asked for."""
    parser = argparse.ArgumentParser(description="Remove guards of the product and see that tests fail.")
    parser.add_argument("--area")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("ids", nargs="*")
    options = parser.parse_args()
    mutants = [
        each
        for each in load_mutants()
        if options.area in (None, each.area) and (not options.ids or each.id in options.ids)
    ]
    wrong = [fault for each in mutants for fault in faults(each)]
    if wrong or not mutants:
        print("\n".join(wrong or ["there are no such mutants"]))
        return 2
    passing: dict[tuple[str, ...], bool] = {}
    lock = threading.Lock()
    results: list[str] = []
    with tempfile.TemporaryDirectory(prefix="queuedeck-mutants-") as folder:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(options.processes):
            path = Path(folder, str(number))
            path.mkdir()
            copy = make_copy(path)
            assert imported_from(copy).startswith(str(copy)), imported_from(copy)
            copies.put(copy)

        def attempt(mutant: Mutant) -> None:
            began = time.monotonic()
            copy = copies.get()
            try:
                verdict, output = judge(mutant, copy, passing, lock)
            finally:
                copies.put(copy)
            with lock:
                results.append(verdict)
                seconds = time.monotonic() - began
                print(f"{verdict:<9} {seconds:6.1f} s  {mutant.area}/{mutant.id}: {mutant.why}", flush=True)
                if output:
                    print(output, flush=True)

        with ThreadPoolExecutor(options.processes) as pool:
            list(pool.map(attempt, mutants))
    print(f"{len(mutants)} mutants: {', '.join(f'{results.count(v)} {v}' for v in (CAUGHT, SURVIVED, BROKEN))}")
    return int(results.count(CAUGHT) < len(mutants))


if __name__ == "__main__":
    sys.exit(main())
