"""A skipped test fails the run: shown by running pytest on a file with one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import ROOT

RUNS = "def test_runs():\n    pass\n"
SKIPS = "import pytest\n\n@pytest.mark.skip(reason='why not')\ndef test_skips():\n    raise AssertionError\n"
SKIPS_THE_FILE = "import pytest\n\npytest.skip('all of it', allow_module_level=True)\n"
FAILS_AS_KNOWN = "import pytest\n\n@pytest.mark.xfail\ndef test_fails():\n    raise AssertionError\n"


def run(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    path = folder / "test_it.py"
    path.write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.plugins", "-p", "no:cacheprovider", str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("text", [RUNS + SKIPS, SKIPS_THE_FILE])
def test_a_skip_fails_the_run_and_is_counted(tmp_path: Path, text: str) -> None:
    done = run(tmp_path, text)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "skipped tests: 1" in done.stdout
    assert "test_it.py" in done.stdout


@pytest.mark.parametrize("text", [RUNS, RUNS + FAILS_AS_KNOWN])
def test_a_run_without_skips_passes_and_says_so(tmp_path: Path, text: str) -> None:
    done = run(tmp_path, text)
    assert done.returncode == pytest.ExitCode.OK, done.stdout
    assert "skipped tests: 0" in done.stdout
