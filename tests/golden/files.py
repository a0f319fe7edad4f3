"""The committed files, and the comparison with what was found."""

from __future__ import annotations

import difflib
import json
import operator
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
# Set: what is found is written instead of compared. (What begins with QUEUEDECK_ would be taken for a setting.)
WRITE = "WRITE_GOLDEN"
ON_PURPOSE = "python -m tests.golden.write"
SHOWN_LINES = 200


def _as_text(found: Any) -> str:
    return json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def same_as_committed(
    name: str,
    found: Any,
    fits: Callable[[Any, Any], bool] = operator.eq,
    unite: Callable[[Any, Any], Any] = lambda found, _: found,
) -> None:
    """Fail with a diff unless `found` fits what `<name>.json` says.

    Where writing is asked for, the file is left alone if `found` fits, and else holds what `unite` makes of both.
    """
    path = FOLDER / f"{name}.json"
    text = _as_text(found)
    committed = path.read_text() if path.exists() else ""
    if text == committed or (committed and fits(json.loads(text), json.loads(committed))):
        return
    if os.environ.get(WRITE):
        path.parent.mkdir(exist_ok=True)
        path.write_text(_as_text(unite(json.loads(text), json.loads(committed))) if committed else text)
        return
    lines = list(
        difflib.unified_diff(
            committed.splitlines(), text.splitlines(), f"{name}.json, as promised", "as it is now", lineterm="", n=6
        )
    )
    more = f"\n… and {len(lines) - SHOWN_LINES} more lines" if len(lines) > SHOWN_LINES else ""
    pytest.fail(
        "\n".join(lines[:SHOWN_LINES]) + f"{more}\n\nScripts of users depend on it. If the change is meant, run\n"
        f"    {ON_PURPOSE}\nand commit the file with a line in CHANGELOG.md.",
        pytrace=False,
    )
