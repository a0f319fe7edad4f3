"""What `make cover` makes of the report of coverage.py."""

from __future__ import annotations

import datetime

from tests.cover import area_of, describe
from tests.soak import DOCUMENT, replace_section


def test_files_belong_to_their_folder_and_backends_to_their_library() -> None:
    assert area_of("dashboard/errors.py") == "dashboard"
    assert area_of("dashboard/actions/bulk/runner.py") == "actions"
    assert area_of("dashboard/backends/base.py") == "backends"
    assert area_of("dashboard/backends/rq/lua/__init__.py") == "backends/rq"


def test_the_shares_of_an_area_are_those_of_all_its_files() -> None:
    def file(lines: int, run: int, branches: int, taken: int) -> dict[str, dict[str, int]]:
        names = ("num_statements", "covered_lines", "num_branches", "covered_branches")
        return {"summary": dict(zip(names, (lines, run, branches, taken), strict=True))}

    files = {"dashboard/actions/a.py": file(10, 10, 0, 0), "dashboard/actions/b.py": file(30, 20, 4, 1)}
    text = describe(files, datetime.date(2026, 1, 2))
    assert text.splitlines()[-1] == "| actions | 40 | 75.0% | 25.0% |"


def test_the_document_has_a_place_for_it() -> None:
    assert "new table" in replace_section(DOCUMENT.read_text(encoding="utf-8"), "coverage", "new table")
