"""A sample of the key space: the keys of a few steps of SCAN, which goes through it in the order of hashes."""

from __future__ import annotations

from typing import NamedTuple

from .limited_reader import LimitedReader

STEPS, KEYS_PER_STEP = 5, 1000


class KeySample(NamedTuple):
    """`keys`: as good as random ones; all of them if `is_complete`. `population`: how many there are in all."""

    keys: tuple[bytes, ...]
    population: int
    is_complete: bool


def read_key_sample(reader: LimitedReader) -> KeySample:
    """About STEPS times KEYS_PER_STEP keys; fewer if SCAN is not permitted or the budget is used up.

    Raises BackendUnavailable. Cost: STEPS + 1 round trips.
    """
    keys: dict[bytes, None] = {}
    complete = False
    shares = reader.scan_shares(STEPS)
    for cursor, steps in shares:
        for _ in range(steps):
            (reply,) = reader.read([("SCAN", cursor, "COUNT", KEYS_PER_STEP)])
            if not isinstance(reply, list):
                break
            cursor = int(reply[0])
            keys.update(dict.fromkeys(reply[1]))
            if cursor == 0:
                complete = len(shares) == 1
                break
    (size,) = reader.read([("DBSIZE",)])
    population = size if isinstance(size, int) and not complete else len(keys)
    return KeySample(tuple(keys), max(population, len(keys)), complete)
