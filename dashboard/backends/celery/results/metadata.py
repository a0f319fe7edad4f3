"""What is known about the results of one broker besides the index: their key prefixes, and what is missing.

The process that maintains the index writes it; all others read it from Queuedeck's own keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from redis.exceptions import ResponseError

from ....model import State
from ....sources.source import Command, Reply, Source
from ...payloads.decoding import loads_dict, text
from .. import keys

# If there are more prefixes, those with the most recent results count.
MAX_PREFIXES = 20
TTL_S = 7 * 86_400


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
    return {text(prefix): of_value(raw) for prefix, raw in zip(reply[::2], reply[1::2], strict=True)}


def of_value(raw: Reply) -> ResultsMetadata:
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
    return of_value(own.run_batch([("HGET", keys.results_key(source), field)])[0]).prefixes[::-1]
