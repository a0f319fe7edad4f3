"""JSON that nests too deeply is refused before a decoder recurses to the limit of the interpreter."""

from __future__ import annotations

import gc
import json
import random
import sys
from typing import Any

import pytest

from dashboard.backends.bullmq.flow.finished_sets import removal_flags
from dashboard.backends.bullmq.job_decoding import newest_stack
from dashboard.backends.celery.results.decoding import as_raw_record, decode_record
from dashboard.backends.celery.results.record import parse_record
from dashboard.backends.payloads.decoding import loads
from dashboard.backends.payloads.nesting import MAX_NESTING, is_too_deep, shallow_part
from dashboard.backends.sidekiq.actions.payload_edit import MalformedEntry, decode_fields
from dashboard.backends.sidekiq.job_decoding import jid_of

DEEP = [b"[" * 3000, b'{"a":' * 3000, b"[" * 3000 + b"]" * 3000, b'{"a":[' * 2000 + b"]}" * 2000]
DEEP += [b'[{"a":1},' * 500, b'["]",' * 500, b'["\\"]",' * 500, b'{"result":' * 1000]


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def test_the_limit() -> None:
    assert [levels for levels in (1, MAX_NESTING - 1, MAX_NESTING) if is_too_deep(nested(levels))] == []
    assert is_too_deep(nested(MAX_NESTING + 1))
    assert all(map(is_too_deep, DEEP))
    for plain in (b"", b"null", b'"' + b"[" * 5000 + b'"', json.dumps([{"a": [1]}] * 5000).encode()):
        assert not is_too_deep(plain)
        assert shallow_part(plain) == plain
    assert shallow_part(nested(400)) == b"[" * MAX_NESTING
    head = b'{"status":"FAILURE","x":'
    assert shallow_part(head + b'{"":' * 400) == head + b'{"":' * (MAX_NESTING - 1)


def depth_of(value: Any) -> int:
    if isinstance(value, dict | list):
        return 1 + max(map(depth_of, value.values() if isinstance(value, dict) else value), default=0)
    return 0


def test_random_texts_are_judged_by_their_depth() -> None:
    chance = random.Random(5)

    def make(levels: int) -> Any:
        if levels <= 0:
            return chance.choice([1, None, "]}", '["{', "\\", '\\"'])
        rest = [make(chance.randrange(min(levels, 3))) for _ in range(chance.randrange(3))]
        found = [*rest, make(levels - 1)]
        chance.shuffle(found)
        return found if chance.random() < 0.5 else dict(zip("abcd", found, strict=False))

    for _ in range(200):
        value = make(chance.choice([3, 200, 249, 250, 251, 260, 300]))
        raw = json.dumps(value).encode()
        assert is_too_deep(raw) == (depth_of(value) > MAX_NESTING)


def test_what_is_too_deep_is_unreadable_or_read_in_part() -> None:
    for raw in DEEP:
        with pytest.raises(ValueError, match="nested too deeply"):
            loads(raw)
        assert parse_record(raw) is None
        assert jid_of(raw) is None
        assert removal_flags(raw) is None
        newest_stack(raw)
        with pytest.raises(MalformedEntry):
            decode_fields(raw)
    deep = b'{"status": "FAILURE", "children": ' + b"[" * 3000
    assert decode_record(as_raw_record(deep)).fields == {"status": "FAILURE"}
    deep = b'{"result": {"exc_type": "KeyError", "exc_message": ' + b'{"result":' * 3000
    assert decode_record(as_raw_record(deep)).fields == {"result": {"exc_type": "KeyError"}}


class Finalized:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        str(repr([self.__class__]))


def test_finalizers_run_whenever_the_collector_does(monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", failed.append)
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for raw in DEEP:
            for _ in range(30):
                Finalized()
            decode_record(as_raw_record(raw))
            parse_record(raw)
            removal_flags(raw)
    finally:
        gc.set_threshold(*before)
    assert failed == []
