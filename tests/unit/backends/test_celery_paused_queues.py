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

PAUSED = PausedQueue(("one",), {"one": 11, "two": 12})


@pytest.mark.parametrize(
    ("alive", "expected"),
    [
        ({"one": 11, "two": 12}, True),
        ({"one": 11}, True),
        ({}, True),
        ({"one": 99}, None),  # started again: it consumes the queue
        ({"one": 11, "three": 13}, None),  # started since
        ({"one": None}, None),
    ],
)
def test_it_is_paused_while_no_other_worker_lives(alive: dict[str, int | None], expected: bool | None) -> None:
    beats: dict[str, dict[str, Any]] = {name: {"pid": pid} for name, pid in alive.items()}
    assert is_paused(PAUSED, beats, unheard=False) is expected
    assert is_paused(PAUSED, beats, unheard=True) is None
    assert is_paused(None, beats, unheard=False) is None
    assert is_paused(NOT_PAUSED, beats, unheard=False) is None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (encode_paused({"one"}, {"one": 11, "two": 12}).encode(), PAUSED),
        (b'["one"]', PausedQueue(("one",), {})),  # without processes
        (b'{"asked": ["one", 3], "pids": {"one": "x"}}', PausedQueue(("one",), {})),
        (b'{"asked": 1, "pids": []}', NOT_PAUSED),
        (b"\xff", NOT_PAUSED),
        (b"[" * 100_000, NOT_PAUSED),
        (None, NOT_PAUSED),
    ],
)
def test_a_stored_pause_of_any_content_is_read(raw: bytes | None, expected: PausedQueue) -> None:
    assert decode_paused(raw) == expected
    assert paused_of_reply([b"q\xff", raw])["q\udcff"] == expected
    assert paused_of_reply(None) == {}
