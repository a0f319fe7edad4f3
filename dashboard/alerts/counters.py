"""Counters of alerts and notifications, which only grow. The scripts that write the facts count them, too, so that a
retry after a lost reply counts nothing twice, and every process reads the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..store.redis_store import Store
from . import keys
from .rules.rule import Severity
from .stored_values import decode_text, parse_count, parse_pairs

# For scripts that count: adds to a field of the hash `key`, which holds at most MAX_COUNTERS.
COUNT = f"""local function count(key, field, more)
  if more > 0 and (redis.call('HEXISTS', key, field) == 1 or redis.call('HLEN', key) < {keys.MAX_COUNTERS}) then
    add(key, field, more)
  end
end
"""


@dataclass(frozen=True, slots=True)
class AlertCounts:
    """How many alerts have begun to fire, by severity, and how many messages each channel was sent (`sent`), was never
    sent (`failed`: given up), and is to be sent again after an attempt that failed (`retried`)."""

    fired: dict[str, int]
    sent: dict[str, int]
    failed: dict[str, int]
    retried: dict[str, int]


class AlertCounters:
    """Reads the counters. Thread-safe."""

    def __init__(self, store: Store, channels: Iterable[str]) -> None:
        """`channels`: the ids of those that count 0 until their first message."""
        self._store = store
        self._channels = tuple(channels)

    def read_counts(self) -> AlertCounts:
        """The counts since the store was created. Raises BackendUnavailable, Forbidden. Cost: 1 round trip."""
        (raw,) = self._store.read_keys(("HGETALL", keys.COUNTERS))
        counts = AlertCounts(
            dict.fromkeys((severity.value for severity in Severity), 0),
            *(dict.fromkeys(self._channels, 0) for _ in range(3)),
        )
        known = {"fired": counts.fired, "sent": counts.sent, "dead": counts.failed, "retried": counts.retried}
        for field, count in parse_pairs(raw).items():
            kind, _, name = decode_text(field).partition(" ")
            if kind in known and name:
                known[kind][name] = parse_count(count)
        return counts
