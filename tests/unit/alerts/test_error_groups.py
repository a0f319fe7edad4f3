"""Rules about error groups: each group once, nothing while it is unknown which are new."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dashboard.alerts.evaluation.state_machine import GONE_S
from dashboard.alerts.rules.default_rules import default_rules
from dashboard.alerts.rules.rule import Rule
from dashboard.dead_letters.group_watch import WatchedGroup
from tests.unit.alerts.factories import rule, sample
from tests.unit.alerts.test_evaluator import INTERVAL_S, Harness

GROUP = WatchedGroup(
    fingerprint="f1",
    title="TimeoutError: <n>",
    count=3,
    is_new=True,
    is_regressed=False,
    places=(("main", "rq", "mail"), ("main", "rq", "cash")),
    owner=None,
    detail="in mail: TimeoutError: 5",
)
SHIPPED = {each.id: each for each in default_rules()}


def error_rule(metric: str = "error.new", **fields: object) -> Rule:
    return rule(id=metric, metric=metric, warning=0, **{"for_s": 0, "min_samples": 1, "recover_for_s": 0, **fields})


def kinds(harness: Harness, *samples: tuple[WatchedGroup, ...] | None) -> list[str]:
    """The kinds of the notifications after these samples."""
    for groups in samples:
        harness.evaluate(sample(), error_groups=groups)
    return [kind for _, kind, _ in harness.notified]


def test_each_new_group_is_notified_once() -> None:
    harness = Harness(error_rule())
    other = replace(GROUP, fingerprint="f2")
    more = replace(GROUP, count=900)
    assert kinds(harness, (), (GROUP,), (GROUP,), (more,), (more, other)) == ["firing", "firing"]
    handled = replace(GROUP, is_new=False)
    assert kinds(harness, (handled, other), (handled, other)) == ["firing", "firing", "resolved"]


def test_a_group_that_returns_is_notified_again_as_regressed() -> None:
    harness = Harness(error_rule(), error_rule("error.regressed"))
    quiet = replace(GROUP, is_new=False)
    kinds(harness, (GROUP,), (quiet,), (replace(quiet, is_regressed=True),), (quiet,), (quiet,))
    assert [(name, kind) for name, kind, _ in harness.notified] == [
        *(("error.new", "firing"), ("error.new", "resolved")),
        *(("error.regressed", "firing"), ("error.regressed", "resolved")),
    ]


def test_unknown_groups_neither_fire_nor_resolve_however_long() -> None:
    harness = Harness(error_rule())
    assert kinds(harness, None, (GROUP,)) == ["firing"]
    harness.evaluate(sample(), times=int(GONE_S / INTERVAL_S) + 5, error_groups=None)
    assert kinds(harness, (GROUP,)) == ["firing"]


def test_a_group_without_jobs_resolves_after_a_while() -> None:
    harness = Harness(error_rule())
    assert kinds(harness, (GROUP,), ()) == ["firing"]
    harness.evaluate(sample(), times=int(GONE_S / INTERVAL_S) + 5, error_groups=())
    assert kinds(harness, ()) == ["firing", "resolved"]


@pytest.mark.parametrize(
    ("fields", "fires"),
    [
        ({"source": "ma*"}, True),
        ({"source": "other"}, False),
        ({"backend": "rq"}, True),
        ({"backend": "celery"}, False),
    ],
)
def test_a_rule_covers_groups_with_jobs_in_its_scope(fields: dict[str, str], fires: bool) -> None:
    harness = Harness(error_rule(**fields))
    assert kinds(harness, (GROUP,), (GROUP,)) == (["firing"] if fires else [])


def test_the_shipped_rules_are_off_and_send_no_reminders() -> None:
    for name in ("error-new", "error-regressed"):
        shipped = SHIPPED[name]
        assert (shipped.enabled, shipped.repeat_every_s, shipped.notify_resolved) == (False, 0, False)
