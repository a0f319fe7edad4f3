"""What something costs, in figures that do not depend on how fast the machine is or what else it does."""

from __future__ import annotations

import gc
import re
import sys
import time
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any


def calls_of(function: Callable[[], object]) -> int:
    """How many functions are called while it runs, those of C included."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    former = sys.getprofile()
    # What earlier tests left behind must not be cleared away while it is counted: that calls functions, too.
    gc.collect()
    gc.disable()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(former)
        gc.enable()
    return count


def peak_bytes_of(function: Callable[[], object]) -> int:
    """How much memory of Python it holds at most while it runs."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def units_of(function: Callable[[], object], *, enough: float = 0.0) -> float:
    """Its processor time in units: one is what a plain regular expression needs for 100 kB, here and now.

    For what counts no calls, as regular expressions do. The least of five measurements, or the first one that is no
    more than `enough`.
    """
    text, pattern = "order 17 of anna for 9 " * 4500, re.compile(r"\d+")
    least = float("inf")
    for _ in range(5):
        unit_s = _seconds_of(lambda: pattern.sub("<n>", text))
        least = min(least, _seconds_of(function) / unit_s)
        if least <= enough:
            break
    return least


def _seconds_of(function: Callable[[], object]) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began
