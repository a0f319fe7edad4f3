"""Facts about jobs that every library words the same way, and what pages need to show the others in words.

The text of a fact is the value that the library stores; pages turn it into a duration, a time or yes and no.
"""

from __future__ import annotations

from collections.abc import Mapping

POSITION = "Position"
# The end of a label whose text is a number of seconds, or a JSON list of them.
IN_SECONDS = " (s)"
RESULT_RETENTION, FAILURE_RETENTION = f"Result retention{IN_SECONDS}", f"Failure retention{IN_SECONDS}"
RUNS_AFTER_FAILED_PARENT = "Runs even if a parent fails"
# Label -> the values that are not a number to the library, in words.
IN_WORDS: Mapping[str, Mapping[str, str]] = {
    RESULT_RETENTION: {"-1": "forever", "0": "not kept"},
    FAILURE_RETENTION: {"-1": "forever", "0": "not kept"},
    RUNS_AFTER_FAILED_PARENT: {"0": "no", "1": "yes"},
}


def position_fact(ahead: int) -> tuple[str, str]:
    """The position of a waiting job that starts after `ahead` others."""
    return POSITION, f"{ahead:,} ahead" if ahead else "next"
