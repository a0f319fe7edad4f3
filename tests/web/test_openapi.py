"""The description of the JSON API against what it really answers."""

from __future__ import annotations

import json
import re
from itertools import product
from typing import Any

import pytest
from flask.testing import FlaskClient

from dashboard.web.api.openapi import FILES, QUERIES
from dashboard.web.api.responses import response_types
from tests.cases import failures_of
from tests.golden.files import FOLDER
from tests.web.conftest import MakeApp

ANSWERED = {
    "/overview": "/overview",
    "/queues": "/queues",
    "/redis": "/redis",
    "/redis/{source}": "/redis/main",
    "/redis/{source}/memory": "/redis/main/memory",
    "/redis/{source}/leftovers": "/redis/main/leftovers",
    "/queues/{source}/{backend}/{name}": "/queues/main/rq/mail",
    "/queues/{source}/{backend}/{name}/history": "/queues/main/rq/mail/history",
    "/history": "/history?metric=throughput_per_min",
    "/sources/{source}/history": "/sources/main/history",
    "/queues/{source}/{backend}/{name}/jobs": "/queues/main/rq/mail/jobs?state=waiting",
    "/queues/{source}/{backend}/{name}/jobs/{job_id}": "/queues/main/rq/mail/jobs/{job}",
    "/queues/{source}/{backend}/{name}/classes": "/queues/main/rq/mail/classes",
    "/search": "/search?q=mail",
    **{path: path for path in ("/workers", "/schedules", "/dead", "/alerts", "/silences", "/deliveries", "/rules")},
    **{path: path for path in ("/bulk", "/undo", "/audit")},
    "/rules/{rule_id}": "/rules/checker-slow",
}
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}


def _fits(value: Any, schema: dict[str, Any], described: dict[str, Any], where: str) -> None:
    if "$ref" in schema:
        schema = described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        first, second = schema["anyOf"]
        if "$ref" in second:  # of now, or as of a moment; without `at`, that of now
            _fits(value, first, described, where)
            return
        assert second == {"type": "null"}, where
        if value is not None:
            _fits(value, first, described, where)
        return
    if "enum" in schema:
        assert value in schema["enum"], where
    if "type" in schema:
        assert isinstance(value, TYPES[schema["type"]]), f"{where}: {value!r}"
        assert not (isinstance(value, bool) and schema["type"] != "boolean"), where
    if isinstance(value, dict) and "properties" in schema:
        assert set(value) <= set(schema["properties"]), f"{where}: {set(value) - set(schema['properties'])}"
        required = set(schema.get("required", ()))
        assert set(value) >= required, f"{where}: {required - set(value)}"
        for name, part in value.items():
            _fits(part, schema["properties"][name], described, f"{where}.{name}")
    if isinstance(value, list):
        first_ones = schema.get("prefixItems", ())
        assert schema.get("items") is not False or len(value) == len(first_ones), where
        for number, part in enumerate(value):
            each = first_ones[number] if number < len(first_ones) else schema.get("items", {})
            _fits(part, each, described, f"{where}[{number}]")


@pytest.fixture
def described(client: FlaskClient) -> dict[str, Any]:
    answer: dict[str, Any] = client.get("/api/v1/openapi.json").get_json()
    return answer


def test_responses_match_the_description(client: FlaskClient, described: dict[str, Any], jobs: list[str]) -> None:
    def check(path: str, address: str) -> None:
        schema = described["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        answer = client.get("/api/v1" + address.format(job=jobs[0]))
        assert answer.status_code == 200
        _fits(answer.get_json(), schema, described, path)

    assert failures_of(check, ANSWERED.items()) == {}


def test_errors_match_the_description(client: FlaskClient, described: dict[str, Any]) -> None:
    answer = client.get("/api/v1/queues/main/rq/none")
    assert answer.status_code == 404
    _fits(answer.get_json(), {"$ref": "#/components/schemas/Error"}, described, "error")


def test_every_route_is_described(make_app: MakeApp) -> None:
    app = make_app()
    described = app.test_client().get("/api/v1/openapi.json").get_json()
    routes = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith("/api/")]
    operations = [operation for path in described["paths"].values() for operation in path.values()]
    assert len(operations) == sum(len((rule.methods or set()) - {"HEAD", "OPTIONS"}) for rule in routes)
    assert all(operation["summary"] for operation in operations)
    assert {rule.endpoint for rule in routes} >= {*QUERIES}
    (act,) = (path for path in described["paths"] if path.endswith("/jobs/{job_id}/{verb}"))
    assert set(described["paths"][act]) == {"post"}


def test_every_request_body_is_described_as_it_is_read(client: FlaskClient, described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    posts = [operations["post"] for operations in described["paths"].values() if "post" in operations]
    assert len(posts) >= 8
    for operation in posts:
        ref = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        schema = schemas[ref.rpartition("/")[2]]
        assert schema["additionalProperties"] is False
        assert operation["requestBody"]["required"] == bool(schema.get("required"))
    bulk = schemas["BulkBody"]
    assert bulk["required"] == ["action"]
    assert "retry" in schemas[bulk["properties"]["action"]["$ref"].rpartition("/")[2]]["enum"]
    assert bulk["properties"]["pace_per_s"]["maximum"] == 100_000
    assert {"metric", "warning", "version"} <= set(schemas["RuleBody"]["properties"])
    assert schemas["RuleBody"]["required"] == ["id", "metric"]


def test_every_answer_has_a_schema(make_app: MakeApp) -> None:
    app = make_app()
    routes = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith("/api/v1/")]
    without = {rule.endpoint for rule in routes if not response_types(app.view_functions[rule.endpoint])}
    assert without == {"openapi.openapi", *FILES}


def test_every_error_that_a_route_answers_is_described(described: dict[str, Any]) -> None:
    """As the committed answers of all routes have them; 405 is about the address, not about a route."""
    answered = {
        (route, status)
        for file in (FOLDER / "shapes").glob("*.json")
        for route, by_status in json.loads(file.read_text()).items()
        for status in by_status
        if status >= "400" and not route.startswith("(no route)")
    }
    assert len(answered) > 30
    missing = []
    for route, status in sorted(answered):
        path, _, method = re.sub(r": [^}]*(?=})", "", route.removeprefix("/api/v1")).rpartition(" ")
        if status not in described["paths"][path][method.lower()]["responses"]:
            missing.append((route, status))
    assert missing == []
    get = described["paths"]["/overview"]["get"]["responses"]
    assert not {"404", "409", "415"} & set(get)
    assert "Nothing was done" in described["components"]["responses"]["409"]["description"]
    references = set(re.findall(r'"#/components/responses/(\w+)"', json.dumps(described)))
    assert references == set(described["components"]["responses"])


def test_a_method_that_an_address_does_not_have_is_named_as_that(client: FlaskClient) -> None:
    def check(path: str, method: str) -> None:
        answer = client.open(path, method=method)
        assert answer.status_code == 405
        assert "GET" in answer.headers["Allow"]

    paths = ("/api/v1/overview", "/", "/queues/main/rq/mail", "/bulk")
    assert failures_of(check, product(paths, ("PUT", "DELETE", "PATCH", "TRACE"))) == {}


def test_every_reference_is_to_a_schema(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    found = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described)))
    assert found <= set(schemas)
    assert not [name for name in schemas if name.endswith("Json")]


def test_what_a_response_always_has_is_required(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    assert set(schemas["Redis"]["required"]) == set(schemas["Redis"]["properties"])
    assert set(schemas["Rule"]["required"]) == set(schemas["Rule"]["properties"])
    assert set(schemas["Jobs"]["properties"]) - set(schemas["Jobs"]["required"]) == {"cursor"}


def test_read_only_mode_describes_no_actions(make_app: MakeApp) -> None:
    described = make_app(read_only=True).test_client().get("/api/v1/openapi.json").get_json()
    # Reveals what is masked, and changes no queue.
    reveal = "/queues/{source}/{backend}/{name}/jobs/{job_id}/reveal"
    assert [path for path, methods in described["paths"].items() if "post" in methods] == [reveal]


def test_the_description_names_the_mount_path(client: FlaskClient) -> None:
    answer = client.get("/api/v1/openapi.json", environ_overrides={"SCRIPT_NAME": "/queues"})
    assert answer.get_json()["servers"] == [{"url": "/queues/api/v1"}]
