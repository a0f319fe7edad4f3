"""Answers that come late: Python imports this module by itself where its folder is in PYTHONPATH.

Each request to a server waits for up to TEST_LATE_S seconds before and after it is handled, mostly for much less. Then
what a page asks for is no longer answered in the order in which it was asked: what a browser shows must not depend on
that. TEST_SEED seeds the waits.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterable
from typing import Any

from flask import Flask

MOST_S = float(os.environ["TEST_LATE_S"])
_answer = Flask.__call__
_draw = random.Random(os.environ.get("TEST_SEED"))


def _wait() -> None:
    # A test that calls the application in its own process has no other request on its way.
    if "pytest" not in sys.modules:
        time.sleep(_draw.random() ** 2 * MOST_S)


def _answer_late(app: Flask, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    _wait()
    answer = _answer(app, environ, start_response)
    _wait()
    return answer


setattr(Flask, "__call__", _answer_late)  # noqa: B010 - a method, which mypy would not let us assign
