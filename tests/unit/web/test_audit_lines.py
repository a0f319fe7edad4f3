"""Events of the audit log in words."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.actions.audit_log import Actor, AuditEvent, build_event
from dashboard.backends.actions import Action
from dashboard.web.views.audit_lines import ACTION_CHOICES, audit_line, has_job_ids, is_complete, place_word

ANNA = Actor(name="anna", role="operator")


def event(action: str, *ids: str, **fields: Any) -> AuditEvent:
    return build_event(ANNA, action, ids=ids, **fields)


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (event("retry", "a", "b", "c", state="dead", outcomes={"done": 3}), "retried 3 dead jobs"),
        (event("retry", "a", "b", "c", state="dead", outcomes={"done": 2, "gone": 1}), "retried 2 of 3 dead jobs"),
        (event("retry", "a", state="dead", outcomes={"gone": 1}), "tried to retry 1 dead job"),
        (event("kill", "a", state="waiting", outcomes={}), "tried to move 1 waiting job to dead letters"),
        (event("delete", count=1200, outcomes={"done": 1200}), "deleted 1,200 jobs"),
        (event("undo", count=1, outcomes={"done": 1}), "restored 1 item"),
        (event("pause", count=1, outcomes={"done": 1}), "paused queue"),
        (event("obliterate", count=1, outcomes={"refused": 1}), "tried to delete queue"),
        (event("remove_schedule", "nightly", outcomes={"done": 1}), "removed schedule nightly"),
        (event("stop_worker", "w1", outcomes={"done": 1}), "asked worker w1 to stop"),
        (event("edit rule", "mail-deep", detail="critical: 5 -> 6"), "edited rule mail-deep"),
        (event("acknowledge", "f1", detail="Too deep: mail (rq, main)"), "acknowledged Too deep: mail (rq, main)"),
        (event("acknowledge", "f1", "f2", detail="Too deep"), "acknowledged 2 alerts: Too deep"),
        (event("acknowledge", "f1"), "acknowledged an alert"),
        (event("silence", "s1", detail="rule mail-deep"), "silenced rule mail-deep"),
        (event("send test notification", "ops"), "sent a test notification to channel ops"),
        (event("start bulk operation"), "started a bulk operation"),
        (event("sign in", count=1, outcomes={"refused": 1}), "tried to sign in"),
        (event("odd\nthing"), "odd thing"),
    ],
)
def test_an_event_is_a_sentence(found: AuditEvent, line: str) -> None:
    assert audit_line(found) == line


def test_only_what_was_done_in_full_needs_no_words() -> None:
    assert is_complete(event("retry", "a", outcomes={"done": 1}))
    assert is_complete(event("edit rule", "mail-deep"))
    assert not is_complete(event("retry", "a", "b", outcomes={"done": 1, "gone": 1}))
    assert not is_complete(event("retry", count=44, outcomes={"done": 5}))  # aborted
    assert not is_complete(event("pause", outcomes={}))


def test_ids_are_shown_where_the_line_does_not_name_the_object() -> None:
    assert has_job_ids(event("retry", "a"))
    assert has_job_ids(event("later action", "a"))
    assert not has_job_ids(event("stop_worker", "w1"))
    assert not has_job_ids(event("acknowledge", "f1"))
    assert not has_job_ids(event("retry"))


def test_every_action_can_be_chosen() -> None:
    choices = [name for _, names in ACTION_CHOICES for name in names]
    assert set(Action) <= set(choices)
    assert len(choices) == len(set(choices))
    assert [place_word(event(action)) for action in ("pause", "retry")] == ["", "in"]
