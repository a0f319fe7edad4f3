"""How long scripts keep a server busy, measured against a script of known work there: a slow machine slows both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis

# About 20 ms on a usual machine.
YARDSTICK = "for _ = 1, 40000 do redis.call('LLEN', KEYS[1]) end"
SCRIPTS = ("eval", "eval_ro", "evalsha", "evalsha_ro")


def _read_usage(client: redis.Redis) -> tuple[float, int]:
    """Processor time of the server in seconds, and how many scripts it has run."""
    cpu, commands = client.info("cpu"), client.info("commandstats")
    calls = sum(commands.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in SCRIPTS)
    return cpu["used_cpu_user"] + cpu["used_cpu_sys"], calls


def _measure_yardstick(client: redis.Redis) -> float:
    before_s, _ = _read_usage(client)
    client.eval(YARDSTICK, 1, "nothing here")
    return _read_usage(client)[0] - before_s


@contextmanager
def assert_short_scripts(client: redis.Redis, most: float) -> Iterator[None]:
    """Fail if the scripts within take more than this share of the time of YARDSTICK on average."""
    yardstick_s = _measure_yardstick(client)
    before_s, before = _read_usage(client)
    yield
    after_s, after = _read_usage(client)
    assert after > before, "no script has run"
    mean_s = (after_s - before_s) / (after - before)
    yardstick_s = max(yardstick_s, _measure_yardstick(client))
    assert mean_s < most * yardstick_s, f"{mean_s * 1000:.2f} ms, {mean_s / yardstick_s:.2f} of the yardstick"
