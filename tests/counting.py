"""Cost of a function, in units that do not depend on the speed or load of the machine."""

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
    """The number of function calls while it runs, including functions in C."""
    count = 0

    def count_call(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    former = sys.getprofile()
    # Garbage of earlier tests must not be collected while calls are counted: that calls functions as well.
    gc.collect()
    gc.disable()
    sys.setprofile(count_call)
    try:
        function()
    finally:
        sys.setprofile(former)
        gc.enable()
    return count


def peak_bytes_of(function: Callable[[], object]) -> int:
    """The peak of Python's memory while it runs, in bytes."""
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
