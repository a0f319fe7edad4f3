"""Ranges of waiting messages, read for a page: long messages are cut, and what exceeds a page is left unread."""

from __future__ import annotations

from collections.abc import Sequence

from ....sources.source import Source, text
from ...bounded_reads import CALL_BYTES, PAGE_BYTES, PAGE_READ_BYTES, read_plainly
from ...lua_reads import Scripts
from .. import keys
from ..job_decoding import NAMELESS, BoundedMessage, cut_of


def read_ranges(
    broker: Source, scripts: Scripts, parts: Sequence[tuple[bytes, int, int]]
) -> tuple[list[BoundedMessage], int]:
    """Return (messages of the given list ranges, in order, up to PAGE_READ_BYTES; how many are left unread).

    Cost: 1 round trip, 1 more for each further CALL_BYTES; without scripts that of `read_plainly`, for each list.
    """
    found: list[list[BoundedMessage]] = [[] for _ in parts]
    starts = [first for _, first, _ in parts]
    left, read = list(range(len(parts))), 0
    while left:
        calls = [(parts[n][0], starts[n], parts[n][2] - starts[n], CALL_BYTES // len(left)) for n in left]
        answered = scripts.run(keys.load_script("page"), calls)
        if answered is None:
            return _read_without_lua(broker, parts)
        further = []
        for n, reply in zip(left, answered[0], strict=True):
            size, values, reached, some = reply if isinstance(reply, list) else (0, [], starts[n], 0)
            read += some
            found[n] += [
                BoundedMessage(raw, length, f"{NAMELESS}{text(version)}") if version else cut_of(raw)
                for raw, length, version in zip(*[iter(values)] * 3, strict=True)
            ]
            stop = min(parts[n][2], size if isinstance(size, int) else 0)
            if starts[n] < reached < stop:
                further.append(n)
            starts[n] = reached
        received = sum(len(cut.raw) for some_found in found for cut in some_found)
        if read >= PAGE_READ_BYTES or received >= PAGE_BYTES:
            # Rows after the first incomplete range would be at the wrong position.
            whole = further[0] if further else len(parts)
            unread = sum(stop - start for (_, _, stop), start in zip(parts[whole:], starts[whole:], strict=True))
            unread += sum(len(some_found) for some_found in found[whole + 1 :])
            return [cut for some_found in found[: whole + 1] for cut in some_found], unread
        left = further
    return [cut for some_found in found for cut in some_found], 0


def _read_without_lua(broker: Source, parts: Sequence[tuple[bytes, int, int]]) -> tuple[list[BoundedMessage], int]:
    found: list[BoundedMessage] = []
    for n, (key, first, stop) in enumerate(parts):
        members = [cut_of(member.raw) for member in read_plainly(broker, key, "list", first, stop)]
        found += members
        if len(members) < stop - first:
            return found, stop - first - len(members) + sum(end - start for _, start, end in parts[n + 1 :])
    return found, 0
