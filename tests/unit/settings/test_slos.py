"""`[[slos]]`: where they are read from, and which ones stop the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dashboard.errors import ConfigurationError
from dashboard.settings import SloSettings, load
from dashboard.settings.slos import covers_queue

GOOD: dict[str, Any] = {"id": "mail", "target": 0.99, "waited_within_s": 60}


def test_objectives_are_read_from_a_file_the_environment_and_keywords(tmp_path: Path) -> None:
    file = tmp_path / "q.toml"
    file.write_text('[[slos]]\nid = "mail"\nqueues = ["mail-*"]\ntarget = 0.99\nwaited_within_s = 60\n')
    expected = SloSettings(id="mail", queues=("mail-*",), target=0.99, waited_within_s=60)
    assert load(config=file, environ={}).slos == (expected,)
    text = '[{"id": "cash", "target": 0.999, "succeeded": true}]'
    assert load(environ={"QUEUEDECK_SLOS": text}).slos[0].succeeded
    assert load(environ={}, keywords={"slos": [expected]}).slos == (expected,)


def test_which_queues_an_objective_covers() -> None:
    slo = SloSettings(**GOOD, source="eu-*", backend="rq", queues=("mail-*", "sms"), queues_not=("mail-test",))
    covered = [(source, queue) for source in ("eu-1", "us") for queue in ("mail-1", "mail-test", "sms", "video")]
    assert [pair for pair in covered if covers_queue(slo, pair[0], "rq", pair[1])] == [
        ("eu-1", "mail-1"),
        ("eu-1", "sms"),
    ]
    assert not covers_queue(slo, "eu-1", "celery", "sms")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"target": 99}, "slo 'mail': target: expected a share above 0 and below 1, such as 0.99 for 99%"),
        ({"target": 1}, "target: expected a share"),
        ({"target": float("nan")}, "target: expected a share"),
        ({"succeeded": True}, "expected exactly one of waited_within_s, ran_within_s and succeeded = true"),
        ({"waited_within_s": None}, "expected exactly one of"),
        ({"waited_within_s": 0}, "waited_within_s: expected seconds above 0"),
        ({"window_s": 3600}, "window_s: expected 86400 to 2592000 seconds, which is 1 to 30 days"),
        ({"window_s": 90 * 86_400}, "window_s: expected"),
        ({"queues": ["[a-z]"]}, "queues: expected at most 50 globs"),
        ({"source": "a" * 80}, "source: expected a glob"),
        ({"id": "mail on time"}, "id: expected 1 to 64 letters"),
        ({"name": ""}, "name: expected one line of 1 to 80"),
        ({"goal": 1}, "Object contains unknown field"),
    ],
)
def test_an_objective_that_is_wrong_stops_the_start(changed: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigurationError) as found:
        load(environ={}, keywords={"slos": [GOOD | changed]})
    assert expected.lower() in found.value.message.lower()
    assert "\n" not in found.value.message


def test_ids_are_unique_and_a_history_is_needed() -> None:
    with pytest.raises(ConfigurationError, match="id: expected a unique id"):
        load(environ={}, keywords={"slos": [GOOD, GOOD]})
    with pytest.raises(ConfigurationError, match="history_max_bytes above 0"):
        load(environ={}, keywords={"slos": [GOOD], "history_max_bytes": 0})
    with pytest.raises(ConfigurationError, match="at most 50 objectives"):
        load(environ={}, keywords={"slos": [GOOD | {"id": f"s{n}"} for n in range(51)]})
