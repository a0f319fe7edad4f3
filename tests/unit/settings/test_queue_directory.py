"""`[[queues]]`: which owner, runbook and note a queue has, and which entries stop the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dashboard.errors import ConfigurationError
from dashboard.settings import QueueSettings, load
from dashboard.settings.queue_directory import NO_INFO, QueueDirectory, QueueInfo


def directory(*entries: dict[str, Any]) -> QueueDirectory:
    return QueueDirectory(load(environ={}, keywords={"queues": entries}).queues)


def test_each_field_comes_from_the_first_entry_that_matches_and_sets_it() -> None:
    found = directory(
        {"match": "mail-urgent", "note": "Customers wait for these."},
        {"match": ["mail-*", "sms-?"], "owner": "messaging", "runbook": "https://wiki.example/mail"},
        {"match": "*", "owner": "platform", "note": "Ask in #platform."},
    )
    assert found.find("main", "rq", "mail-urgent") == QueueInfo(
        "messaging", "https://wiki.example/mail", "Customers wait for these."
    )
    assert found.find("main", "rq", "sms-1") == QueueInfo("messaging", "https://wiki.example/mail", "Ask in #platform.")
    assert found.find("main", "rq", "sms-10") == QueueInfo("platform", None, "Ask in #platform.")


def test_an_entry_can_be_for_one_source_or_library_only() -> None:
    found = directory(
        {"match": "mail", "source": "eu-*", "owner": "europe"}, {"match": "mail", "backend": "rq", "owner": "python"}
    )
    assert found.find("eu-1", "bullmq", "mail").owner == "europe"
    assert found.find("us-1", "rq", "mail").owner == "python"
    assert found.find("us-1", "bullmq", "mail") == NO_INFO


def test_what_is_not_about_one_queue_has_no_owner() -> None:
    found = directory({"match": "*", "owner": "platform"})
    assert found.find("main", "rq", None) == found.find("main", None, None) == NO_INFO
    assert not NO_INFO
    assert found.find("main", "sidekiq", "*").owner == "platform"


def test_entries_are_read_from_a_file_the_environment_and_keywords(tmp_path: Path) -> None:
    file = tmp_path / "q.toml"
    file.write_text('[[queues]]\nmatch = "mail"\nowner = "of the file"\n')
    assert load(config=file, environ={}).queues == (QueueSettings(match="mail", owner="of the file"),)
    environ = {"QUEUEDECK_QUEUES": '[{"match": ["a", "b-*"], "note": "of the environment"}]'}
    (entry,) = load(config=file, environ=environ).queues
    assert (entry.match, entry.note) == (("a", "b-*"), "of the environment")
    keywords = {"queues": [QueueSettings(match="*", runbook="https://wiki.example/")]}
    assert load(config=file, environ=environ, keywords=keywords).queues[0].runbook == "https://wiki.example/"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown field": ({"match": "a", "ownr": "x"}, "unknown field `ownr`"),
    "no glob": ({"match": [], "owner": "x"}, "entry 1: match: expected"),
    "a glob with a set": ({"match": "a[bc]", "owner": "x"}, "entry 1: match: expected"),
    "another type": ({"match": 3, "owner": "x"}, "`$[0].match`"),
    "nothing to say": ({"match": "a"}, "entry 1: owner, runbook, note: expected at least one"),
    "a source that is no glob": ({"match": "a", "source": "", "owner": "x"}, "entry 1: source: expected"),
    "an owner of two lines": ({"match": "a", "owner": "x\ny"}, "entry 1: owner: expected one line"),
    "an empty owner": ({"match": "a", "owner": ""}, "entry 1: owner: expected one line"),
    "a long note": ({"match": "a", "note": "x" * 201}, "entry 1: note: expected one line of 1 to 200"),
    "a runbook that runs": ({"match": "a", "runbook": "javascript:alert(1)"}, "entry 1: runbook: expected"),
    "a runbook without a host": ({"match": "a", "runbook": "https:///x"}, "entry 1: runbook: expected"),
    "a runbook with a password": ({"match": "a", "runbook": "https://u:p4ss@h/"}, "entry 1: runbook: expected"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_entry_stops_the_start_with_one_line(what: str) -> None:
    entry, expected = WRONG[what]
    with pytest.raises(ConfigurationError) as caught:
        directory(entry)
    line = str(caught.value)
    assert line.startswith("keyword queues: ")
    assert expected in line
    assert "\n" not in line
    assert "p4ss" not in line
