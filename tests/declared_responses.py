"""Whether what an app answers is what its views declare, in all tests that ask it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from flask import Flask, Response, request

from dashboard.web.api.responses import ErrorJson, response_types


def note_undeclared(app: Flask) -> list[str]:
    """Grows with each response of the API that does not fit the struct that its view declares."""
    undeclared: list[str] = []

    @app.after_request
    def check(response: Response) -> Response:
        types = response_types(app.view_functions[request.endpoint]) if request.endpoint else ()
        if types:
            allowed = types if response.status_code < 300 else (*types, ErrorJson)
            why = [_misfit(json.loads(response.get_data()), each) for each in allowed]
            if all(why):
                undeclared.append(f"{request.method} {request.path} {response.status_code}: {why}")
        return response

    return undeclared


def _misfit(value: Any, declared: type[msgspec.Struct]) -> str | None:
    try:
        msgspec.convert(value, declared)
    except msgspec.ValidationError as exc:
        return str(exc)
    return None
