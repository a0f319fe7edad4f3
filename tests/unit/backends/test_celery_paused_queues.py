"""What is known of a Celery queue that was paused in Queuedeck."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.backends.celery.paused_queues import (
    NOT_PAUSED,
    PausedQueue,
    decode_paused,
    encode_paused,
    is_paused,
    paused_of_reply,
)
from dashboard.backends.celery.stored_heartbeats import is_same_process

PAUSED = PausedQueue(("one",), ("one", "two"), 100.0)


@pytest.mark.parametrize(
    ("alive", "expected"),
    [
        ({"one": 90, "two": 100}, True),
        ({"one": 90}, True),
        ({}, True),
        ({"one": 100.1}, None),  # started again: it consumes the queue
        ({"one": 90, "three": 90}, None),  # it did not answer, so it may consume the queue
        ({"one": None}, None),
        ({"one": "90"}, None),
    ],
)
def test_it_is_paused_while_no_other_worker_lives(alive: dict[str, Any], expected: bool | None) -> None:
    beats = {name: {"pid": 1, "since": since} for name, since in alive.items()}
    assert is_paused(PAUSED, beats, unheard=False) is expected
    assert is_paused(PAUSED, beats, unheard=True) is None
    assert is_paused(PAUSED._replace(at=None), beats, unheard=False) is None  # not confirmed
    assert is_paused(None, beats, unheard=False) is None
    assert is_paused(NOT_PAUSED, beats, unheard=False) is None


BEAT = {"pid": 1, "prefix": "", "processed": 5, "clock": 40, "at": 100.0}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"processed": 7, "clock": 41, "at": 102.0}, True),
        ({"at": 110.0}, True),
        ({"at": 110.1}, False),  # long enough to stop and start
        ({"pid": 2}, False),
        ({"pid": None}, False),
        ({"processed": 4}, False),
        ({"processed": None}, False),
        ({"clock": 1}, False),  # started again before it had a task
        ({"prefix": "other-"}, False),  # another worker with this name
    ],
)
def test_a_new_process_is_noticed_also_where_it_has_the_same_number(change: dict[str, object], expected: bool) -> None:
    assert is_same_process(BEAT, {**BEAT, **change}) is expected
    assert is_same_process({**BEAT, "pid": None}, {**BEAT, **change, "pid": None}) is False


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (encode_paused({"one"}, {"one": 11, "two": 12}, 100.0).encode(), PAUSED),
        (encode_paused({"one"}).encode(), PausedQueue(("one",))),
        (b'{"asked": ["one", 3], "answered": {"one": 1}, "at": true}', PausedQueue(("one",))),
        (b'{"asked": 1, "answered": null, "at": 1e999}', NOT_PAUSED),
        (b'["one"]', NOT_PAUSED),
        (b"\xff", NOT_PAUSED),
        (b"[" * 100_000, NOT_PAUSED),
        (None, NOT_PAUSED),
    ],
)
def test_a_stored_pause_of_any_content_is_read(raw: bytes | None, expected: PausedQueue) -> None:
    assert decode_paused(raw) == expected
    assert paused_of_reply([b"q\xff", raw])["q\udcff"] == expected
    assert paused_of_reply(None) == {}
