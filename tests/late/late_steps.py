"""Steps of browser tests that come late: a plugin of pytest, loaded by its name where this folder is in PYTHONPATH.

Each call of Playwright waits for up to TEST_LATE_STEPS_S seconds first, mostly for much less, as the process of a test
does on a busy machine. Between two steps a page then polls, samples are taken and rules fire: a test must not depend
on a state that only lasts until its next step. TEST_SEED seeds the waits.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Awaitable
from typing import Any

import pytest
from playwright._impl._sync_base import SyncBase  # what all calls pass through; no public name has that

MOST_S = float(os.environ["TEST_LATE_STEPS_S"])
TIMEOUT_S = 3600
_call = SyncBase._sync
_draw = random.Random(os.environ.get("TEST_SEED"))


def _call_late(page_or_other: SyncBase, awaitable: Awaitable[Any]) -> Any:
    time.sleep(_draw.random() ** 4 * MOST_S)
    return _call(page_or_other, awaitable)


setattr(SyncBase, "_sync", _call_late)  # noqa: B010 - a method, which mypy would not let us assign


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of thousands of steps get the time for them."""
    for item in items:
        item.add_marker(pytest.mark.timeout(TIMEOUT_S), append=False)
