"""Bounded reads of hashes with plain commands, for users who may not run scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redis.exceptions import ResponseError

from ...sources.source import Argument, Command, Reply, Source


def read_fields(
    source: Source, hashes: Sequence[Argument], names: Mapping[str, int], also: Sequence[Command] = ()
) -> tuple[list[Reply], list[Reply]]:
    """Return (the values of `names` per hash, the replies to `also`); `names` maps each field to its maximum length.

    In the format of the scripts: None for a missing value, [length] for a longer one, an error instead of the whole
    row if the key has the wrong type. Cost: 2 round trips, 1 if nothing is found.
    """
    commands: list[Command] = [("HSTRLEN", key, name) for key in hashes for name in names]
    replies = source.run_batch([*commands, *also])
    width = len(names)
    sizes = [replies[start : start + width] for start in range(0, len(commands), width)]
    fitting = [
        [
            name
            for (name, most), size in zip(names.items(), row, strict=True)
            if isinstance(size, int) and 0 < size <= most
        ]
        for row in sizes
    ]
    values = iter(source.run_batch([("HMGET", key, *fit) for key, fit in zip(hashes, fitting, strict=True) if fit]))
    rows = [
        _row_of_values(names, row, fit, next(values) if fit else []) for row, fit in zip(sizes, fitting, strict=True)
    ]
    return rows, replies[len(commands) :]


def _row_of_values(names: Mapping[str, int], sizes: Sequence[Reply], fitting: Sequence[str], values: Reply) -> Reply:
    wrong = sizes[0] if isinstance(sizes[0], ResponseError) else values
    if isinstance(wrong, ResponseError):
        return wrong
    found = dict(zip(fitting, values, strict=True))
    return [found.get(name, [size] if size else None) for name, size in zip(names, sizes, strict=True)]
