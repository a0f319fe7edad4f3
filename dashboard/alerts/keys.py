"""Keys of the alerts in the store, all under the one hash tag, each with its bound."""

from __future__ import annotations

from ..store.redis_store import PREFIX

LIVE = f"{PREFIX}:live"  # set of the fingerprints of stored instances; at most MAX_LIVE
CHANGES = f"{PREFIX}:changes"  # string, one number: rises with every write of states
BORN = f"{PREFIX}:born"  # string, 16 characters: another one means that the data was lost or replaced
DURATIONS = f"{PREFIX}:memory"  # string, about 60 bytes a queue in trouble, 10 min to live
OBSERVATIONS = f"{PREFIX}:sights"  # string, at most about 2 kB a rule that one sample does not judge, 10 min to live
RULE_HISTORIES = f"{PREFIX}:hours"  # string, at most about 0.5 kB a line and 1,000 lines, 2 h to live
HEARTBEAT = f"{PREFIX}:heartbeat"  # hash of four fields, 1 day to live
EPISODES = f"{PREFIX}:episodes"  # stream of what began and ended, about 5 000 entries
RULES = f"{PREFIX}:rules"  # string, JSON of the rules made on the page; at most MAX_RULES_BYTES
SILENCES = f"{PREFIX}:silences"  # hash id -> JSON; at most MAX_SILENCES
ACKS = f"{PREFIX}:acks"  # hash fingerprint -> JSON; removed with the instance
UNSENT = f"{PREFIX}:unsent"  # zset of message ids by the ms of their making; none is older than 24 h
DEAD = f"{PREFIX}:dead"  # zset of given-up message ids by ms; at most MAX_DEAD
CHANNELS = f"{PREFIX}:channels"  # zset of channel ids by ms of the last look of a process that has them; 30 s to live
SENT = f"{PREFIX}:sent"  # stream, one entry an attempt, about 10 000

MAX_LIVE = 20_000
MAX_RULES_BYTES = 256 * 1024
MAX_SILENCES = 500
MAX_DEAD = 1000
MAX_UNNAMED = 20_000
UNNAMED_TTL_MS = 30 * 86_400_000


def instance_key(fp: str) -> str:
    """Hash `rev`, `body`, under 1 kB; removed when it is well again, 7 days to live after its last write."""
    return f"{PREFIX}:inst:{fp}"


def message_key(message_id: str) -> str:
    """Hash of one message for one channel, about 2 kB; 1 day to live once it is sent, 7 days once it is given up."""
    return f"{PREFIX}:msg:{message_id}"


def due_key(channel: str) -> str:
    """Zset of the ids that may be sent next on a channel, by ms: of each instance the oldest one only."""
    return f"{PREFIX}:due:{channel}"


def chain_key(channel: str, fp: str) -> str:
    """List of the unsent ids of one instance on one channel, oldest first: strict order is theirs."""
    return f"{PREFIX}:chain:{channel}:{fp}"


def unnamed_key(channel: str) -> str:
    """Zset of the episodes that a channel was told of as a count only, by ms; at most MAX_UNNAMED, 30 days to live."""
    return f"{PREFIX}:unnamed:{channel}"


def pace_key(channel: str) -> str:
    """String that lives as long as nothing may be sent on a channel that wants pauses."""
    return f"{PREFIX}:pace:{channel}"
