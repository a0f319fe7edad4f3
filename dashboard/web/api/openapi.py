"""The OpenAPI 3.1 description of the JSON API: paths come from the routes, schemas from their bodies and responses."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from flask import Blueprint, Response, current_app, jsonify, url_for
from werkzeug.routing import Rule

from ... import __version__
from ..forms.audit_query import FILTERS, TIMES
from ..forms.request_input import body_of
from ..views.audit_files import CSV_FILE, JSON_LINES
from .responses import ErrorJson, response_types

bp = Blueprint("openapi", __name__, url_prefix="/api/v1")

_PARAMETER = re.compile(r"<(?:(?P<kind>[a-z]+)(?:\((?P<words>[^()<]*)\))?:)?(?P<name>\w+)>")

_TEXT: dict[str, Any] = {"type": "string"}
_WHOLE: dict[str, Any] = {"type": "integer"}
_NUMBER: dict[str, Any] = {"type": "number"}
_TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
_REF = "#/components/schemas/{name}"
# The statuses of errors and what they mean; every response has the same form.
ERRORS = {
    400: "The request is malformed.",
    401: "No session and no API token, or an unknown one.",
    403: "The role does not permit this, or the Redis user, the library or the state of the object does not.",
    404: "There is no such object, or it no longer exists.",
    409: "The object has changed since it was read, or is not in a state that permits this. Nothing was done.",
    415: "The body is not sent as JSON.",
    422: "A field or parameter is unknown or has a wrong value. Nothing was done.",
    503: "A Redis is not responding, or a figure is not known.",
}

_OVER_TIME = {"metric": _TEXT, "from": _TIME, "to": _TIME, "step_s": _WHOLE}
_NARROWED = {"source": _TEXT, "backend": _TEXT}
_AUDIT_FILTERS = {name: _TIME if name in TIMES else _TEXT for name in FILTERS}
QUERIES: dict[str, dict[str, dict[str, Any]]] = {
    "api.overview": {"at": _TIME},
    "api.queue": {"at": _TIME},
    "api.queues": {**_NARROWED, "q": _TEXT},
    "api.scaling": {"target_s": _WHOLE, "min": _WHOLE, "max": _WHOLE, "per_worker_per_min": _NUMBER},
    "api.jobs": {"state": _TEXT, "native": _TEXT, "page": _WHOLE, "per_page": _WHOLE, "q": _TEXT, "cursor": _TEXT},
    "api_history.history": _OVER_TIME,
    "api_history.total_history": _OVER_TIME,
    "api_history.source_history": _OVER_TIME,
    "api_alerting.alerts": {"at": _TIME},
    "api_marks.marks": {"from": _TIME, "to": _TIME},
    "api_incidents.incident": {"range": _TEXT, "from": _TIME, "to": _TIME, **_NARROWED, "queue": _TEXT},
    "api_redis.memory": {"again": _WHOLE},
    "api_redis.leftovers": {"again": _WHOLE},
    "api_history.classes": {
        "at": _TIME,
        "range": _TEXT,
        "since": _TIME,
        "group": _TEXT,
        **_NARROWED,
        "queue": _TEXT,
        "q": _TEXT,
        "sort": _TEXT,
        "dir": _TEXT,
        "page": _WHOLE,
        "per_page": _WHOLE,
    },
    "api.search": {"q": _TEXT, "cursor": _TEXT},
    "api.workers": _NARROWED,
    "api.schedules": _NARROWED,
    "api_dead.dead": {"group_by": _TEXT, **_NARROWED, "queue": _TEXT, "q": _TEXT},
    "api_dead.group": {"page": _WHOLE, "per_page": _WHOLE},
    "api_bulk.works": {"state": _TEXT, "who": _TEXT, "page": _WHOLE, "per_page": _WHOLE},
    "api_audit.audit": {**_AUDIT_FILTERS, "before": _TEXT},
    "api_audit.csv": _AUDIT_FILTERS,
    "api_audit.jsonl": _AUDIT_FILTERS,
    "api_trash.trash": {**_NARROWED, "queue": _TEXT, "who": _TEXT, "bulk_id": _TEXT, "limit": _WHOLE, "cursor": _TEXT},
    "api_trash.batch": {"cursor": _TEXT},
}
# Endpoints that send a file -> its type.
FILES = {"api_audit.csv": CSV_FILE.mimetype, "api_audit.jsonl": JSON_LINES.mimetype}


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
            "schemas": _component_schemas(),
            "responses": {str(status): _json_content(text, _one_of((ErrorJson,))) for status, text in ERRORS.items()},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": current_app.config["SESSION_COOKIE_NAME"]},
            },
        },
    )


def _describe_operation(rule: Rule, method: str) -> dict[str, Any]:
    view = current_app.view_functions[rule.endpoint]
    summary, _, more = (inspect.getdoc(view) or "").partition("\n\n")
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
            "200": _success(rule, view),
            **{str(status): {"$ref": f"#/components/responses/{status}"} for status in _error_statuses(rule, view)},
            "default": _json_content("Error", _one_of((ErrorJson,))),
        },
    }
    if more:
        operation["description"] = more
    shape = body_of(view)
    if shape is not None:
        operation["requestBody"] = _json_content("", _one_of((shape,))) | {"required": _needs_body(shape)}
        del operation["requestBody"]["description"]
    return operation


def _error_statuses(rule: Rule, view: Callable[..., Any]) -> list[int]:
    """The statuses of ERRORS that this route can answer."""
    absent = set[int]()
    if not (rule.methods or set()) & {"POST", "DELETE"}:
        absent |= {409, 415} if rule.arguments else {404, 409, 415}
    if body_of(view) is None:
        absent.add(415)
    return [status for status in ERRORS if status not in absent]


def _needs_body(shape: type[msgspec.Struct]) -> bool:
    return any(field.required for field in msgspec.structs.fields(shape))


def _component_schemas() -> dict[str, Any]:
    """The schemas of all bodies and responses of this app's routes, by component name."""
    views = current_app.view_functions.values()
    bodies = {shape for view in views if (shape := body_of(view)) is not None}
    types = bodies | {ErrorJson} | {each for view in views for each in response_types(view)}
    _, schemas = msgspec.json.schema_components(sorted(types, key=lambda each: each.__name__), ref_template=_REF)
    for name in schemas.keys() - {shape.__name__ for shape in bodies}:
        _require_defaults(schemas[name])
    return {name.removesuffix("Json"): _public_schema(schema) for name, schema in schemas.items()}


def _require_defaults(schema: dict[str, Any]) -> None:
    """Responses contain every field, whether it has a default or not."""
    fields = schema.get("properties", {})
    if fields:
        sent = [name for name, field in fields.items() if "default" in field]
        schema["required"] = [name for name in fields if name in sent or name in schema.get("required", ())]
        for name in sent:
            del fields[name]["default"]


def _public_schema(schema: Any) -> Any:
    """A schema of msgspec with our component names, and with the type of enumerations, which are all texts."""
    if isinstance(schema, dict):
        public = {key: _public_schema(value) for key, value in schema.items()}
        return _TEXT | public if "enum" in public else public
    if isinstance(schema, list):
        return [_public_schema(value) for value in schema]
    return schema.removesuffix("Json") if isinstance(schema, str) else schema


def _one_of(types: Sequence[type[msgspec.Struct]]) -> dict[str, Any]:
    """The schema of a value of one of `types`; any object without types."""
    refs = [{"$ref": _REF.format(name=each.__name__.removesuffix("Json"))} for each in types]
    return refs[0] if len(refs) == 1 else {"anyOf": refs} if refs else {"type": "object"}


def _in_path(rule: Rule) -> list[dict[str, Any]]:
    return [
        {"name": found["name"], "in": "path", "required": True, "schema": _enum_of(found["words"])}
        for found in _PARAMETER.finditer(rule.rule)
    ]


def _enum_of(words: str | None) -> dict[str, Any]:
    return {**_TEXT, "enum": [word.strip() for word in words.split(",")]} if words else _TEXT


def _success(rule: Rule, view: Callable[..., Any]) -> dict[str, Any]:
    if rule.endpoint in FILES:
        return {"description": "Success", "content": {FILES[rule.endpoint]: {"schema": _TEXT}}}
    return _json_content("Success", _one_of(response_types(view)))


def _json_content(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
