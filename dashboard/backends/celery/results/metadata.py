"""What is known about the results of each broker besides the index: their key prefixes, and what is missing.

The process that maintains the index writes it; all others read it from Queuedeck's own keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from redis.exceptions import ResponseError

from ....clock import monotonic_s
from ....model import State
from ....sources.source import Command, Reply, Source, text
from ...payloads.decoding import loads_dict
from .. import keys

# If there are more prefixes, those with the most recent results count.
MAX_PREFIXES = 20
TTL_S = 7 * 86_400
# How long until what has not changed is written again.
REWRITE_AFTER_S = 1800.0


class ResultsMetadata(msgspec.Struct):
    """For one broker prefix: result key prefixes, newest last; states with more records than the index has room for;
    whether there are records that cannot be listed because their status is unreadable or their id is too long.
    """

    prefixes: tuple[str, ...] = ()
    capped: frozenset[State] = frozenset()
    unlisted: bool = False

    @property
    def seen(self) -> bool:
        """Whether any result was ever seen."""
        return bool(self.prefixes)


NOTHING = ResultsMetadata()


def with_prefix(known: ResultsMetadata, prefix: str) -> ResultsMetadata:
    """Return `known`, with `prefix` as the newest of the result prefixes."""
    if known.prefixes[-1:] == (prefix,):
        return known
    others = tuple(each for each in known.prefixes if each != prefix)
    return msgspec.structs.replace(known, prefixes=(*others, prefix)[-MAX_PREFIXES:])


def to_write(source: str, known: Mapping[str, ResultsMetadata]) -> Iterable[Command]:
    """Return the commands that store what is known, by broker prefix."""
    key = keys.results_key(source)
    pairs: list[bytes | str] = []
    for prefix, results in known.items():
        facts = {
            "prefixes": list(results.prefixes),
            "capped": sorted(state.value for state in results.capped),
            "unlisted": results.unlisted,
        }
        pairs += [prefix.encode("utf-8", "surrogateescape"), json.dumps(facts)]
    return [("HSET", key, *pairs), ("EXPIRE", key, TTL_S)] if pairs else []


def of_reply(reply: Reply) -> dict[str, ResultsMetadata]:
    """Return the metadata by broker prefix, from the reply to HGETALL of `results_key`."""
    if isinstance(reply, ResponseError) or not isinstance(reply, list):
        return {}
    return {text(prefix): decode_metadata(raw) for prefix, raw in zip(reply[::2], reply[1::2], strict=True)}


def decode_metadata(raw: Reply) -> ResultsMetadata:
    """Return the metadata in one value of that hash; NOTHING for anything else."""
    facts = loads_dict(raw) if isinstance(raw, bytes) else {}
    names, capped = facts.get("prefixes"), facts.get("capped")
    return ResultsMetadata(
        prefixes=tuple(each for each in names if isinstance(each, str))[:MAX_PREFIXES]
        if isinstance(names, list)
        else (),
        capped=frozenset(state for state in keys.ENDED if isinstance(capped, list) and state.value in capped),
        unlisted=facts.get("unlisted") is True,
    )


def prefixes_of(own: Source | None, source: str, prefix: str) -> Sequence[str]:
    """Return the prefixes under which results of the broker with `prefix` were seen, newest first.

    Cost: 1 round trip.
    """
    if own is None:
        return ()
    field = prefix.encode("utf-8", "surrogateescape")
    return decode_metadata(own.run_batch([("HGET", keys.results_key(source), field)])[0]).prefixes[::-1]


class KnownMetadata:
    """The metadata of all brokers of one source, in the process that maintains the index: it is read once, then kept up
    to date, and written if it changed.
    """

    def __init__(self, own: Source, source: str) -> None:
        self._own = own
        self._source = source
        self._known: dict[str, ResultsMetadata] | None = None  # None until it was read
        self._written: tuple[dict[str, ResultsMetadata], float] = ({}, 0.0)  # last written, and when, monotonic
        self._trimmed: set[tuple[str, State]] = set()  # of the current scan: where it found more than fits
        self._unread: set[str] = set()  # of the current scan: prefixes with records that it could not list

    def by_prefix(self) -> dict[str, ResultsMetadata]:
        """Return what is known of the results, by broker prefix. Cost: 1 round trip the first time."""
        if self._known is None:
            self._known = of_reply(self._own.run_batch([("HGETALL", keys.results_key(self._source))])[0])
        return self._known

    def has_unlisted(self) -> bool:
        """Whether there are records that cannot be listed."""
        return any(results.unlisted for results in self.by_prefix().values())

    def add_result_prefix(self, prefix: str, result_prefix: str) -> None:
        """Note that a result of the broker with `prefix` was seen under `result_prefix`."""
        known = self.by_prefix()
        known[prefix] = with_prefix(known.get(prefix, NOTHING), result_prefix)

    def add_unlisted(self, prefix: str) -> None:
        """Note that a record cannot be listed."""
        self._unread.add(prefix)
        known = self.by_prefix()
        known[prefix] = msgspec.structs.replace(known.get(prefix, NOTHING), unlisted=True)

    def add_capped(self, prefix: str, state: State) -> None:
        """Note that there are more records in `state` than the index has room for."""
        self._trimmed.add((prefix, state))
        known = self.by_prefix()
        results = known.get(prefix, NOTHING)
        known[prefix] = msgspec.structs.replace(results, capped=results.capped | {state})

    def begin_scan(self) -> None:
        """Forget what the last scan of the records found to exceed the index or to be unreadable."""
        self._trimmed, self._unread = set(), set()

    def end_scan(self) -> None:
        """Store what a complete scan found to exceed the index or to be unreadable; it replaces earlier findings."""
        known = self.by_prefix()
        for prefix in {*known, *(prefix for prefix, _ in self._trimmed), *self._unread}:
            capped = frozenset(state for where, state in self._trimmed if where == prefix)
            known[prefix] = msgspec.structs.replace(
                known.get(prefix, NOTHING), capped=capped, unlisted=prefix in self._unread
            )

    def changes_to_write(self) -> Iterable[Command]:
        """Return the commands that write it; none if it has not changed since it was last written."""
        written, at = self._written
        known = self.by_prefix()
        if known == written and monotonic_s() - at < REWRITE_AFTER_S:
            return []
        self._written = (dict(known), monotonic_s())
        return to_write(self._source, known)

    def write_again(self) -> None:
        """Write it with the next call even if it does not change, because the last write may have failed."""
        self._written = ({}, 0.0)
