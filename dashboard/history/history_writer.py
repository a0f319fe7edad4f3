"""Writes the history: only the leader does, in Queuedeck's own keys.

Each series has two values per tier: a tail, to which each closed slot is added, and blocks, into which a tail that grew
long is compressed. All writes check the lease, so a leader that was replaced changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..redact import masked_logger
from ..store.redis_store import LEAD, Store
from .coarsening import Detail, coarsen_block, detail_for
from .columns import CLASS, Record, SeriesKind
from .encoding import Block, decode_block, decode_tail, encode_block, encode_record, sorted_records, split_blocks
from .recorder import ClosedSlot
from .series_keys import IDS, MAX_SERIES, SeriesKey, StoredAs, blocks_key, pack_key, parse_ids, tail_key
from .tiers import DAY_S, Tier, tiers_of

log = masked_logger(__name__)

# Values of a series that gets no more records expire this long after the time they are about.
SPARE_S = DAY_S
KEYS_A_SCRIPT = 300
# Tails longer than this are compressed. Classes are many, so their tails are shorter.
TAIL_BYTES = 2_000
CLASS_TAIL_BYTES = 500
# A new block takes in the one before while it holds fewer records.
SMALL_BLOCK = 256
COMPACTIONS_A_TICK = 8
COARSENED_AT_ONCE = 2
VISIT_EVERY_S = 6 * 3600
VISITS_A_TICK = 50
# About what Redis needs for the keys of a series besides their values.
KEY_BYTES = 600

# KEYS: lead, ids, tails. ARGV: the lease value; the number of new series; field and value for each; for each tail what
# to add and its TTL in ms. Returns the number of series and the lengths of the tails; nothing if another process leads.
# Each tail is set as a whole: APPEND would reserve twice its length.
_APPEND = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return nil end
local place = 3
for _ = 1, tonumber(ARGV[2]) do
  redis.call('HSET', KEYS[2], ARGV[place], ARGV[place + 1])
  place = place + 2
end
local lengths = {redis.call('HLEN', KEYS[2])}
for n = 3, #KEYS do
  local whole = (redis.call('GET', KEYS[n]) or '') .. ARGV[place]
  redis.call('SET', KEYS[n], whole, 'PX', ARGV[place + 1])
  lengths[#lengths + 1] = #whole
  place = place + 2
end
return lengths
"""

# KEYS: lead, ids, blocks, tail. ARGV: the lease value; the length of the tail that is in the new blocks; these blocks;
# their TTL in ms; field and value of the series. Returns 1; 0 if another process leads or the tail has changed.
_COMPACT = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if redis.call('STRLEN', KEYS[4]) ~= tonumber(ARGV[2]) then return 0 end
if ARGV[3] == '' then redis.call('DEL', KEYS[3]) else redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4]) end
redis.call('DEL', KEYS[4])
redis.call('HSET', KEYS[2], ARGV[5], ARGV[6])
return 1
"""

# KEYS: lead, ids, all values of a series. ARGV: the lease value; the field of the series; "1" if it is still sampled;
# the TTL in ms of each value. Keeps the values of a sampled series; of another one, removes its field once they are
# gone. Returns whether the series is still stored.
_VISIT = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 1 end
local found = 0
for n = 3, #KEYS do
  if ARGV[3] == '1' then
    found = found + redis.call('PEXPIRE', KEYS[n], ARGV[n + 1])
  else
    found = found + redis.call('EXISTS', KEYS[n])
  end
end
if found > 0 or ARGV[3] == '1' then return 1 end
redis.call('HDEL', KEYS[2], ARGV[2])
return 0
"""


class HistoryWriter:
    """Stores the records of one leader. Not thread-safe."""

    def __init__(self, store: Store, budget_bytes: int) -> None:
        self._store = store
        self._budget_bytes = budget_bytes
        self._stored: dict[SeriesKey, StoredAs] = {}
        self._total_bytes = 0
        self._next_id = 1
        self._unvisited: list[SeriesKey] = []
        self._visited_at: float | None = None
        self._due: dict[tuple[SeriesKey, Tier], None] = {}  # tails that are long enough to be compressed, oldest first

    @property
    def stored_bytes(self) -> int:
        """About how much memory the history takes, with what Redis needs for its keys."""
        return self._total_bytes + KEY_BYTES * len(self._stored)

    def id_of(self, key: SeriesKey) -> int:
        """The number under which a series is stored. Raises KeyError if it is not."""
        return self._stored[key].series_id

    @property
    def is_full(self) -> bool:
        """Whether the budget is used up: what is stored has to lose detail or age first."""
        return self.stored_bytes >= self._budget_bytes

    def load_series(self) -> None:
        """Learn what is stored, as a new leader. Raises BackendUnavailable, Forbidden. Cost: 1 round trip, of at most
        MAX_SERIES fields."""
        (raw,) = self._store.read_keys(("HGETALL", IDS))
        self._stored = parse_ids(raw)
        self._total_bytes = sum(stored.size_bytes for stored in self._stored.values())
        self._next_id = max((stored.series_id for stored in self._stored.values()), default=0) + 1
        self._due.clear()

    def append_slots(self, lead: str, slots: Sequence[ClosedSlot]) -> bool:
        """Store closed slots; False if another process leads by now, and nothing more was stored.

        Series beyond MAX_SERIES are left out. Raises BackendUnavailable, Forbidden. Cost: 1 round trip for each
        KEYS_A_SCRIPT tails.
        """
        added: dict[tuple[SeriesKey, Tier], bytes] = {}
        for key, tier, record in slots:
            if key in self._stored or len(self._stored) < MAX_SERIES:
                added[key, tier] = added.get((key, tier), b"") + encode_record(key.kind, record)
                self._stored.setdefault(key, StoredAs(0, 0))
        wanted = list(added)
        return all(
            self._append(lead, wanted[place : place + KEYS_A_SCRIPT], added)
            for place in range(0, len(wanted), KEYS_A_SCRIPT)
        )

    def _append(
        self, lead: str, tails: Sequence[tuple[SeriesKey, Tier]], added: dict[tuple[SeriesKey, Tier], bytes]
    ) -> bool:
        news: list[Any] = []
        for key in dict.fromkeys(key for key, _ in tails):
            if not self._stored[key].series_id:
                self._stored[key] = StoredAs(self._next_id, 0)
                self._next_id += 1
                news += [pack_key(key), _value_of(self._stored[key])]
        keys = [tail_key(tier.name, self._stored[key].series_id) for key, tier in tails]
        values = [part for key, tier in tails for part in (added[key, tier], _ttl_ms(tier))]
        reply = self._store.run_script(_APPEND, (LEAD, IDS, *keys), lead, len(news) // 2, *news, *values)
        if reply is None:
            return False
        listed, *lengths = reply
        for (key, tier), length in zip(tails, lengths, strict=True):
            if length >= (CLASS_TAIL_BYTES if key.kind is CLASS else TAIL_BYTES):
                self._due[key, tier] = None
        if listed < sum(1 for stored in self._stored.values() if stored.series_id):
            self._forget_series()
        return True

    def _forget_series(self) -> None:
        """Start again under other numbers: the store was emptied, or lost some series."""
        log.warning("the history in the store lost series: recording starts again for all of them")
        self._stored, self._due, self._total_bytes = {}, {}, 0

    def compact(self, lead: str, now_s: float, most: int = COMPACTIONS_A_TICK) -> int:
        """Compress at most `most` long tails, dropping what is too old; the number of them.

        Raises BackendUnavailable, Forbidden. Cost: 2 round trips for each.
        """
        due = list(self._due)[:most]
        for key, tier in due:
            del self._due[key, tier]
            self._compact(lead, key, tier, now_s)
        return len(due)

    def visit_series(self, lead: str, now_s: float, is_sampled: Callable[[SeriesKey], bool]) -> None:
        """Keep what idle series have, and forget those that are gone; each series once every VISIT_EVERY_S.

        An idle series writes nothing, so its values would expire. Raises BackendUnavailable, Forbidden. Cost: 1 round
        trip for each series that is due.
        """
        passed_s = 0.0 if self._visited_at is None else max(0.0, now_s - self._visited_at)
        due = int(len(self._stored) * passed_s / VISIT_EVERY_S)
        if due or self._visited_at is None:
            self._visited_at = now_s
        if not self._unvisited:
            self._unvisited = list(self._stored)
        for _ in range(min(due, len(self._unvisited), VISITS_A_TICK)):
            key = self._unvisited.pop()
            if key in self._stored and self._stored[key].series_id:
                self._visit(lead, key, is_sampled=is_sampled(key))

    def _visit(self, lead: str, key: SeriesKey, *, is_sampled: bool) -> None:
        series_id = self._stored[key].series_id
        tiers = tiers_of(key.kind)
        names = [name(tier.name, series_id) for tier in tiers for name in (blocks_key, tail_key)]
        ttls = [ttl for tier in tiers for ttl in (_ttl_ms(tier), _ttl_ms(tier))]
        flag = "1" if is_sampled else "0"
        if not self._store.run_script(_VISIT, (LEAD, IDS, *names), lead, pack_key(key), flag, *ttls):
            self._total_bytes -= self._stored.pop(key).size_bytes

    def _compact(self, lead: str, key: SeriesKey, tier: Tier, now_s: float) -> None:
        series_id, size_bytes = self._stored[key]
        names = blocks_key(tier.name, series_id), tail_key(tier.name, series_id)
        raw_blocks, raw_tail = self._store.read_keys(*(("GET", name) for name in names))
        detail = detail_for(self.stored_bytes / self._budget_bytes)
        records = sorted_records(key.kind, decode_tail(key.kind, raw_tail))
        kept = [block for block in split_blocks(raw_blocks) if block.kind is key.kind]
        whole = b"".join(_compacted(key.kind, tier, kept, records, detail, now_s))
        size_bytes = max(0, size_bytes - len(raw_blocks or b"")) + len(whole)
        arguments = (
            len(raw_tail or b""),
            whole,
            _ttl_ms(tier),
            pack_key(key),
            _value_of(StoredAs(series_id, size_bytes)),
        )
        if self._store.run_script(_COMPACT, (LEAD, IDS, *names), lead, *arguments):
            self._total_bytes += size_bytes - self._stored[key].size_bytes
            self._stored[key] = StoredAs(series_id, size_bytes)


def _compacted(
    kind: SeriesKind, tier: Tier, blocks: Sequence[Block], records: list[Record], detail: Detail, now_s: float
) -> Iterable[bytes]:
    """The blocks of a series once the records of its tail are in one."""
    oldest_s = now_s - tier.keep_s
    kept = [block for block in blocks if block.last_s >= oldest_s]
    if not kept and not records and blocks:
        kept = [blocks[-1]]  # its last record holds until now
    if kept and records and kept[-1].count < SMALL_BLOCK and kept[-1].step_s == tier.step_s == kept[-1].span_s:
        records = sorted_records(kind, [*decode_block(kept.pop()), *records])
    changed = 0
    for block in kept:
        coarser = coarsen_block(block, tier, detail, now_s) if changed < COARSENED_AT_ONCE else None
        changed += coarser is not None
        yield block.raw if coarser is None else coarser
    if records:
        yield encode_block(kind, records, tier.step_s, tier.step_s)


def _ttl_ms(tier: Tier) -> int:
    return (tier.keep_s + SPARE_S) * 1000


def _value_of(stored: StoredAs) -> str:
    return f"{stored.series_id} {stored.size_bytes}"
