"""Writes the history: only the leader does, in Queuedeck's own keys.

Each series has two values per tier: a tail, to which each closed slot is added, and blocks, into which a tail that grew
long is compressed. All writes check the lease, so a leader that was replaced changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..redact import masked_logger
from ..store.redis_store import LEAD, Store
from .coarsening import NEED, compact_records
from .columns import CLASS, SOURCE
from .encoding import decode_tail, encode_record, split_blocks
from .recorder import ClosedSlot
from .series_keys import (
    IDS,
    LONGEST_NAMES,
    MAX_SERIES,
    SeriesKey,
    StoredAs,
    allocated_bytes,
    blocks_key,
    importance,
    names_length,
    overhead_bytes,
    pack_key,
    parse_ids,
    tail_key,
    value_names,
)
from .tiers import DAY_S, QUARTERS, Tier, tiers_of

log = masked_logger(__name__)

# Values of a series that gets no more records expire this long after the time they are about.
SPARE_S = DAY_S
KEYS_A_SCRIPT = 300
# Tails longer than this are compressed. Classes are many, so their tails are shorter.
TAIL_BYTES = 2_000
CLASS_TAIL_BYTES = 500
NEEDY_TAIL_BYTES = 300  # where room is short
COMPACTIONS_A_TICK = 8
VISIT_EVERY_S = 6 * 3600
# While room is short: each series loses detail soon.
VISIT_IN_NEED_S = 1800
VISITS_A_TICK = 50
# A busy series takes at least about this much, however coarse it is: the budget has room for so many of them.
LEAST_SERIES_BYTES = 3_000
# Once there are so many of the possible series, further classes are left out, so that there is room for queues.
_CLASSES_SHARE = 0.75

# KEYS: lead, ids, tails, values. ARGV: the lease value; the number of series to list; the number of tails; the TTL of
# ids in ms; field and value for each of these series; for each tail what to add and its TTL in ms. Returns the number
# of series and the lengths of the tails; nothing if another process leads. The values are of new series, whose numbers
# can have been those of others before ids was lost. Each tail is set as a whole: APPEND would reserve twice its length.
_APPEND = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return nil end
local tails, place = tonumber(ARGV[3]), 5
for n = 3 + tails, #KEYS do redis.call('DEL', KEYS[n]) end
for _ = 1, tonumber(ARGV[2]) do
  redis.call('HSET', KEYS[2], ARGV[place], ARGV[place + 1])
  place = place + 2
end
redis.call('PEXPIRE', KEYS[2], ARGV[4])
local lengths = {redis.call('HLEN', KEYS[2])}
for n = 3, 2 + tails do
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

# KEYS: lead, ids, all values of a series. ARGV: the lease value; the field of the series; "1" if it is still sampled,
# "0" if not, "-" if there is no room for it; the TTL in ms of ids and of each value. Keeps the values of a sampled
# series; of another one, removes its field once they are gone. Returns whether the series is still stored.
_VISIT = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 1 end
redis.call('PEXPIRE', KEYS[2], ARGV[4])
local found = 0
for n = 3, #KEYS do
  if ARGV[3] == '1' then
    found = found + redis.call('PEXPIRE', KEYS[n], ARGV[n + 2])
  elseif ARGV[3] == '-' then
    redis.call('DEL', KEYS[n])
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
        self._most_series = min(MAX_SERIES, budget_bytes // LEAST_SERIES_BYTES)
        self._stored: dict[SeriesKey, StoredAs] = {}
        self._listed: set[SeriesKey] = set()  # series of which IDS is known to have the number
        self._numbered: set[SeriesKey] = set()  # those that got their number here, and are not listed yet
        self._surplus: list[tuple[SeriesKey, StoredAs]] = []  # what an earlier leader stored, but has no room
        self._tails: dict[tuple[SeriesKey, Tier], int] = {}  # memory of the tails
        self._values_bytes = self._tails_bytes = self._overhead_bytes = 0
        self._next_id = 1
        self._left_out = False
        self._unvisited: list[SeriesKey] = []
        self._visited_at: float | None = None
        self._due: dict[tuple[SeriesKey, Tier], None] = {}  # tails that are long enough to be compressed, oldest first

    @property
    def stored_bytes(self) -> int:
        """About how much memory the history takes, with what Redis needs for its keys."""
        return self._values_bytes + self._tails_bytes + self._overhead_bytes

    def id_of(self, key: SeriesKey) -> int:
        """The number under which a series is stored. Raises KeyError if it is not."""
        return self._stored[key].series_id

    def stored_keys(self) -> list[SeriesKey]:
        """All series that are stored."""
        return list(self._stored)

    @property
    def is_full(self) -> bool:
        """Whether the budget is used up: what is stored has to lose detail or age first."""
        return self.stored_bytes >= self._budget_bytes

    @property
    def _used_ratio(self) -> float:
        return self.stored_bytes / self._budget_bytes

    def load_series(self) -> None:
        """Learn what is stored, as a new leader. Raises BackendUnavailable, Forbidden. Cost: 1 round trip, of at most
        MAX_SERIES fields."""
        found = sorted(self._read_ids().items(), key=lambda item: importance(item[0]))
        self._stored, self._surplus = dict(found[: self._most_series]), found[self._most_series :]
        self._listed, self._numbered = set(self._stored), set()
        self._values_bytes = sum(stored.size_bytes for _, stored in found)
        self._overhead_bytes = sum(overhead_bytes(key) for key, _ in found)
        self._next_id = max((stored.series_id for _, stored in found), default=0) + 1
        self._tails, self._tails_bytes = {}, 0
        self._due.clear()
        self._unvisited.clear()

    def _read_ids(self) -> dict[SeriesKey, StoredAs]:
        (raw,) = self._store.read_keys(("HGETALL", IDS))
        return parse_ids(raw)

    def append_slots(self, lead: str, slots: Sequence[ClosedSlot]) -> bool:
        """Store closed slots; False if another process leads by now, and nothing more was stored.

        Series for which there is no room are left out. Raises BackendUnavailable, Forbidden. Cost: 1 round trip for
        each KEYS_A_SCRIPT tails.
        """
        self._add_series({slot.key for slot in slots} - self._stored.keys())
        added: dict[tuple[SeriesKey, Tier], bytes] = {}
        for key, tier, record in slots:
            if key in self._stored:
                added[key, tier] = added.get((key, tier), b"") + encode_record(key.kind, record)
        # That a source was sampled is stored last: whatever is not stored then is a gap, and not zero.
        wanted = sorted(added, key=lambda tail: tail[0].kind is SOURCE)
        return all(
            self._append(lead, wanted[place : place + KEYS_A_SCRIPT], added)
            for place in range(0, len(wanted), KEYS_A_SCRIPT)
        )

    def _add_series(self, keys: Iterable[SeriesKey]) -> None:
        for key in sorted(keys, key=lambda key: (importance(key), key[1:])):
            most = self._most_series if key.kind is not CLASS else int(self._most_series * _CLASSES_SHARE)
            if len(self._stored) >= most or names_length(key) > LONGEST_NAMES:
                if not self._left_out:
                    log.warning("some series are not recorded: there are too many, or their names are too long")
                self._left_out = True
                continue
            self._stored[key] = StoredAs(self._next_id, 0)
            self._numbered.add(key)
            self._overhead_bytes += overhead_bytes(key)
            self._next_id += 1

    def _append(
        self, lead: str, tails: Sequence[tuple[SeriesKey, Tier]], added: dict[tuple[SeriesKey, Tier], bytes]
    ) -> bool:
        news = list(dict.fromkeys(key for key, _ in tails if key not in self._listed))
        fields = [part for key in news for part in (pack_key(key), self._stored[key].text)]
        keys = [tail_key(tier.name, self._stored[key].series_id) for key, tier in tails]
        older = [name for key in news if key in self._numbered for name in value_names(key, self.id_of(key))]
        values = [part for key, tier in tails for part in (added[key, tier], ttl_ms(tier))]
        counts = len(news), len(keys), ttl_ms(QUARTERS)
        reply = self._store.run_script(_APPEND, (LEAD, IDS, *keys, *older), lead, *counts, *fields, *values)
        if reply is None:
            return False
        self._listed.update(news)
        self._numbered.difference_update(news)
        listed, *lengths = reply
        for tail, length in zip(tails, lengths, strict=True):
            self._note_tail(tail, length)
        if listed < len(self._listed):
            self._list_again()
        return True

    def _note_tail(self, tail: tuple[SeriesKey, Tier], length: int) -> None:
        size = allocated_bytes(length)
        self._tails_bytes += size - self._tails.get(tail, 0)
        self._tails[tail] = size
        most = CLASS_TAIL_BYTES if tail[0].kind is CLASS else TAIL_BYTES
        if length >= (NEEDY_TAIL_BYTES if self._used_ratio >= NEED else most):
            self._due[tail] = None

    def _list_again(self) -> None:
        """Some series are no longer in IDS, or the store was emptied: their numbers are stored again, with what they
        record next. Cost: 1 round trip."""
        lost = self._listed - self._read_ids().keys()
        log.warning("the history in the store lost %d of its series: recording continues", len(lost))
        self._listed -= lost
        for key in lost:
            self._resize(key, 0)

    def _resize(self, key: SeriesKey, size_bytes: int) -> None:
        self._values_bytes += size_bytes - self._stored[key].size_bytes
        self._stored[key] = StoredAs(self._stored[key].series_id, size_bytes)

    def compact(self, lead: str, now_s: float, most: int = COMPACTIONS_A_TICK) -> int:
        """Compress at most `most` long tails, dropping what is too old; the number of them.

        Raises BackendUnavailable, Forbidden. Cost: 2 round trips for each.
        """
        due = list(self._due)[:most]
        for key, tier in due:
            del self._due[key, tier]
            if key in self._stored:
                self._compact(lead, key, tier, now_s)
        return len(due)

    def visit_series(self, lead: str, now_s: float, is_sampled: Callable[[SeriesKey], bool]) -> None:
        """Keep what idle series have, and forget those that are gone; each series once every VISIT_EVERY_S, and more
        often while room is short: then each loses detail.

        An idle series writes nothing, so its values would expire. Raises BackendUnavailable, Forbidden. Cost: 1 round
        trip for each series that is due.
        """
        for key, stored in self._surplus[-VISITS_A_TICK:]:
            self._surplus.pop()
            self._values_bytes -= stored.size_bytes
            self._overhead_bytes -= overhead_bytes(key)
            self._visit(lead, key, stored.series_id, "-")
        in_need = self._used_ratio >= NEED
        if self._visited_at is None or now_s < self._visited_at:
            self._visited_at = now_s
        passed_s = now_s - self._visited_at
        due = int(len(self._stored) * passed_s / (VISIT_IN_NEED_S if in_need else VISIT_EVERY_S))
        if due:
            self._visited_at = now_s
        if not self._unvisited:
            self._unvisited = list(self._stored)
        for _ in range(min(due, len(self._unvisited), VISITS_A_TICK)):
            key = self._unvisited.pop()
            if key not in self._stored:
                continue
            if not self._visit(lead, key, self.id_of(key), "1" if is_sampled(key) else "0"):
                self._forget(key)
            elif in_need:
                self._due.update(dict.fromkeys((key, tier) for tier in tiers_of(key.kind)))

    def _visit(self, lead: str, key: SeriesKey, series_id: int, what: str) -> bool:
        names = value_names(key, series_id)
        ttls = [ttl for tier in tiers_of(key.kind) for ttl in (ttl_ms(tier), ttl_ms(tier))]
        field, ids_ttl = pack_key(key), ttl_ms(QUARTERS)
        return bool(self._store.run_script(_VISIT, (LEAD, IDS, *names), lead, field, what, ids_ttl, *ttls))

    def _forget(self, key: SeriesKey) -> None:
        self._resize(key, 0)
        self._overhead_bytes -= overhead_bytes(key)
        self._tails_bytes -= sum(self._tails.pop((key, tier), 0) for tier in tiers_of(key.kind))
        self._listed.discard(key)
        self._numbered.discard(key)
        del self._stored[key]

    def _compact(self, lead: str, key: SeriesKey, tier: Tier, now_s: float) -> None:
        series_id, size_bytes = self._stored[key]
        names = blocks_key(tier.name, series_id), tail_key(tier.name, series_id)
        raw_blocks, raw_tail = self._store.read_keys(*(("GET", name) for name in names))
        records = decode_tail(key.kind, raw_tail)
        whole = b"".join(compact_records(key.kind, tier, split_blocks(raw_blocks), records, self._used_ratio, now_s))
        size_bytes = max(0, size_bytes - allocated_bytes(len(raw_blocks or b""))) + allocated_bytes(len(whole))
        value = StoredAs(series_id, size_bytes).text
        arguments = len(raw_tail or b""), whole, ttl_ms(tier), pack_key(key), value
        if self._store.run_script(_COMPACT, (LEAD, IDS, *names), lead, *arguments):
            self._resize(key, size_bytes)
            self._note_tail((key, tier), 0)


def ttl_ms(tier: Tier) -> int:
    """How long the values of a series live that gets no more records."""
    return (tier.keep_s + SPARE_S) * 1000
