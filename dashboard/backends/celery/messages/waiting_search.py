"""The search for one waiting job: Celery has no index by id, so the messages of its queue are searched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ....sources.source import Argument, Source, text
from ...base import SCAN_BYTES, SCAN_ROWS
from ...bounded_reads import read_plainly
from ...lua_reads import Scripts
from .. import keys
from ..job_decoding import NAMELESS, BoundedMessage, cut_of, wrapped_forms

# How far from the head (the end that is served next) a queue's lists are searched for one job. One script call reads so
# many that the server is busy for a few ms. Without scripts, messages are transferred: LOOK_AT_PLAIN applies then.
LOOK_AT_MOST = 500_000
LOOK_AT_PLAIN = 5000


class WaitingJobSearch:
    """A search for one waiting job in the lists of its queue, in steps that keep the server busy for a few ms."""

    def __init__(self, broker: Source, scripts: Scripts, place: keys.QueueLocation, wanted: str) -> None:
        self._broker, self._scripts = broker, scripts
        self._lists = place.list_keys() if place.queue is not None else []
        self._after = [0] * len(self._lists)
        self._sizes = [1] * len(self._lists)  # until they are known
        self.wanted = wanted
        # The id as written in the message's JSON: a cheap check before a message is decoded.
        self._written = {
            json.dumps(wanted)[1:-1].encode(),
            json.dumps(wanted, ensure_ascii=False)[1:-1].encode("utf-8", "replace"),
        }
        # In protocol 1 it is in the base64 body; some clients give the message a different correlation id.
        self._written |= {form for written in self._written for form in wrapped_forms(written)}
        self._nameless = wanted.startswith(NAMELESS)  # the message does not contain its digest

    @property
    def has_more(self) -> bool:
        """Whether there are messages that can still be searched."""
        return bool(self._open_lists)

    @property
    def reached(self) -> int:
        """How many messages of the most searched list were read."""
        return max(self._after, default=0)

    @property
    def _open_lists(self) -> list[int]:
        return [n for n, size in enumerate(self._sizes) if self._after[n] < min(size, LOOK_AT_MOST)]

    def search_next(self) -> list[tuple[BoundedMessage, int]]:
        """Return the next messages that may be the job, each with how many are ahead of it. Cost: 1 round trip."""
        todo = self._open_lists
        if not todo:
            return []
        sought: tuple[Argument, ...] = ("text", *sorted(self._written))
        if self._nameless:
            sought = ("stamp", self.wanted.removeprefix(NAMELESS))
        calls: list[Sequence[Argument]] = [
            (self._lists[n], self._after[n], SCAN_ROWS, SCAN_BYTES // len(todo), *sought) for n in todo
        ]
        answered = self._scripts.run(keys.load_script("find"), calls)
        if answered is None:
            return self._search_without_lua()
        found: list[tuple[int, BoundedMessage, int]] = []
        for n, reply in zip(todo, answered[0], strict=True):
            answer: list[Any] = reply if isinstance(reply, list) else [0, 0, 0]
            self._sizes[n], self._after[n] = answer[0], max(answer[1], self._after[n] + 1)
            found += [(n, cut, place) for cut, place in parse_found(answer)]
        return [(cut, sum(self._sizes[:n]) + place) for n, cut, place in found]

    def _search_without_lua(self) -> list[tuple[BoundedMessage, int]]:
        """Like `search_next`, in a single step and without scripts. Cost: that of `read_plainly`, for each list."""
        found: list[tuple[BoundedMessage, int]] = []
        before = 0
        for n, key in enumerate(self._lists):
            count = 0
            for member in read_plainly(self._broker, key, "list", 0, LOOK_AT_PLAIN):
                count += 1
                if self._nameless or any(form in member.raw for form in self._written):
                    cut = cut_of(member.raw)
                    if not self._nameless or cut.mark == self.wanted:
                        found.append((cut, before + member.place))
            before += count
            self._sizes[n] = self._after[n] = count
        return found


def parse_found(reply: Sequence[Any]) -> list[tuple[BoundedMessage, int]]:
    """Return the messages in a reply of `find.lua`, each with how many are ahead of it."""
    return [
        (BoundedMessage(raw, length, f"{NAMELESS}{text(version)}") if version else cut_of(raw), place)
        for raw, length, version, place in reply[3:]
    ]
