"""The JSON that the API returns: structs that are sent as JSON and described in the OpenAPI description."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from flask import Response
from msgspec import UNSET, Meta, UnsetType

from ...errors import QueuedeckError
from ...redact import mask_text
from ..formatting import printable

P = ParamSpec("P")
ResponseT = TypeVar("ResponseT", bound=msgspec.Struct)

# As `clock.iso` writes it.
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]

_DECLARED = "queuedeck_response"
_encoder = msgspec.json.Encoder()


class JsonObject(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A JSON object of the API: the class `QueueJson` is the component `Queue` of the OpenAPI description, with its
    docstring. A field that is UNSET is absent; all others are always present."""


class ErrorDetailJson(JsonObject, frozen=True, kw_only=True):
    """What went wrong. `batch`: after a delete with an unknown outcome, the batch that can be restored."""

    code: str
    message: str
    hint: str | None
    batch: str | UnsetType = UNSET


class ErrorJson(JsonObject, frozen=True, kw_only=True):
    """The response to a request that failed."""

    error: ErrorDetailJson


def json_error(exc: QueuedeckError) -> ErrorDetailJson:
    """An error as the API returns it."""
    return ErrorDetailJson(code=exc.code, message=printable(mask_text(exc.message)), hint=exc.hint)


def json_response(view: Callable[P, ResponseT | tuple[ResponseT, int]]) -> Callable[P, Response]:
    """Decorator: send the struct that the view returns, with its status if it returns one, as JSON.

    The annotation of what the view returns is the schema of the response; see `response_types`.
    """

    @wraps(view)
    def respond(*args: P.args, **kwargs: P.kwargs) -> Response:
        returned = view(*args, **kwargs)
        answer, status = returned if isinstance(returned, tuple) else (returned, 200)
        return Response(encode_json(answer), status, mimetype="application/json")

    setattr(respond, _DECLARED, True)
    return respond


def response_types(view: Callable[..., Any]) -> tuple[type[msgspec.Struct], ...]:
    """The structs that a view with `json_response` may return; () for a view without."""
    if not hasattr(view, _DECLARED):
        return ()
    returned = get_type_hints(view)["return"]
    answer = get_args(returned)[0] if get_origin(returned) is tuple else returned
    return get_args(answer) or (answer,)


def encode_json(answer: msgspec.Struct) -> bytes:
    """`answer` as JSON."""
    try:
        return _encoder.encode(answer)
    except UnicodeEncodeError:
        # Undecodable bytes of names and ids travel as the escapes that Python and JavaScript read back.
        return json.dumps(msgspec.to_builtins(answer), separators=(",", ":"), allow_nan=False).encode()
