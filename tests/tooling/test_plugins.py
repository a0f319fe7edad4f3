"""What our plugins for pytest add to a run: shown by running pytest on a file of a few lines."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT
from tests.quarantine import FILE, Quarantined, QuarantinePlugin, load_quarantine

RUNS = "def test_runs():\n    pass\n"
SKIPS = "import pytest\n\n@pytest.mark.skip(reason='why not')\ndef test_skips():\n    raise AssertionError\n"
SKIPS_THE_FILE = "import pytest\n\npytest.skip('all of it', allow_module_level=True)\n"
FAILS_AS_KNOWN = "import pytest\n\n@pytest.mark.xfail\ndef test_fails():\n    raise AssertionError\n"


# Fails in its first run only, with a process beside it that wrote something.
FAILS_ONCE = """
import sys
from pathlib import Path
from tests.processes import child
from tests.waiting import wait_until

def test_unlucky():
    flag = Path(__file__).with_name("ran")
    with child([sys.executable, "-uc", "print('words of the child'); import signal; signal.pause()"], name="p") as p:
        wait_until(lambda: "words" in p.read_log(), what="the words")
        if not flag.exists():
            flag.touch()
            raise AssertionError
"""
FAILS = "def test_broken():\n    raise AssertionError\n"
STEPS = "def test_steps(record_property):\n    record_property('interleavings', ['rq', 'retry', 12])\n"


def run(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    path = folder / "test_it.py"
    path.write_text(text)
    plugins = [part for name in ("plugins", "reporting", "quarantine") for part in ("-p", f"tests.{name}")]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, "-p", "no:cacheprovider", "--rootdir", str(folder)]
    return subprocess.run(
        [*command, *options, str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


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


@pytest.mark.parametrize("more", [(), ("-n", "2")], ids=["alone", "in parallel"])
def test_a_failed_test_runs_again_alone_and_the_run_fails_all_the_same(tmp_path: Path, more: tuple[str, ...]) -> None:
    done = run(tmp_path, FAILS_ONCE + FAILS, "--rerun-alone", *more)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "failed, then passed alone: test_it.py::test_unlucky" in done.stdout
    assert "failed, and failed alone: test_it.py::test_broken" in done.stdout


def test_a_failure_shows_what_its_processes_wrote(tmp_path: Path) -> None:
    done = run(tmp_path, FAILS_ONCE)
    assert "log of p" in done.stdout
    assert "words of the child" in done.stdout.partition("log of p")[2]


def test_the_summary_lists_slow_tests_and_interleavings(tmp_path: Path) -> None:
    done = run(tmp_path, STEPS + "".join(f"def test_{n}():\n    pass\n" for n in range(11)))
    assert "interleavings driven: 12" in done.stdout
    assert "slowest tests" in done.stdout


ENTRY = '[[quarantined]]\ntest = "test_it.py::test_broken"\nissue = 7\nsince = 2026-01-01\n'


def test_the_quarantine_of_this_checkout_can_be_read_and_names_tests_that_exist() -> None:
    for entry in load_quarantine(FILE.read_text()):
        path, _, name = entry.test.partition("::")
        assert f"def {name.partition('[')[0].rpartition('::')[2]}(" in (ROOT / path).read_text()


def test_an_entry_has_an_age_and_covers_all_parameters() -> None:
    (entry,) = load_quarantine(ENTRY)
    assert entry == Quarantined(test="test_it.py::test_broken", issue=7, since=datetime.date(2026, 1, 1))
    assert entry.age_days(datetime.date(2026, 1, 31)) == 30
    assert entry.matches("test_it.py::test_broken[one]")
    assert not entry.matches("test_it.py::test_broken_too")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (ENTRY.replace("issue = 7", "why = 7"), "fields"),
        (ENTRY.replace("issue = 7", 'issue = "7"'), "issue"),
        ("[settings]\n", "settings"),
    ],
)
def test_a_wrong_entry_is_refused(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        load_quarantine(text)


def test_a_quarantined_test_belongs_to_the_soak(request: pytest.FixtureRequest) -> None:
    (entry,) = load_quarantine(ENTRY.replace("test_it.py::test_broken", request.node.nodeid))
    assert request.node.get_closest_marker("soak") is None
    QuarantinePlugin([entry]).pytest_collection_modifyitems([request.node])
    assert request.node.get_closest_marker("soak") is not None
