"""The words for actions and their outcomes."""

from __future__ import annotations

import pytest

from dashboard.backends.actions import Action, ActionResult, Outcome
from dashboard.web.pages.bulk.start import not_restored
from dashboard.web.views.flash import (
    BULK_PAST,
    MISSED,
    PAST,
    VERBS,
    audit_label,
    bulk_plan,
    bulk_verb,
    outcome_text,
)


@pytest.mark.parametrize(
    ("action", "label"),
    [
        ("kill", "move to dead letters"),
        ("obliterate", "delete queue"),
        ("notice error group", "stop ignoring error group"),
        ("pause_schedule", "pause schedule"),
        ("start bulk operation", "start bulk operation"),
    ],
)
def test_the_audit_log_uses_the_words_of_the_buttons(action: str, label: str) -> None:
    assert audit_label(action) == label


@pytest.mark.parametrize(
    ("outcome", "count", "text"),
    [
        ("done", 1204, "1,204 done"),
        ("gone", 1, "1 no longer exists"),
        ("gone", 2, "2 no longer exist"),
        ("changed", 3, "3 skipped: state changed"),
        ("of a later release", 1, "1 of a later release"),
    ],
)
def test_an_outcome_in_words(outcome: str, count: int, text: str) -> None:
    assert outcome_text(outcome, count) == text


@pytest.mark.parametrize(
    ("action", "label", "plan", "past"),
    [
        ("retry", "Retry all 2,800", "Retries all 2,800", "retried"),
        ("delete", "Delete all 2,800", "Deletes all 2,800", "deleted"),
        ("cancel", "Cancel all 2,800", "Cancels all 2,800", "canceled"),
        ("move", "Redrive all 2,800", "Redrives all 2,800", "redriven"),
        ("kill", "Move all 2,800 to dead letters", "Moves all 2,800 to dead letters", "moved to dead letters"),
    ],
)
def test_an_action_on_many_jobs_has_one_word(action: str, label: str, plan: str, past: str) -> None:
    assert (bulk_verb(action, "all 2,800"), bulk_plan(action, "all 2,800")) == (label, plan)
    assert BULK_PAST[action] == past
    assert bulk_verb(action) == label.replace(" all 2,800", "")


def test_every_action_and_outcome_has_words() -> None:
    assert set(Action) <= set(VERBS)
    assert set(Action) <= set(PAST)
    assert set(MISSED) == set(Outcome) - {Outcome.DONE}


def test_an_undo_that_restored_nothing_says_why_in_the_words_of_the_trash() -> None:
    refused = not_restored([ActionResult(id=str(number), outcome=Outcome.GONE) for number in range(2)])
    assert refused is not None
    assert refused.hint == "2 × no longer in the trash"
    assert not_restored([ActionResult(id="1", outcome=Outcome.DONE)]) is None
