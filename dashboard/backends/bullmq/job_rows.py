"""The hashes of many jobs, every value bounded on the server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from ...model import QueueRef
from ...sources.source import Argument, Reply, Source
from ..lua_reads import Scripts
from ..payloads.search_text import LIMIT as TEXT_LIMIT
from . import keys, without_lua
from .job_decoding import ROW_FIELDS, ROW_LIMIT_BYTES

# The searched fields, besides `failedReason`, which is in every row anyway.
TEXTS = ("data", "stacktrace")
# A script blocks the server while it runs: this many jobs take about a millisecond.
JOBS_PER_CALL = 100
# Redis cannot return part of a field: one call reads at most this many bytes of texts that are too long.
TOUCH_BYTES = 16 * 1024 * 1024


class JobRow(NamedTuple):
    """The raw data of one job."""

    values: Reply  # of ROW_FIELDS: bytes, None, or [length] if too long; an error for the whole hash
    locked: Reply
    texts: Sequence[Reply]  # of TEXTS, in the same format, each at most TEXT_LIMIT + 1 bytes; () if not requested


def read_job_rows(
    source: Source, scripts: Scripts, ref: QueueRef, ids: Sequence[bytes], *, texts: bool = False
) -> list[JobRow]:
    """Return a row per id, in order. Cost: 1 round trip if scripts are permitted, else 2."""
    if not ids:
        return []
    wanted = TEXTS if texts else ()
    head: list[Argument] = [json.dumps(ROW_FIELDS), ROW_LIMIT_BYTES, json.dumps(wanted), TEXT_LIMIT, TOUCH_BYTES]
    chunks = [ids[start : start + JOBS_PER_CALL] for start in range(0, len(ids), JOBS_PER_CALL)]
    calls = [[*head, ref.key, *chunk] for chunk in chunks]
    answered = scripts.run(keys.load_script("rows"), calls, at=[ref.key] * len(calls))
    if answered is None:
        return _read_without_lua(source, ref, ids, wanted)
    return [
        JobRow(*row)
        for chunk, reply in zip(chunks, answered[0], strict=True)
        for row in (reply if isinstance(reply, list) else [(reply, 0, ())] * len(chunk))
    ]


def _read_without_lua(source: Source, ref: QueueRef, ids: Sequence[bytes], texts: Sequence[str]) -> list[JobRow]:
    """Read the same with plain commands; a text that is too long to return whole is left out."""
    base = f"{ref.key}:".encode("utf-8", "surrogateescape")
    names = {**dict.fromkeys(ROW_FIELDS, ROW_LIMIT_BYTES), **dict.fromkeys(texts, TEXT_LIMIT)}
    found, locks = without_lua.read_fields(
        source, [base + job_id for job_id in ids], names, [("EXISTS", base + job_id + b":lock") for job_id in ids]
    )
    width = len(ROW_FIELDS)
    return [
        JobRow(values[:width], locked, values[width:]) if isinstance(values, list) else JobRow(values, locked, ())
        for values, locked in zip(found, locks, strict=True)
    ]
