"""What a rule finds now and found in the last hour, for the pages of rules, also of a rule that is not saved yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from ....alerts.evaluation.backtest import (
    Backtest,
    SubjectHistories,
    covered_labels,
    replay_rule,
    subject_histories,
    worst_series,
)
from ....alerts.evaluation.preview import HOUR_S, RulePreview, Trend, has_history, rule_trend
from ....alerts.evaluation.rule_history import RuleHistories
from ....alerts.evaluation.week_backtest import even_points, replay_week, why_not_replayed
from ....alerts.management.sample_notification import sample_notification
from ....alerts.rules.metrics import METRICS, format_amount
from ....alerts.rules.rule import Rule
from ....errors import BackendUnavailable, ConfigurationError, Forbidden
from ....sampling.snapshot_reader import CurrentSnapshot
from ...context import app_services
from ...forms.rule_form import RuleForm
from ...views.rule_chart import ChartSeries, RuleChart, build_chart, build_small_chart, thresholds_of
from ..moments.sample_data import sample_end_after

SMALL, LARGE, WIDE = (96, 24), (640, 200), (640, 96)
MAX_NAMED = 8  # of what a draft matches
MAX_OTHERS = 4  # further lines in the graph
MAX_FIRST = 50  # queues whose last seven days are read first
REDUCERS = {
    "min": "minimum over the last",
    "max": "maximum over the last",
    "mean": "mean over the last",
    "p95": "95th percentile over the last",
    "rate": "change per minute over the last",
}
# The fields without which there is nothing to look at.
_CONDITION = ("metric", "reducer", "window_s", "scope", "op", "source", "backend", "queues", "queues_not")
# What is wrong with these does not change what fires.
_NAMING = {"id", "name"}
_DRAFT_ID = "draft"


@dataclass(frozen=True, slots=True)
class Draft:
    """A form as a rule, to look at. `rule` None: its condition is invalid. `values` are those to save.

    `is_complete`: the whole rule is valid; otherwise `rule` has the condition without thresholds.
    """

    rule: Rule | None
    is_complete: bool
    values: dict[str, Any]

    @property
    def thresholds(self) -> dict[str, float]:
        """The thresholds that were entered, even where they are in the wrong order."""
        found = {name: self.values[name] for name in ("critical", "warning")}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class SampleText:
    """The notification that a draft would send. `basis`: where its value is from: `now`, an alert in the `past` hour,
    or, for an `example`, the threshold."""

    text: str
    basis: str


def parse_draft(form: RuleForm) -> Draft:
    """The rule that the form describes; sets the errors of the form. Cost: 1 round trip if it names other rules."""
    values = form.values()
    rules = app_services().alert_service.rules
    if not values["id"]:
        values["id"] = _DRAFT_ID
        form.errors.setdefault("name", "enter a name: the ID is made from it")
    try:
        rule = rules.parse_rule(values)
    except ConfigurationError as exc:
        form.add_problem(exc)
    else:
        if form.errors.keys() - _NAMING:
            # An invalid field was replaced by its default: what that rule finds is not what was entered.
            rule = replace(rule, warning=None, critical=None, warning_recover=None, critical_recover=None)
        return Draft(rule, not form.errors, values)
    condition = {name: values[name] for name in _CONDITION} | {"id": _DRAFT_ID, "critical": 0.0}
    try:
        rule = rules.parse_rule(condition)
    except ConfigurationError:
        return Draft(None, False, values)
    return Draft(replace(rule, critical=None), False, values)


def draft_context(form: RuleForm, draft: Draft) -> dict[str, Any]:
    """The variables of `rules/_draft.html`.

    Cost: 2 round trips, 1 more per minute, 4 more for the last seven days; none without a sample.
    """
    context: dict[str, Any] = {"form": form, "rule": draft.rule, "drafted": True}
    rule = draft.rule
    if rule is None:
        return context
    current, previews = app_services().snapshots.current(), app_services().alert_service.previews
    preview, histories = None, None
    if current.snapshot is not None:
        try:
            preview = previews.preview_rules(current.snapshot, current.history, [rule]).get(rule.id)
            histories = previews.rule_histories(current.snapshot.sampled_at)
        except (BackendUnavailable, Forbidden) as exc:  # what was typed must not be lost to it
            context["unread"] = exc.message
    return (
        preview_context(rule, preview, current, histories, thresholds=draft.thresholds)
        | context
        | _outlook(rule, preview, current, histories)
    )


def _outlook(
    rule: Rule, preview: RulePreview | None, current: CurrentSnapshot, histories: RuleHistories | None
) -> dict[str, Any]:
    """What a draft covers, when it would have fired, and what it would say."""
    if current.snapshot is None:
        return {"covered": (), "covered_count": 0, "backtest": None, "notification": None, **_NO_WEEK}
    covered = covered_labels(replace(rule, scope="each"), current.snapshot)
    hours = subject_histories(rule, current.snapshot, current.history, histories)
    backtest = replay_rule(rule, hours) if hours and rule.severities else None
    return {
        "covered": covered[:MAX_NAMED],
        "covered_count": len(covered),
        "backtest": backtest,
        "notification": _sample_text(rule, preview, current, hours, backtest),
        **_week_outlook(rule, current, hours),
    }


_NO_WEEK = {"week": None, "no_week": None, "sample_end_s": None}


def _week_outlook(rule: Rule, current: CurrentSnapshot, hours: SubjectHistories | None) -> dict[str, Any]:
    """When a draft would have fired in the last seven days, and a graph of them; nothing where they are not stored."""
    if current.snapshot is None or not rule.severities:
        return _NO_WEEK
    worst = [labels for labels, _ in worst_series(rule, hours, MAX_FIRST)] if hours else []
    try:
        week = app_services().alert_service.backtests.read_week(
            rule, current.snapshot, worst, current.snapshot.sampled_at
        )
    except (BackendUnavailable, Forbidden):  # the preview says so already
        week = None
    if week is None:
        return _NO_WEEK | {"no_week": why_not_replayed(rule)}
    points, replayed = even_points(rule, week), replay_week(rule, week)
    return {
        "no_week": None,
        "sample_end_s": sample_end_after(current.snapshot.sampled_at - replayed.covered_s),
        "week": replayed,
        "week_graph": build_small_chart(rule, points, len(points), *WIDE),
    }


def _sample_text(
    rule: Rule,
    preview: RulePreview | None,
    current: CurrentSnapshot,
    hours: SubjectHistories | None,
    backtest: Backtest | None,
) -> SampleText | None:
    """The text for the worst breach now; without one, an example with a past value, or the threshold as value."""
    if current.snapshot is None or preview is None or not rule.severities:
        return None
    severity = rule.severities[0]
    example = preview.worst
    worst = preview.beyond[0] if preview.beyond else None
    if worst is not None and worst.severity is not None:
        severity, labels, value, basis = worst.severity, worst.labels, worst.value, "now"
    elif backtest is not None and backtest.firings and not backtest.of_worst:
        past = backtest.firings[0]
        severity, labels, value, basis = past.severity, past.labels, past.value, "past"
    elif example is not None:
        labels, value, basis = example.labels, rule.threshold(severity), "example"
    else:
        return None
    hour = next((points for each, points in hours.series if each == labels), ()) if hours else ()
    named = rule if rule.name or rule.id != _DRAFT_ID else replace(rule, name="New rule")
    text = sample_notification(named, severity, labels, value, current.snapshot, current.history, hour)
    return SampleText(text, basis)


def preview_context(
    rule: Rule,
    preview: RulePreview | None,
    current: CurrentSnapshot,
    histories: RuleHistories | None,
    *,
    thresholds: dict[str, float] | None = None,
) -> dict[str, Any]:
    """The variables of `rules/_preview.html`. `thresholds` = those of a draft, which always has a graph."""
    past = past_hour(rule, preview, current, histories)
    is_known = past is not None and any(point is not None for point in past.points)
    levels = thresholds_of(rule) if thresholds is None else thresholds
    graph = None
    if is_known or thresholds is not None:
        graph = build_chart(rule, _chart_series(rule, preview, past, current, histories), *LARGE, levels)
    return {
        "rule": rule,
        "metric": METRICS[rule.metric],
        "preview": preview,
        "past": past,
        "graph": graph,
        "drafted": False,
        "thresholds": levels,
        "has_past": has_history(rule.metric),
        "reducers": REDUCERS,
        "amount": lambda value: format_amount(value, METRICS[rule.metric].unit, rule.reducer),
        "current_amount": lambda value: format_amount(value, METRICS[rule.metric].unit),
        "titles": app_services().sources.titles,
    }


def past_hour(
    rule: Rule, preview: RulePreview | None, current: CurrentSnapshot, histories: RuleHistories | None
) -> Trend | None:
    """The last hour of the worst of what the rule evaluates."""
    if current.snapshot is None:
        return None
    return rule_trend(rule, preview.worst if preview else None, current.snapshot, current.history, histories)


def small_graph(rule: Rule, past: Trend | None) -> RuleChart | None:
    """The graph of one row in a list; None while no point is known."""
    if past is None or all(point is None for point in past.points):
        return None
    return build_small_chart(rule, past.points, past.slots, *SMALL)


def _chart_series(
    rule: Rule,
    preview: RulePreview | None,
    past: Trend | None,
    current: CurrentSnapshot,
    histories: RuleHistories | None,
) -> ChartSeries:
    """The worst subject; of several, also what is worst of all in each minute, or the next worst ones."""
    if past is None or current.snapshot is None:
        return ChartSeries()
    several = not past.of_all and preview is not None and preview.looked_at > 1
    if several and past.envelope:
        return ChartSeries(past.points, past.slots, past.envelope)
    hours = subject_histories(rule, current.snapshot, current.history, histories) if several else None
    if hours is None or preview is None or preview.worst is None:
        return ChartSeries(past.points, past.slots)
    shown = preview.worst.labels
    slots = round(HOUR_S / hours.step_s)
    worst = worst_series(rule, hours, MAX_OTHERS + 1)
    others = [(points, max(slots, len(points))) for labels, points in worst if labels != shown]
    return ChartSeries(past.points, past.slots, others=tuple(others[:MAX_OTHERS]))
