"""The dashboard of Grafana and the rules of Prometheus use only metrics that exist, as they can be used."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from dashboard.alerts.counters import AlertCounts
from dashboard.alerts.rules.default_rules import default_rules
from dashboard.history.columns import QUEUE, Record
from dashboard.history.series_keys import SeriesKey
from dashboard.model import Counts, QueueStats, RedisHealth, Snapshot, SourceStats, State
from dashboard.sampling.recent_history import History
from dashboard.sampling.snapshot_reader import CurrentSnapshot
from dashboard.settings import SloSettings
from dashboard.slos.slo_report import SloStatus
from dashboard.slos.slo_tracker import SloTracker
from dashboard.web.prometheus import SnapshotCollector
from tests.processes import ROOT
from tests.unit.grafana import Metrics, dashboard_faults, expression_faults, rule_file_faults

FOLDER = ROOT / "docs" / "grafana"
DASHBOARD = json.loads((FOLDER / "queuedeck.json").read_text())
RULES = yaml.safe_load((FOLDER / "alerts.yml").read_text())


def all_metrics() -> Metrics:
    """All metrics that there can be: those of a snapshot in which every figure is known."""

    def known(kind: type, **fields: Any) -> Any:
        """A value whose other fields are all 1."""
        return kind(**{**dict.fromkeys(kind.__struct_fields__, 1), **fields})

    queue = known(
        QueueStats,
        source="main",
        backend="rq",
        name="mail",
        key="mail",
        counts=known(Counts),
        at_least=(State.DEAD,),
        native=(),
        notes=(),
        error=None,
    )
    source = known(SourceStats, name="main", health=known(RedisHealth))
    snapshot = known(Snapshot, sources=(source,), queues=(queue,), sampler="", settings_digest="")
    current = CurrentSnapshot(snapshot=snapshot, history=History(), age_s=1.0, stale=False)
    of_channel = {"ops": 1}
    counts = AlertCounts({"critical": 1}, of_channel, of_channel, of_channel)
    return {
        sample.name: (family.type, frozenset(sample.labels))
        for family in SnapshotCollector(current, {"critical": 1}, counts, (_counted_objective(),)).collect()
        for sample in family.samples
    }


def _counted_objective() -> SloStatus:
    slo = SloSettings(id="mail", target=0.99, succeeded=True)
    tracker = SloTracker(slo)
    cells = tuple({"quality": 2, "finished": 1, "failed": 0}.get(name) for name in QUEUE.names)
    tracker.add_minute(SeriesKey(QUEUE, "main", "rq", "mail"), Record(0, cells))
    return SloStatus(slo, tracker.report(60))


METRICS = all_metrics()


def test_the_golden_metrics_are_among_those_that_are_checked() -> None:
    golden = json.loads((ROOT / "tests" / "golden" / "metrics.json").read_text())
    assert {name: (metric["type"], frozenset(metric["labels"])) for name, metric in golden.items()}.items() <= (
        METRICS.items()
    )


def test_the_page_lists_every_metric() -> None:
    page = (ROOT / "docs" / "grafana.md").read_text()
    listed = {
        f"queuedeck_{name}": (kind, frozenset(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", page, re.MULTILINE)
    }
    assert listed == METRICS


def test_the_dashboard_is_sound() -> None:
    assert list(dashboard_faults(DASHBOARD, METRICS)) == []
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == [
        *("Overview", "Queue: $queue", "Redis", "Alerts")
    ]


def test_the_rules_are_sound() -> None:
    assert list(rule_file_faults(RULES, METRICS)) == []
    names = [rule["alert"] for group in RULES["groups"] for rule in group["rules"]]
    assert len(set(names)) == len(names)


def test_shared_thresholds_are_those_of_our_own_rules() -> None:
    own = {rule.id: rule for rule in default_rules()}
    expressions = {rule["alert"]: rule["expr"] for group in RULES["groups"] for rule in group["rules"]}
    for name, ending in {
        "QueueWaitsLong": f"> {own['queue-latency'].critical:g}",
        "QueueFailing": f"> {own['queue-errors'].critical:g}",
        "DeadLettersRising": f"> {own['queue-dead-growth'].warning:g}",
        "RedisMemoryHigh": f"> {own['redis-memory'].warning:g}",
        "RedisMemoryFull": f"> {own['redis-memory'].critical:g}",
    }.items():
        assert ending in expressions[name], name


Break = Callable[[Any], None]


def panel_of(document: Any, title: str) -> Any:
    return next(panel for panel in document["panels"] if panel["title"] == title)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda document: document.pop("title"), "title of the dashboard"),
        (lambda document: document.update(id=7), "an id belongs"),
        (lambda document: document["templating"]["list"].pop(1), "variable source is not defined"),
        (lambda document: document["templating"]["list"].append({"name": "odd", "type": "textbox"}), "is not used"),
        (lambda document: document["templating"]["list"][1].update(multi=False), "cannot be all"),
        (lambda document: panel_of(document, "Memory").update(type="graph"), "type graph"),
        (lambda document: panel_of(document, "Memory").update(id=1), "panels of the same id"),
        (lambda document: panel_of(document, "Memory")["gridPos"].update(x=8), "lies over another"),
        (lambda document: panel_of(document, "Memory")["gridPos"].update(x=20), "width"),
        (lambda document: panel_of(document, "Memory")["fieldConfig"]["defaults"].update(unit=""), "unit"),
        (lambda document: panel_of(document, "Memory")["targets"][0].update(refId="B"), "queries"),
        (lambda document: panel_of(document, "Memory")["targets"][0].update(expr="up"), "no metric of ours"),
        (lambda document: panel_of(document, "Memory").update(datasource={"uid": "x"}), "data source"),
        (
            lambda document: panel_of(document, "Dead letters")["fieldConfig"]["defaults"]["thresholds"].update(
                steps=[{"value": 0, "color": "red"}]
            ),
            "thresholds",
        ),
    ],
)
def test_a_fault_of_the_dashboard_is_found(change: Break, fault: str) -> None:
    document = copy.deepcopy(DASHBOARD)
    change(document)
    assert [found for found in dashboard_faults({"title": None, **document}, METRICS) if fault in found]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"for": "5 minutes"}, "for 5 minutes"),
        ({"labels": {}}, "severity"),
        ({"annotations": {"summary": "x"}}, "annotations"),
        ({"alerts": "x"}, "fields"),
        ({"annotations": {"summary": "{{ $labels.channel }}", "description": "x"}}, "channel is not in the alert"),
    ],
)
def test_a_fault_of_a_rule_is_found(change: dict[str, Any], fault: str) -> None:
    document = copy.deepcopy(RULES)
    document["groups"][1]["rules"][0].update(change)
    assert [found for found in rule_file_faults(document, METRICS) if fault in found]


@pytest.mark.parametrize(
    ("expr", "fault"),
    [
        ("queuedeck_queue_deep", "no such metric"),
        ("queuedeck_queue_depth{state='dead'}", "not a matcher"),
        ('queuedeck_queue_depth{state="dead"}', "no label state"),
        ("rate(queuedeck_queue_depth[5m])", "is a gauge"),
        ("sum(queuedeck_queue_failed_total)", "is a counter"),
        ("rate(queuedeck_queue_failed_total)", "range"),
        ("sum by (channel) (queuedeck_queue_depth)", "by channel"),
        ("sum(queuedeck_queue_depth", "unbalanced"),
    ],
)
def test_a_fault_of_an_expression_is_found(expr: str, fault: str) -> None:
    assert [found for found in expression_faults(expr, METRICS) if fault in found]
