"""What views return, as JSON and as types of the description."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask
from msgspec import UNSET

from dashboard.backends.actions import Outcome
from dashboard.errors import NotFound
from dashboard.web.api.action_json import ActedJson, BulkOperationJson, PutBackJson
from dashboard.web.api.responses import (
    ErrorDetailJson,
    ErrorJson,
    encode_json,
    json_error,
    json_response,
    response_types,
)


@json_response
def plain() -> ErrorJson:
    return ErrorJson(error=ErrorDetailJson(code="c", message="m", hint=None))


@json_response
def with_status() -> tuple[ErrorJson, int]:
    return ErrorJson(error=ErrorDetailJson(code="c", message="m", hint=None)), 418


@json_response
def either() -> tuple[BulkOperationJson | PutBackJson, int]:
    return PutBackJson(restored=1, changed=0, refused=[], bulk_id=None), 200


def undeclared() -> Any:
    return {}


def _decoded(message: str) -> Any:
    return json.loads(encode_json(ErrorDetailJson(code="c", message=message, hint=None)))


def test_a_view_returns_a_struct_and_perhaps_a_status() -> None:
    with Flask("test").test_request_context():
        assert (plain().status_code, with_status().status_code) == (200, 418)
        assert plain().mimetype == "application/json"
        assert plain().get_json() == {"error": {"code": "c", "message": "m", "hint": None}}


def test_the_types_of_a_response_are_those_of_the_annotation() -> None:
    assert response_types(plain) == response_types(with_status) == (ErrorJson,)
    assert set(response_types(either)) == {BulkOperationJson, PutBackJson}
    assert response_types(undeclared) == ()


@pytest.mark.parametrize("text", ["plain", "日本 é", "undecodable \udcff", '"\\\n\0', "\u2028"])
def test_any_text_is_read_back_as_it_was(text: str) -> None:
    assert _decoded(text)["message"] == text


@pytest.mark.parametrize("detail", ["plain", "undecodable \udcff"])
def test_an_unset_field_is_absent_and_an_unknown_one_is_null(detail: str) -> None:
    found = json.loads(encode_json(ActedJson(outcome=Outcome.DONE, detail=detail, new_id=None, undo=UNSET)))
    assert found == {"outcome": "done", "detail": detail, "new_id": None}


def test_an_error_shows_no_secret() -> None:
    found = json_error(NotFound("redis://:secret@host is gone", hint="h"))
    assert (found.code, found.hint) == ("not_found", "h")
    assert "secret" not in found.message
