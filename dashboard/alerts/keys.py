"""The alert keys in the store, all under one hash tag, each with its bound."""

from __future__ import annotations

from ..store.redis_store import PREFIX

LIVE = f"{PREFIX}:live"  # set of the fingerprints of stored alerts; at most MAX_LIVE
CHANGES = f"{PREFIX}:changes"  # string, one number: rises with every write of states
BORN = f"{PREFIX}:born"  # string, 16 characters: a different value means that the data was lost or replaced
DURATIONS = f"{PREFIX}:memory"  # string, about 60 bytes per queue in trouble, TTL 10 min
OBSERVATIONS = f"{PREFIX}:sights"  # string, at most about 2 kB per rule that needs several samples, TTL 10 min
RULE_HISTORIES = f"{PREFIX}:hours"  # string, at most about 0.5 kB per series and 1,000 series, TTL 2 h
HEARTBEAT = f"{PREFIX}:heartbeat"  # hash of four fields, TTL 1 day
EPISODES = f"{PREFIX}:episodes"  # stream of incidents that began or ended, about 5,000 entries
RULES = f"{PREFIX}:rules"  # string, JSON of the rules created on the page; at most MAX_RULES_BYTES
SILENCES = f"{PREFIX}:silences"  # hash id -> JSON; at most MAX_SILENCES
ACKS = f"{PREFIX}:acks"  # hash fingerprint -> JSON; removed with the alert
UNSENT = f"{PREFIX}:unsent"  # zset of message ids by creation time in ms; none is older than 24 h
DEAD = f"{PREFIX}:dead"  # zset of ids of failed (given-up) messages by ms; at most MAX_DEAD
CHANNELS = f"{PREFIX}:channels"  # zset of channel ids by ms of the last registration by a process; TTL 30 s
SENT = f"{PREFIX}:sent"  # stream, one entry per delivery attempt, about 10,000
COUNTERS = f"{PREFIX}:counters"  # hash `<what> <severity or channel>` -> number; at most MAX_COUNTERS, never expires

MAX_COUNTERS = 1000
MAX_LIVE = 20_000
MAX_RULES_BYTES = 256 * 1024
MAX_SILENCES = 500
MAX_DEAD = 1000
MAX_UNNAMED = 20_000
UNNAMED_TTL_MS = 30 * 86_400_000


def instance_key(fingerprint: str) -> str:
    """Hash `rev`, `body` of an alert, under 1 kB; removed once the alert is healthy, TTL 7 days after a write."""
    return f"{PREFIX}:inst:{fingerprint}"


def message_key(message_id: str) -> str:
    """Hash of one message for one channel, about 2 kB; TTL 1 day once it is sent, 7 days once it is given up."""
    return f"{PREFIX}:msg:{message_id}"


def due_key(channel: str) -> str:
    """Zset of the ids that can be sent next on a channel, by ms: only the oldest of each alert."""
    return f"{PREFIX}:due:{channel}"


def chain_key(channel: str, fingerprint: str) -> str:
    """List of the unsent ids of one alert on one channel, oldest first; they are sent strictly in this order."""
    return f"{PREFIX}:chain:{channel}:{fingerprint}"


def unnamed_key(channel: str) -> str:
    """Zset of the episodes that a channel only got as part of a count, by ms; at most MAX_UNNAMED, TTL 30 days."""
    return f"{PREFIX}:unnamed:{channel}"


def pace_key(channel: str) -> str:
    """String that exists while a channel with a minimum spacing must not be sent to."""
    return f"{PREFIX}:pace:{channel}"
