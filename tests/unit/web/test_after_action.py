"""What the result of an action adds once the job has ended again."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.backends.actions import Outcome
from dashboard.clock import instant
from dashboard.model import Job, State, TimelineEvent
from dashboard.web.views.flash import ActionFlash
from dashboard.web.views.jobs.after_action import describe_since

ACTED_AT = 1000.0


def flash(verb: str = "retry", outcome: Outcome = Outcome.DONE, acted_at: float | None = ACTED_AT) -> ActionFlash:
    return ActionFlash(verb, ((outcome, 1),), acted_at=acted_at)


def job(state: State | None, ended_at: float | None = None, failed_at: tuple[float, ...] = ()) -> Job:
    moments = [(second, instant(second)) for second in failed_at]
    return Job(
        id="1",
        source="main",
        backend="rq",
        queue="mail",
        state=state,
        finished_at=instant(ended_at),
        timeline=tuple(TimelineEvent(at=at, event="failed, retries exhausted") for _, at in moments if at is not None),
    )


@pytest.mark.parametrize(
    ("verb", "ended", "text"),
    [
        ("retry", job(State.DEAD, 1003.0, (900.0, 1003.0)), "It failed again 3\u202fs later."),
        ("retry", job(State.DEAD, 1003.0), "It failed again 3\u202fs later."),
        ("edit", job(State.DEAD, 1003.0, (1003.0,)), "It failed 3\u202fs later."),
        ("retry", job(State.RETRYING, None, (900.0, 1003.0)), "It failed again 3\u202fs later and will be retried."),
        # In the list of the dead since then, without a failure since then: moved there by hand.
        ("retry", job(State.DEAD, 1003.0, (900.0,)), "It is in the dead letters again."),
        ("retry", job(State.DEAD, 990.0), "It is in the dead letters again."),
        ("retry", job(State.COMPLETED, 1002.0), "It completed 2\u202fs later."),
    ],
)
def test_the_end_after_the_action_is_said(verb: str, ended: Job, text: str) -> None:
    since = describe_since(flash(verb), ended)
    assert since is not None
    assert (since.text, since.failed) == (text, ended.state is not State.COMPLETED)


@pytest.mark.parametrize(
    ("shown", "ended"),
    [
        (flash(), job(State.WAITING)),
        (flash(), job(State.ACTIVE)),
        (flash(), job(None)),
        (flash(), job(State.RETRYING, None, (900.0,))),
        (flash(), job(State.COMPLETED, 990.0)),
        (flash(), job(State.COMPLETED)),
        (flash("duplicate"), job(State.DEAD, 990.0, (990.0,))),
        (flash("cancel"), job(State.DEAD, 1003.0)),
        (flash(outcome=Outcome.GONE), job(State.DEAD, 1003.0)),
        (flash(acted_at=None), job(State.DEAD, 1003.0)),
        (None, job(State.DEAD, 1003.0)),
    ],
)
def test_nothing_is_said_before_the_end_and_of_what_is_not_known(shown: ActionFlash | None, ended: Job) -> None:
    assert describe_since(shown, ended) is None


@pytest.mark.parametrize("text", ["", "1", "1.5", "-1.000", "1e3.000", "١.000", "9" * 20 + ".000", "nan"])
def test_a_forged_time_is_none(text: str) -> None:
    found = ActionFlash.read({"did": "retry", "done": "1", "acted_at": text})
    assert found is not None
    assert found.acted_at is None


def test_the_time_comes_back_from_the_url() -> None:
    args: dict[str, Any] = {name: str(value) for name, value in flash().query.items()}
    assert ActionFlash.read(args) == flash()
