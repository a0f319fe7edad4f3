"""The OpenAPI 3.1 description of the JSON API: paths come from the routes, responses from the models."""

from __future__ import annotations

import inspect
import re
from datetime import datetime
from typing import Any

import msgspec
from flask import Blueprint, Response, current_app, jsonify, url_for
from werkzeug.routing import Rule

from ... import __version__
from ...model import RedisHealth, State
from ..forms.request_input import body_of

bp = Blueprint("openapi", __name__, url_prefix="/api/v1")

_PARAMETER = re.compile(r"<(?:(?P<kind>[a-z]+)(?:\((?P<words>[^()<]*)\))?:)?(?P<name>\w+)>")

_TEXT: dict[str, Any] = {"type": "string"}
_WHOLE: dict[str, Any] = {"type": "integer"}
_NUMBER: dict[str, Any] = {"type": "number"}
_FLAG: dict[str, Any] = {"type": "boolean"}
_TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
_OBJECT: dict[str, Any] = {"type": "object"}
_ANY: dict[str, Any] = {}
_STATE: dict[str, Any] = {"type": "string", "enum": [state.value for state in State]}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"]} if "type" in schema else schema


def _array_of(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of}


def _map_of(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": of}


def _schema_ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object_of(properties: dict[str, dict[str, Any]], *optional: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(name for name in properties if name not in optional),
    }


# Fields that only GET …/jobs/{id} returns.
_DETAILS: dict[str, dict[str, Any]] = {
    "payload": _ANY,
    "payload_kind": _or_null(_TEXT),
    "payload_truncated": _FLAG,
    "payload_size_bytes": _or_null(_WHOLE),
    "payload_note": _or_null(_TEXT),
    "options": _ANY,
    "meta": _ANY,
    "result": _ANY,
    "result_truncated": _FLAG,
    "timeline": _array_of(_object_of({"at": _or_null(_TIME), "event": _TEXT, "detail": _or_null(_TEXT)})),
    "parent": {"oneOf": [_schema_ref("JobLink"), {"type": "null"}]},
    "children": _array_of(_schema_ref("JobLink")),
    "children_total": _or_null(_WHOLE),
    "logs": _array_of(_TEXT),
    "logs_total": _or_null(_WHOLE),
    "facts": _map_of(_ANY),
    "stamp": _or_null(_TEXT),
    "capabilities": _array_of(_TEXT),
}
_HEALTH = {
    str: _TEXT,
    int: _WHOLE,
    float: _NUMBER,
    bool: _FLAG,
    datetime: _TIME,
}


def _health_schema() -> dict[str, Any]:
    """The fields of RedisHealth; each may be null."""
    hints = inspect.get_annotations(RedisHealth, eval_str=True)
    fields = {}
    for name, hint in hints.items():
        kinds = [kind for kind in getattr(hint, "__args__", (hint,)) if kind in _HEALTH]
        fields[name] = _or_null(_HEALTH[kinds[0]]) if kinds else _ANY
    return _object_of(fields)


SCHEMAS: dict[str, dict[str, Any]] = {
    "Error": _object_of(
        {"error": _object_of({"code": _TEXT, "message": _TEXT, "hint": _or_null(_TEXT), "batch": _TEXT}, "batch")}
    ),
    "Queue": _object_of(
        {
            **dict.fromkeys(("source", "backend", "name"), _TEXT),
            **dict.fromkeys(("prefix", "library_version", "flow_reason", "error"), _or_null(_TEXT)),
            "paused": _or_null(_FLAG),
            "shared": _FLAG,
            "counts": _object_of({state.value: _or_null(_WHOLE) for state in State}),
            "native_counts": _map_of(_or_null(_WHOLE)),
            **dict.fromkeys(("depth", "workers"), _or_null(_WHOLE)),
            **dict.fromkeys(
                (
                    *("latency_s", "overdue_s", "throughput_per_min", "failed_per_min", "error_ratio"),
                    *("runtime_p50_s", "runtime_p95_s"),
                ),
                _or_null(_NUMBER),
            ),
            "flow_quality": {"type": "string", "enum": ["exact", "estimated", "unknown"]},
            "at_least": _array_of(_STATE),
            "notes": _array_of(_TEXT),
            "read_only": _or_null(_TEXT),
            "capabilities": _array_of(_TEXT),
        }
    ),
    "Job": _object_of(
        {
            **dict.fromkeys(("id", "source", "backend"), _TEXT),
            **dict.fromkeys(("queue", "name", "worker", "summary", "problem"), _or_null(_TEXT)),
            "native_state": _or_null(_TEXT)
            | {
                "description": "The library's own name of the state. For Celery also `queued, revoked` (workers will "
                "discard the job) and `reserved or running` (a worker has the job; Celery does not record whether it "
                "has started)."
            },
            "state": {"enum": [*(state.value for state in State), None]},
            **dict.fromkeys(("enqueued_at", "scheduled_for", "started_at", "finished_at"), _or_null(_TIME)),
            **dict.fromkeys(("attempts", "max_attempts"), _or_null(_WHOLE)),
            "priority": _ANY,
            "progress": _ANY,
            "error": {
                "oneOf": [
                    _object_of(dict.fromkeys(("class", "message", "stack"), _or_null(_TEXT))),
                    {"type": "null"},
                ]
            },
            **_DETAILS,
            "found_in": _TEXT,
        },
        *_DETAILS,
        "found_in",
    ),
    "JobLink": _object_of(
        {
            "id": _TEXT,
            **dict.fromkeys(("queue", "source", "backend", "state", "native_state"), _or_null(_TEXT)),
        }
    ),
    "Redis": _health_schema(),
    "Source": _object_of(
        {
            "name": _TEXT,
            **dict.fromkeys(("address", "error", "hint"), _or_null(_TEXT)),
            "reachable": _FLAG,
            "unreachable_since": _or_null(_TIME),
            "libraries": _array_of(_TEXT),
            "discovered": _FLAG,
            "search_progress": _or_null(_NUMBER),
            "problems": _array_of(_TEXT),
            "together_per_min": _or_null(_NUMBER),
            "cost": _object_of(dict.fromkeys(("commands", "round_trips", "duration_s"), _or_null(_NUMBER))),
            "redis": _schema_ref("Redis"),
        }
    ),
    "Overview": _object_of(
        {
            "sampled_at": _or_null(_TIME),
            "age_s": _or_null(_NUMBER),
            "stale": _FLAG,
            "other_settings": _or_null(_TEXT),
            "sources": _array_of(_schema_ref("Source")),
            "totals": _map_of(_or_null(_NUMBER)),
            "totals_at_least": _array_of(_STATE),
            "queues": _array_of(_schema_ref("Queue")),
            "alerts": _or_null(_array_of(_OBJECT)),
        }
    ),
    "Queues": _object_of({"queues": _array_of(_schema_ref("Queue")), "total": _WHOLE}),
    "Jobs": _object_of(
        {
            "jobs": _array_of(_schema_ref("Job")),
            "page": _WHOLE,
            "per_page": _WHOLE,
            "total": _or_null(_WHOLE),
            "at_least": _FLAG,
            "order": _TEXT,
            "scanned": _or_null(_WHOLE),
            "truncated": _FLAG,
            "cursor": _or_null(_TEXT),
            "problems": _array_of(_TEXT)
            | {"description": "What could not be read, and why. Its jobs are neither listed nor counted in `total`."},
        },
        "cursor",
    ),
    "History": _object_of(
        {
            "metric": _TEXT,
            "unit": _TEXT,
            "step_s": _WHOLE,
            "points": _array_of(
                {"type": "array", "prefixItems": [_TIME, _or_null(_NUMBER)], "minItems": 2, "maxItems": 2}
            ),
        }
    ),
    "Servers": _object_of({"sources": _array_of(_OBJECT), "total": _WHOLE}),
    "PutBack": _object_of(
        {
            **dict.fromkeys(("restored", "changed"), _WHOLE),
            "refused": _array_of(_object_of({"id": _TEXT, "outcome": _TEXT, "detail": _or_null(_TEXT)})),
            "bulk_id": _or_null(_TEXT),
        }
    ),
    "Acted": _object_of(
        {
            "outcome": {"type": "string", "enum": ["done", "gone", "changed", "refused", "invalid", "unsupported"]},
            "detail": _or_null(_TEXT),
        }
    ),
}
# Endpoint -> schema of its response, where that is more than an object.
ANSWERS: dict[str, str] = {
    "api.overview": "Overview",
    "api.queues": "Queues",
    "api.queue": "Queue",
    "api_history.history": "History",
    "api.jobs": "Jobs",
    "api.job": "Job",
    "api.redis": "Servers",
    "api_acts.on_job": "Acted",
    "api_acts.on_queue": "Acted",
    "api_acts.undo": "PutBack",
}
_NARROWED = {"source": _TEXT, "backend": _TEXT}
QUERIES: dict[str, dict[str, dict[str, Any]]] = {
    "api.queues": {**_NARROWED, "q": _TEXT},
    "api.jobs": {"state": _TEXT, "native": _TEXT, "page": _WHOLE, "per_page": _WHOLE, "q": _TEXT, "cursor": _TEXT},
    "api_history.history": {"metric": _TEXT, "from": _TIME, "to": _TIME, "step_s": _WHOLE},
    "api.search": {"q": _TEXT, "cursor": _TEXT},
    "api.workers": _NARROWED,
    "api.schedules": _NARROWED,
    "api_dead.dead": {"group_by": _TEXT, **_NARROWED, "queue": _TEXT, "q": _TEXT},
    "api_dead.group": {"page": _WHOLE, "per_page": _WHOLE},
    "api_audit.audit": {"before": _TEXT},
}


@bp.get("/openapi.json")
def openapi() -> Response:
    """Retrieve this OpenAPI description."""
    paths: dict[str, dict[str, Any]] = {}
    for rule in current_app.url_map.iter_rules():
        if rule.rule.startswith("/api/v1/"):
            path = _PARAMETER.sub(r"{\g<name>}", rule.rule.removeprefix("/api/v1"))
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                paths.setdefault(path, {})[method.lower()] = _describe_operation(rule, method)
    return jsonify(
        openapi="3.1.0",
        info={
            "title": "Queuedeck",
            "version": __version__,
            "description": "Unknown values are null. Times are ISO 8601 in UTC. Durations end in `_s` (seconds), sizes "
            "in `_bytes`, ratios (0 to 1) in `_ratio`. Percent-encode names and ids in paths, including slashes.",
        },
        servers=[{"url": url_for("api.overview").removesuffix("/overview")}],
        security=[{"token": []}, {"session": []}],
        paths=paths,
        components={
            "schemas": SCHEMAS | _body_schemas(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": current_app.config["SESSION_COOKIE_NAME"]},
            },
        },
    )


def _describe_operation(rule: Rule, method: str) -> dict[str, Any]:
    summary, _, more = (inspect.getdoc(current_app.view_functions[rule.endpoint]) or "").partition("\n\n")
    answer = ANSWERS.get(rule.endpoint)
    operation: dict[str, Any] = {
        "operationId": f"{rule.endpoint}.{method.lower()}",
        "tags": [rule.endpoint.partition(".")[0]],
        "summary": " ".join(summary.split()),
        "parameters": [
            *_in_path(rule),
            *(
                {"name": name, "in": "query", "schema": schema}
                for name, schema in QUERIES.get(rule.endpoint, {}).items()
            ),
        ],
        "responses": {
            "200": _json_content("Success", _schema_ref(answer) if answer else _OBJECT),
            "default": _json_content("Error", _schema_ref("Error")),
        },
    }
    if more:
        operation["description"] = more
    shape = body_of(current_app.view_functions[rule.endpoint])
    if shape is not None:
        operation["requestBody"] = _json_content("", _schema_ref(shape.__name__)) | {"required": _needs_body(shape)}
        del operation["requestBody"]["description"]
    return operation


def _needs_body(shape: type[msgspec.Struct]) -> bool:
    return any(field.required for field in msgspec.structs.fields(shape))


def _body_schemas() -> dict[str, Any]:
    """The schemas of all request bodies of this app's routes."""
    shapes = {shape for view in current_app.view_functions.values() if (shape := body_of(view)) is not None}
    _, schemas = msgspec.json.schema_components(
        sorted(shapes, key=lambda shape: shape.__name__), ref_template="#/components/schemas/{name}"
    )
    return schemas


def _in_path(rule: Rule) -> list[dict[str, Any]]:
    return [
        {"name": found["name"], "in": "path", "required": True, "schema": _enum_of(found["words"])}
        for found in _PARAMETER.finditer(rule.rule)
    ]


def _enum_of(words: str | None) -> dict[str, Any]:
    return {**_TEXT, "enum": [word.strip() for word in words.split(",")]} if words else _TEXT


def _json_content(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
