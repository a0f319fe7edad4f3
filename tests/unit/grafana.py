"""What Grafana and Prometheus require of docs/grafana, as far as it can be checked without them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

Metrics = Mapping[str, tuple[str, frozenset[str]]]  # name of the samples -> (type, labels)

# Panels of Grafana 10 to 12; `graph`, `singlestat`, `table-old` and others were removed.
PANELS = {"row", "timeseries", "stat", "table", "state-timeline", "bargauge", "gauge", "heatmap", "text"}
UNITS = {"short", "s", "cpm", "ops", "bytes", "percentunit"}
COLUMNS = 24
_METRIC = re.compile(r"queuedeck_[a-z0-9_]+")
_USE = re.compile(
    r"(?:(?P<function>\w+)\()?(?P<metric>queuedeck_[a-z0-9_]+)(?:\{(?P<match>[^{}]*)\})?(?P<range>\[\S+?\])?"
)
_MATCHER = re.compile(r'\s*(?P<label>\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*"\s*')
_BY = re.compile(r"\bby \(([^()]*)\)")
_VARIABLE = re.compile(r"\$\{?(?P<name>[A-Za-z_]\w*)")
_BUILT_IN = {"__rate_interval", "__all", "__data"}
_DURATION = re.compile(r"(?:\d+(?:ms|[smhdwy]))+")
_GROWS = {"rate", "increase"}


def expression_faults(expr: str, metrics: Metrics) -> Iterator[str]:
    """Metrics and labels that do not exist, and functions that are wrong for the type of a metric."""
    if expr.count("(") != expr.count(")") or expr.count("{") != expr.count("}"):
        yield f"unbalanced: {expr}"
    if not _METRIC.search(expr):
        yield f"no metric of ours: {expr}"
    labels: set[str] = set()
    for use in _USE.finditer(expr):
        kind, known = metrics.get(use["metric"], ("", frozenset()))
        labels |= known
        if not kind:
            yield f"no such metric: {use['metric']}"
            continue
        matched = [_MATCHER.fullmatch(part) for part in (use["match"] or "").split(",") if use["match"]]
        if not all(matched):
            yield f"not a matcher: {use['match']}"
        yield from (f"{use['metric']} has no label {m['label']}" for m in matched if m and m["label"] not in known)
        if (kind == "counter") != (use["function"] in _GROWS):
            yield f"{use['metric']} is a {kind}: {use['function']}"
        if bool(use["range"]) != (use["function"] in _GROWS | {"deriv", "delta"}):
            yield f"range of {use['metric']}: {use['range']}"
    for names in _BY.findall(expr):
        yield from (f"by {name.strip()}: no metric has it" for name in names.split(",") if name.strip() not in labels)


def rule_file_faults(document: Any, metrics: Metrics) -> Iterator[str]:
    """What Prometheus refuses in a file of rules, and what an operator would miss in it."""
    if set(document) != {"groups"}:
        yield f"fields of the file: {sorted(document)}"
        return
    names = [group["name"] for group in document["groups"]]
    if len(set(names)) < len(names):
        yield f"groups of the same name: {names}"
    for group in document["groups"]:
        if set(group) - {"name", "interval", "rules"}:
            yield f"fields of a group: {sorted(group)}"
        for rule in group["rules"]:
            yield from (f"{rule.get('alert')}: {fault}" for fault in _rule_faults(rule, metrics))


def _rule_faults(rule: dict[str, Any], metrics: Metrics) -> Iterator[str]:
    if set(rule) - {"alert", "expr", "for", "labels", "annotations"}:
        yield f"fields: {sorted(rule)}"
    if not re.fullmatch(r"[A-Z][A-Za-z]+", rule.get("alert", "")):
        yield "name"
    if not _DURATION.fullmatch(rule.get("for", "0s")):
        yield f"for {rule['for']}"
    if rule.get("labels", {}).get("severity") not in ("warning", "critical"):
        yield "severity"
    if set(rule.get("annotations", {})) != {"summary", "description"}:
        yield "annotations"
    yield from expression_faults(rule.get("expr", ""), metrics)
    by = {name.strip() for names in _BY.findall(rule.get("expr", "")) for name in names.split(",")}
    for text in rule.get("annotations", {}).values():
        if text.count("{{") != text.count("}}") or "\n" in text.strip():
            yield f"text: {text}"
        yield from (f"{name} is not in the alert" for name in re.findall(r"\$labels\.(\w+)", text) if name not in by)


def dashboard_faults(document: dict[str, Any], metrics: Metrics) -> Iterator[str]:
    """What Grafana would refuse, repair silently, or show as an empty panel."""
    required = {
        "title": str,
        "uid": str,
        "schemaVersion": int,
        "panels": list,
        "templating": dict,
        "time": dict,
        "refresh": str,
        "tags": list,
        "editable": bool,
        "annotations": dict,
    }
    yield from (
        f"{name} of the dashboard" for name, kind in required.items() if not isinstance(document.get(name), kind)
    )
    if document.get("id") is not None:
        yield "an id belongs to one Grafana: an import would overwrite another dashboard"
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", document["uid"]):
        yield "uid"
    if not 36 <= document["schemaVersion"] <= 42:
        yield f"schemaVersion {document['schemaVersion']}"
    variables = [variable["name"] for variable in document["templating"]["list"]]
    for variable in document["templating"]["list"]:
        yield from _variable_faults(variable, metrics)
    text = repr(document)
    used = {found["name"] for found in _VARIABLE.finditer(text)} - _BUILT_IN
    yield from (f"variable {name} is not defined" for name in used - set(variables))
    yield from (f"variable {name} is not used" for name in set(variables) - used)
    ids = Counter(panel["id"] for panel in document["panels"])
    yield from (f"panels of the same id: {number}" for number, count in ids.items() if count > 1)
    yield from _layout_faults(document["panels"])
    for panel in document["panels"]:
        yield from (f"{panel['title']}: {fault}" for fault in _panel_faults(panel, metrics))


def _variable_faults(variable: dict[str, Any], metrics: Metrics) -> Iterator[str]:
    name = variable["name"]
    if variable["type"] not in ("datasource", "query", "textbox"):
        yield f"type of variable {name}"
    if variable["type"] == "query":
        query = variable["query"]["query"]
        found = re.fullmatch(r"label_values\((?P<series>.*), (?P<label>\w+)\)", query)
        if variable["definition"] != query or found is None:
            yield f"query of variable {name}"
        elif found["label"] not in metrics.get(found["series"].partition("{")[0], ("", frozenset()))[1]:
            yield f"variable {name}: no label {found['label']}"
        if not (variable["multi"] and variable["includeAll"] and variable["allValue"]):
            yield f"variable {name} cannot be all"


def _layout_faults(panels: list[dict[str, Any]]) -> Iterator[str]:
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        if place["x"] + place["w"] > COLUMNS or not cells:
            yield f"{panel['title']}: width"
        if cells & taken:
            yield f"{panel['title']}: lies over another panel"
        taken |= cells


def _panel_faults(panel: dict[str, Any], metrics: Metrics) -> Iterator[str]:
    if panel["type"] not in PANELS:
        yield f"type {panel['type']}"
    if not panel["title"]:
        yield "title"
    if panel["type"] == "row":
        return
    defaults = panel["fieldConfig"]["defaults"]
    if not panel.get("description"):
        yield "description"
    if defaults.get("unit") not in UNITS:
        yield f"unit {defaults.get('unit')}"
    steps = defaults["thresholds"]["steps"]
    values = [step["value"] for step in steps]
    if values[0] is not None or values[1:] != sorted(values[1:]) or not all(step["color"] for step in steps):
        yield f"thresholds {values}"
    refs = [target["refId"] for target in panel["targets"]]
    if not refs or len(set(refs)) < len(refs):
        yield f"queries {refs}"
    for part in (panel, *panel["targets"]):
        if part["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
            yield f"data source {part['datasource']}"
    for target in panel["targets"]:
        if target["range"] == target["instant"]:
            yield f"query {target['refId']} is both or neither of range and instant"
        yield from expression_faults(target["expr"], metrics)
