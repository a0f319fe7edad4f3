"""Where the messages of some jobs stand: Celery has no index by id, so the lists are read from the end served next."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence

import msgspec
from redis.exceptions import ResponseError

from dashboard.backends.acting import Acted, Outcome, Pick
from dashboard.backends.celery import keys
from dashboard.backends.celery.asking import reason, refused
from dashboard.backends.celery.message import decode, digest, headers_of, job_id, taken
from dashboard.sources import Source

# How many messages of a queue, and how many unacknowledged ones, are looked through for one call.
LOOK_THROUGH, PER_READ = 20_000, 1000
# Between two reads a worker may have taken some: each read begins a little before the end of the last.
OVERLAP = 100
_ID = re.compile(rb'"id": ?"((?:[^"\\]|\\.)*)"')


class Found(msgspec.Struct, frozen=True):
    """A message: its bytes as they stand in Redis; in which step of the queue's lists and after how many others."""

    pick: Pick
    raw: bytes
    step: int = 0
    before: int = 0
    tag: bytes = b""  # its delivery tag, where a worker took it


class _Search:
    """The picks that are still looked for, by what tells them."""

    def __init__(self, picks: Sequence[Pick]) -> None:
        self._by_stamp: dict[str, deque[int]] = defaultdict(deque)
        self._by_id: dict[bytes, deque[int]] = defaultdict(deque)
        self._picks = picks
        self._ids: set[bytes] = set()
        self.found: dict[int, Found] = {}
        for n, pick in enumerate(picks):
            if pick.stamp is not None:
                self._by_stamp[pick.stamp].append(n)
            else:
                self._by_id[pick.id.encode("utf-8", "surrogateescape")].append(n)

    @property
    def done(self) -> bool:
        """Whether all were found."""
        return len(self.found) == len(self._picks)

    def offer(self, raw: bytes, step: int, before: int, tag: bytes = b"") -> None:
        """Look at one message."""
        mark = digest(raw)
        match = _ID.search(raw)
        name = match.group(1) if match else mark.encode()
        self._ids.add(name)
        waiting = self._by_stamp.get(mark)
        if not waiting and name in self._by_id:
            message = taken(raw)[0] if tag else decode(raw)
            waiting = self._by_id.get(job_id(raw, headers_of(message)).encode("utf-8", "surrogateescape"))
        if waiting:
            n = waiting.popleft()
            self.found[n] = Found(self._picks[n], raw, step, before, tag)

    def answers(self, *, whole: bool, gone: str) -> list[Found | Acted]:
        """A Found per pick, or why there is none."""
        return [self.found.get(n) or self._missing(pick, whole=whole, gone=gone) for n, pick in enumerate(self._picks)]

    def _missing(self, pick: Pick, *, whole: bool, gone: str) -> Acted:
        if pick.id.encode("utf-8", "surrogateescape") in self._ids:
            return Acted(id=pick.id, outcome=Outcome.CHANGED, detail="its message is not the one that was seen")
        if not whole:
            return refused(pick.id, f"it is not among the {LOOK_THROUGH} messages that are looked through for it")
        return Acted(id=pick.id, outcome=Outcome.GONE, detail=gone)


def waiting(broker: Source, place: keys.Place, picks: Sequence[Pick]) -> list[Found | Acted]:
    """The waiting messages of `picks`, in order; an Acted where there is none.

    Cost: 1 round trip, and 1 for each PER_READ messages that stand before the last of them, LOOK_THROUGH at most.
    """
    lists = place.lists()
    sizes = broker.batch([("LLEN", key) for key in lists])
    refusal = next((size for size in sizes if isinstance(size, ResponseError) and "WRONGTYPE" not in str(size)), None)
    if refusal is not None:
        return [refused(pick.id, reason(refusal)) for pick in picks]
    lengths = [size if isinstance(size, int) else 0 for size in sizes]
    search = _Search(picks)
    for step, before, raw in _messages(broker, lists, lengths):
        search.offer(raw, step, before)
        if search.done:
            break
    return search.answers(whole=sum(lengths) <= LOOK_THROUGH, gone="a worker was faster, or it was deleted")


def _messages(broker: Source, lists: Sequence[bytes], lengths: Sequence[int]) -> Iterator[tuple[int, int, bytes]]:
    """(step, how many stand before it in its list, message), in the order in which they would be served."""
    left = LOOK_THROUGH
    for step, (key, length) in enumerate(zip(lists, lengths, strict=True)):
        start = 0
        seen: set[bytes] = set()
        while start < length and left > 0:
            first = max(0, start - OVERLAP)
            reply = broker.batch([("LRANGE", key, -(start + PER_READ), -first - 1)])[0]
            raws = reply[::-1] if isinstance(reply, list) else []
            for n, raw in enumerate(raws):
                if first + n >= start or raw not in seen:
                    yield step, first + n, raw
            seen = set(raws[-2 * OVERLAP :])
            start += PER_READ
            left -= PER_READ


def unacknowledged(broker: Source, names: keys.Unacked, prefix: str, picks: Sequence[Pick]) -> list[Found | Acted]:
    """What workers hold of `picks`, in order; an Acted where there is none. `raw` is the entry of `unacked`.

    Cost: 1 round trip, and 1 for each PER_READ entries, LOOK_THROUGH at most.
    """
    search = _Search(picks)
    entries, index = names.keys(prefix)
    total = broker.batch([("ZCARD", index)])[0]
    if isinstance(total, ResponseError):
        return [refused(pick.id, reason(total)) for pick in picks]
    for start in range(0, min(total, LOOK_THROUGH), PER_READ):
        tags = broker.batch([("ZREVRANGE", index, start, start + PER_READ - 1)])[0]
        if not isinstance(tags, list) or not tags:
            break
        values = broker.batch([("HMGET", entries, *tags)])[0]
        for tag, raw in zip(tags, values if isinstance(values, list) else (), strict=False):
            if raw is not None:
                search.offer(raw, 0, 0, tag)
        if search.done:
            break
    return search.answers(whole=total <= LOOK_THROUGH, gone="no worker holds it any more")
