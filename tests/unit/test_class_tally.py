"""Jobs of which some were looked at stand for all, in whole numbers, or for none."""

from __future__ import annotations

import random

from dashboard.backends.class_tally import GONE, MOST_UNKNOWN_RATIO, NONE, SOME, ClassTally, share_out
from dashboard.model import Quality


def test_what_was_looked_at_stands_for_all(seed: int) -> None:
    die = random.Random(seed)
    for _ in range(200):
        counts = [die.randrange(50) for _ in range(die.randrange(1, 9))]
        total = sum(counts) * die.randrange(1, 7) + die.randrange(5)
        shares = share_out(counts, total)
        assert sum(shares) == (total if any(counts) else 0)
        for count, share in zip(counts, shares, strict=True):
            assert abs(share - count * total / (sum(counts) or 1)) < 1 or not any(counts)
    tally = ClassTally()
    tally.add("a", 30, 0, [1.0] * 30)
    tally.add("b", 10, 5)
    classes, quality, reason = tally.classes_of(40, 5)
    assert (quality, reason) == (Quality.EXACT, None)
    assert tally.classes_of(40, 5, "trimmed")[1:] == (Quality.ESTIMATED, "trimmed")
    classes, quality, reason = tally.classes_of(4000, 50)
    assert [(one.job_class, one.completed, one.dead) for one in classes or ()] == [("a", 3000, 0), ("b", 1000, 50)]
    assert (quality, reason) == (Quality.ESTIMATED, SOME)


def test_jobs_of_unknown_class_make_all_unknown_unless_they_are_few() -> None:
    tally = ClassTally()
    assert tally.classes_of(0, 0) == ((), Quality.EXACT, None)
    assert tally.classes_of(7, 0) == (None, Quality.UNKNOWN, NONE)
    tally.add("a", 100, 0)
    tally.add_unknown(round(100 * MOST_UNKNOWN_RATIO))
    assert tally.classes_of(105, 0).quality is Quality.ESTIMATED
    # None of the dead was among those that were looked at.
    assert tally.classes_of(1000, 1).quality is Quality.ESTIMATED
    assert tally.classes_of(100, 10) == (None, Quality.UNKNOWN, NONE)
    tally.add_unknown()
    assert tally.classes_of(106, 0) == (None, Quality.UNKNOWN, GONE)
