"""What `make soak` reads out of a report and writes into the document."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys

import pytest

from tests.soak import DOCUMENT, LATE_ENVIRON, Round, describe, read_counts, replace_section

REPORT = '<testsuites><testsuite errors="1" failures="2" skipped="1" tests="10"></testsuite></testsuites>'


def test_errors_are_counted_as_failures() -> None:
    assert read_counts(REPORT) == (6, 3, 1)


def test_a_section_is_replaced_and_the_rest_stays() -> None:
    document = "before\n<!-- soak:begin -->\nold\n<!-- soak:end -->\nafter\n"
    assert replace_section(document, "soak", "new\n") == "before\n<!-- soak:begin -->\nnew\n<!-- soak:end -->\nafter\n"


def test_a_document_without_the_section_is_refused() -> None:
    with pytest.raises(ValueError, match="soak:begin"):
        replace_section("<!-- soak:end -->", "soak", "new")


def test_the_document_has_a_place_for_it() -> None:
    assert "Last full run: 2026-01-02" in replace_section(
        DOCUMENT.read_text(encoding="utf-8"), "soak", describe([], datetime.date(2026, 1, 2))
    )


def test_each_round_is_a_row_with_its_seed() -> None:
    text = describe([Round(17, 50, 1, 0, 125.4)], datetime.date(2026, 1, 2))
    assert text.splitlines()[-1] == "| 17 | 50 | 1 | 0 | 2:05 |"


def test_steps_of_browser_tests_come_late_where_the_round_asks_for_it() -> None:
    shown = "import late_steps; from playwright.sync_api import Page; print(Page._sync.__module__)"
    ran = subprocess.run(
        [sys.executable, "-c", shown], env={**os.environ, **LATE_ENVIRON}, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "late_steps"


def test_servers_answer_late_where_the_round_asks_for_it() -> None:
    """It is loaded before the first line of a server."""
    shown = "import flask; print(flask.Flask.__call__.__module__)"
    ran = subprocess.run(
        [sys.executable, "-c", shown], env={**os.environ, **LATE_ENVIRON}, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "sitecustomize"
