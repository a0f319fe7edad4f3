"""Bodies of requests that change something: all of it is read, or the request is refused."""

from __future__ import annotations

from io import BytesIO
from typing import Annotated, Any

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from msgspec import Meta

from dashboard.backends.actions import Action
from dashboard.errors import ConfigurationError, Unsupported
from dashboard.web.app import MAX_REQUEST_BYTES, _answer_errors
from dashboard.web.forms.request_input import Body, decode_object, form_fields, form_flag, install, json_body


class Shape(Body, frozen=True, kw_only=True):
    action: Action = Action.RETRY
    reason: str | None = None
    preview: bool = False
    pace: Annotated[float, Meta(ge=0, le=10)] = 1.0
    canary: int = 0
    ids: tuple[str, ...] = ()


class Needed(Body, frozen=True, kw_only=True):
    version: int


def test_a_body_is_read() -> None:
    raw = '{"action": "delete", "reason": "ä", "preview": true, "pace": 3, "ids": ["a", "\\udcff", "😀"]}'.encode()
    assert decode_object(raw, Shape) == Shape(
        action=Action.DELETE, reason="ä", preview=True, pace=3.0, ids=("a", "\udcff", "😀")
    )
    assert decode_object(b'{"reason": null}', Shape) == decode_object(b"{}", Shape) == Shape()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ('{"dry_run": true}', "Unknown field 'dry_run'. Known fields: action, reason, preview, pace, canary, ids."),
        ('{"previw": true}', "Unknown field 'previw'. Did you mean preview? Known"),
        ('{"reason": 1}', "reason: expected text or null, got a whole number."),
        ('{"preview": "no"}', "preview: expected true or false, got text."),
        ('{"preview": 1}', "preview: expected true or false, got a whole number."),
        ('{"canary": 1.5}', "canary: expected a whole number, got a number."),
        ('{"canary": true}', "canary: expected a whole number, got true or false."),
        ('{"pace": "3"}', "pace: expected a number, got text."),
        ('{"pace": 11}', "pace: expected a number <= 10.0."),
        ('{"ids": "a"}', "ids: expected a list, got text."),
        ('{"ids": [1]}', "ids[0]: expected text, got a whole number."),
        ('{"action": "explode"}', "action: 'explode' is not one of retry, delete,"),
        ('{"action": 1}', "action: expected text, got a whole number."),
        ('{"preview": true, "preview": false}', "'preview': sent twice, expected once."),
        ('{"reason": "\\ud800"}', "reason: contains a lone surrogate, which is not valid text."),
        ('{"ids": ["\\ud800"]}', "ids: contains a lone surrogate, which is not valid text."),
        ('{"pace": NaN}', "NaN is not a valid JSON number."),
        ('{"pace": -Infinity}', "-Infinity is not a valid JSON number."),
        ('{"pace": 1e999}', "The number 1e999 is too large."),
        (f'{{"pace": {"9" * 4000}}}', ""),
        (f'{{"pace": {"9" * 5000}}}', "Invalid JSON."),
        ("[" * 200_000, "The JSON is nested too deeply."),
        ('{"ids": ' + "[" * 200_000, "The JSON is nested too deeply."),
        ('{"a":' * 100_000, "The JSON is nested too deeply."),
        ("[]", "Expected a JSON object."),
        ("null", "Expected a JSON object."),
        ("7", "Expected a JSON object."),
        ("{", "Invalid JSON. Expected a JSON object."),
        (" ", "Invalid JSON."),
        ('{"reason": "a"} x', "Invalid JSON."),
        (b'{"reason": "\xff"}', "Invalid JSON."),
        (b"\xef\xbb\xbf{}", "Invalid JSON."),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_invalid_body_names_the_field(raw: str | bytes, message: str) -> None:
    with pytest.raises(Unsupported) as caught:
        decode_object(raw if isinstance(raw, bytes) else raw.encode(), Shape)
    assert caught.value.message.startswith(message)
    assert len(caught.value.message) < 400


def test_a_field_that_must_be_sent() -> None:
    with pytest.raises(Unsupported, match=r"^version: required.$"):
        decode_object(b"{}", Needed)


def test_a_long_unknown_name_is_cut_before_it_is_compared() -> None:
    with pytest.raises(Unsupported) as caught:
        decode_object(f'{{"{"previe" * 100_000}": 1}}'.encode(), Shape)
    assert len(caught.value.message) < 200


@pytest.fixture
def client() -> FlaskClient:
    """Three routes, as the dashboard has them."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST_BYTES

    @app.get("/api/read")
    def read() -> str:
        return "read"

    @app.post("/api/json")
    @json_body(Shape)
    def as_json(body: Shape) -> dict[str, Any]:
        return {"reason": body.reason, "preview": body.preview}

    @app.post("/api/form")
    @form_fields("name", "for_good", many=("pick",))
    def as_form() -> dict[str, Any]:
        return {"for_good": form_flag("for_good"), "pick": request.form.getlist("pick")}

    @app.get("/api/v1/read")
    def of_the_api() -> dict[str, Any]:
        return dict(request.args)

    _answer_errors(app)
    install(app, {"of_the_api": ("state", "page")})
    return app.test_client()


JSON = {"Content-Type": "application/json"}
CHUNKED = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}


def chunked(client: FlaskClient, path: str, raw: bytes, method: str = "POST", **environ: Any) -> Any:
    """The answer to a body that comes without a length, as a server passes on one in chunks."""
    return client.open(
        path, method=method, input_stream=BytesIO(raw), headers=JSON, environ_overrides=CHUNKED | environ
    )


def test_a_body_without_a_length_is_read(client: FlaskClient) -> None:
    assert chunked(client, "/api/json", b'{"preview": true}').get_json() == {"reason": None, "preview": True}
    assert chunked(client, "/api/json", b'{"previw": true}').status_code == 422
    assert chunked(client, "/api/json", b"").get_json()["preview"] is False
    for raw in (b'{"preview": true}' + b" " * MAX_REQUEST_BYTES, b" " * MAX_REQUEST_BYTES):
        assert chunked(client, "/api/json", raw).status_code == 413
    assert chunked(client, "/api/read", b"{}", "GET").status_code == 400
    assert chunked(client, "/api/read", b"", "GET").status_code == 200


def test_a_server_that_drops_chunks_is_not_trusted_with_them(client: FlaskClient) -> None:
    answer = chunked(client, "/api/json", b'{"preview": true}', **{"wsgi.input_terminated": False})
    assert answer.status_code == 411


def test_a_body_of_another_kind_is_refused(client: FlaskClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert client.post("/api/json", data=b'{"preview": true}', content_type=kind).status_code == 415
    for kind in ("text/plain", "application/json", "multipart/form-data; boundary=x", ""):
        assert client.post("/api/form", data=b"for_good=1", content_type=kind).status_code == 415
    assert client.post("/api/json", data=b"", content_type="text/plain").status_code == 200
    assert client.post("/api/json", data=b"{}", content_type="application/json; charset=utf-8").status_code == 200


def test_a_read_takes_no_body(client: FlaskClient) -> None:
    assert client.get("/api/read", data=b'{"q": 1}', headers=JSON).status_code == 400
    assert client.get("/api/read").status_code == 200


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("sate=dead", "Unknown query parameter 'sate'. Did you mean state? Known query parameters: state, page."),
        ("state=dead&limit=5", "Unknown query parameter 'limit'. Known query parameters: state, page."),
        ("state=dead&state=active", "state: sent 2 times, expected once."),
    ],
)
def test_an_unknown_query_parameter_of_the_api_is_refused(client: FlaskClient, query: str, message: str) -> None:
    answer = client.get(f"/api/v1/read?{query}")
    assert (answer.status_code, answer.get_json()["error"]["message"]) == (422, message)
    assert client.get("/api/v1/read?state=dead&page=2").get_json() == {"state": "dead", "page": "2"}
    # A page keeps the marks that others add to its address.
    assert client.get("/api/read?utm_source=mail").status_code == 200


@pytest.mark.parametrize("path", ["/api/json", "/api/form"])
def test_a_query_parameter_of_a_change_is_refused(client: FlaskClient, path: str) -> None:
    answer = client.post(f"{path}?dry_run=1")
    assert answer.status_code == 422
    assert "dry_run" in answer.get_json()["error"]["message"]


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"forgood": "1"}, "Unknown field 'forgood'. Did you mean for_good? Known fields: name, for_good, pick."),
        ({"name": ["a", "b"]}, "name: sent 2 times, expected once."),
        ({"for_good": "no"}, "for_good: 'no' is not one of 0, 1."),
    ],
)
def test_a_form_with_something_else_is_refused(client: FlaskClient, form: dict[str, Any], message: str) -> None:
    answer = client.post("/api/form", data=form)
    assert (answer.status_code, answer.get_json()["error"]["message"]) == (422, message)


def test_a_form_is_read(client: FlaskClient) -> None:
    answer = client.post("/api/form", data={"for_good": "1", "pick": ["a", "b"]})
    assert answer.get_json() == {"for_good": True, "pick": ["a", "b"]}
    assert client.post("/api/form", data={"for_good": "0"}).get_json() == {"for_good": False, "pick": []}


def test_a_route_that_changes_something_declares_its_input() -> None:
    app = Flask(__name__)
    app.add_url_rule("/x", "x", lambda: "", methods=["PUT"])
    with pytest.raises(ConfigurationError, match="/x"):
        install(app, {})
