"""The input of requests. Every field is known and checked, or the request is rejected.

A view that changes something declares its input with `json_body` or `form_fields`; `install` raises for one that
declares none. An unknown field must not be ignored: an ignored `dry_run` deletes jobs. Reads of the API accept the
query parameters in the OpenAPI description: a filter with a typo would show everything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum
from functools import wraps
from typing import Any, Concatenate, Literal, NoReturn, ParamSpec, TypeVar, get_args, get_origin

import msgspec
from flask import Flask, request
from werkzeug.exceptions import BadRequest, HTTPException, LengthRequired, RequestEntityTooLarge, UnsupportedMediaType

from ...backends.payloads.nesting import is_too_deep
from ...errors import ConfigurationError, Unsupported
from ...spelling import close_name
from ..access.security import SAFE_METHODS
from ..formatting import printable

P = ParamSpec("P")
R = TypeVar("R")

FORM = "application/x-www-form-urlencoded"
API = "/api/v1/"
OBJECT = "Expected a JSON object."
OBJECT_HINT = 'Send an object such as {"reason": "…"}, or no body.'
# Longer unknown names are cut before they are compared and shown.
MAX_SHOWN = 60
_DECLARED = "queuedeck_input"
# msgspec's name of a type -> its name in messages.
_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON body of one route; subclasses define its fields."""


BodyT = TypeVar("BodyT", bound=msgspec.Struct)


def json_body(shape: type[BodyT]) -> Callable[[Callable[Concatenate[BodyT, P], R]], Callable[P, R]]:
    """Decorator: call the view with the body as `shape`; no body counts as {}.

    The request is rejected with 422 for a body of another shape or any query parameter, with 415 for a body that is not
    sent as JSON.
    """

    def declare(view: Callable[Concatenate[BodyT, P], R]) -> Callable[P, R]:
        @wraps(view)
        def read(*args: P.args, **kwargs: P.kwargs) -> R:
            _refuse_query()
            return view(_read_json(shape), *args, **kwargs)

        setattr(read, _DECLARED, shape)
        return read

    return declare


def form_fields(*names: str, many: Collection[str] = ()) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: reject a form with fields other than `names` and `many`, or with one of `names` more than once (422).

    A body that is not a form is rejected with 415, any query parameter with 422.
    """

    def declare(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        def read(*args: P.args, **kwargs: P.kwargs) -> R:
            _refuse_query()
            if read_body() and request.mimetype != FORM:
                raise UnsupportedMediaType(f"Send the form as {FORM}.")
            check_form(*names, many=many)
            return view(*args, **kwargs)

        setattr(read, _DECLARED, (*names, *many))
        return read

    return declare


def body_of(view: Any) -> type[msgspec.Struct] | None:
    """The shape of the JSON body that a view declares; None if it declares none."""
    declared = getattr(view, _DECLARED, None)
    return declared if isinstance(declared, type) and issubclass(declared, msgspec.Struct) else None


def install(app: Flask, parameters: Mapping[str, Collection[str]]) -> None:
    """Reject bodies of reads, and query parameters of API reads other than `parameters`, by endpoint.

    Raises ConfigurationError for a route that changes something and declares no input.
    """
    for rule in app.url_map.iter_rules():
        changes = (rule.methods or set()) - SAFE_METHODS
        if changes and not hasattr(app.view_functions[rule.endpoint], _DECLARED):
            raise ConfigurationError(
                f"route {rule.rule} ({rule.endpoint}) declares no input: web/forms/request_input.py"
            )

    @app.before_request
    def refuse_body() -> None:
        if request.method in SAFE_METHODS and read_body():
            raise BadRequest(f"A {request.method} request cannot have a body; put parameters in the URL.")
        if request.method in SAFE_METHODS and request.path.startswith(API) and request.endpoint:
            _check_query(parameters.get(request.endpoint, ()))


def read_body() -> bytes:
    """The body, with Content-Length or chunked; b"" without one.

    Raises 400 for malformed chunks, 413 above MAX_CONTENT_LENGTH (for a chunked body, from that length on),
    and 411 where the server does not pass on chunked bodies.
    """
    chunked = "Transfer-Encoding" in request.headers and request.content_length is None
    if chunked and not request.environ.get("wsgi.input_terminated"):
        raise LengthRequired("This server does not support chunked bodies; send Content-Length.")
    try:
        raw = request.get_data()
    except HTTPException:
        raise
    except Exception as exc:  # each server has its own errors for malformed chunks
        raise BadRequest("The body cannot be read: its chunks are malformed, or it ended early.") from exc
    most = request.max_content_length
    # Werkzeug silently cuts a chunked body at the limit.
    if chunked and most is not None and len(raw) >= most:
        raise RequestEntityTooLarge()
    return raw


def _refuse_query() -> None:
    for name in request.args:
        raise Unsupported(
            f"Unknown query parameter {_shown_text(name)}: this endpoint takes none.",
            hint="Send fields in the body.",
        )


def _check_query(known: Collection[str]) -> None:
    for name, values in request.args.lists():
        if name not in known:
            raise _unknown_error(name, known, "query parameter")
        if len(values) > 1:
            raise Unsupported(f"{name}: sent {len(values)} times, expected once.")


def check_form(*names: str, many: Collection[str] = ()) -> None:
    """Raise Unsupported for a form with other fields, or with one of `names` more than once."""
    for name, values in request.form.lists():
        if name not in names and name not in many:
            raise _unknown_error(name, (*names, *many))
        if name not in many and len(values) > 1:
            raise Unsupported(f"{name}: sent {len(values)} times, expected once.")


def form_flag(name: str) -> bool:
    """Whether a checkbox of the form is checked. Raises Unsupported for a value other than 1, 0 and empty."""
    return form_word(name, "0", "1") == "1"


def form_word(name: str, *words: str) -> str:
    """The value of a field, one of `words` or "". Raises Unsupported for any other."""
    word: str = request.form.get(name, "")
    if word not in ("", *words):
        raise Unsupported(f"{name}: {_shown_text(word)} is not one of {', '.join(words)}.")
    return word


def decode_object(raw: bytes, shape: type[BodyT]) -> BodyT:
    """A JSON object as `shape`. Raises Unsupported, naming the field, for anything else.

    Rejects duplicate keys, NaN, numbers that exceed a double, text with lone surrogates and too deep nesting.
    """
    if is_too_deep(raw):
        raise Unsupported("The JSON is nested too deeply.")
    try:
        found = json.loads(
            raw.decode(), object_pairs_hook=_unique_object, parse_constant=_no_constant, parse_float=_finite_number
        )
    except ValueError:
        raise Unsupported(f"Invalid JSON. {OBJECT}", hint=OBJECT_HINT) from None
    if not isinstance(found, dict):
        raise Unsupported(OBJECT, hint=OBJECT_HINT)
    known = {field.encode_name: field for field in msgspec.structs.fields(shape)}
    for name, value in found.items():
        if name not in known:
            raise _unknown_error(name, known)
        if not _is_text(value):
            raise Unsupported(f"{name}: contains a lone surrogate, which is not valid text.")
    try:
        return msgspec.convert(found, shape)
    except msgspec.ValidationError as exc:
        raise Unsupported(_explain_message(str(exc), shape)) from None
    except (OverflowError, RecursionError):
        raise Unsupported("A number is too large, or the JSON is nested too deeply.") from None


def _read_json(shape: type[BodyT]) -> BodyT:
    raw = read_body()
    if raw and not request.is_json:
        raise UnsupportedMediaType("Send the body as JSON, with Content-Type: application/json.")
    return decode_object(raw or b"{}", shape)


def _unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise Unsupported(f"{_shown_text(name)}: sent twice, expected once.")
        found[name] = value
    return found


def _no_constant(word: str) -> NoReturn:
    raise Unsupported(f"{word} is not a valid JSON number.")


def _finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Unsupported(f"The number {text[:MAX_SHOWN]} is too large.")
    return number


def _is_text(value: Any) -> bool:
    """Whether all text in `value` can be sent to Redis. Ids can contain any byte, each as a surrogate DC80 to DCFF."""
    values = [value]
    while values:
        each = values.pop()
        if isinstance(each, list):
            values += each
        elif isinstance(each, dict):
            values += [*each, *each.values()]
        elif isinstance(each, str):
            try:
                each.encode("utf-8", "surrogateescape")
            except UnicodeEncodeError:
                return False
    return True


def _unknown_error(name: str, known: Iterable[str], kind: str = "field") -> Unsupported:
    names = list(known)
    if not names:
        return Unsupported(f"Unknown {kind} {_shown_text(name)}: this endpoint takes none.")
    close = close_name(name, names)
    meant = f" Did you mean {close}?" if close else ""
    return Unsupported(f"Unknown {kind} {_shown_text(name)}.{meant} Known {kind}s: {', '.join(names)}.")


def _explain_message(message: str, shape: type[msgspec.Struct]) -> str:
    """A plain message, with the field in front, for one of msgspec: "Expected `str`, got `int` - at `$.reason`"."""
    if message.startswith("Object missing required field"):
        return f"{message.split('`')[1]}: required."
    text, _, path = message.partition(" - at `$.")
    name = path.rstrip("`")
    if text.startswith("Invalid enum value"):
        field = next((each for each in msgspec.structs.fields(shape) if each.encode_name == name), None)
        words = _words_of(field.type) if field else []
        return f"{name}: {printable(text.partition('value ')[2])[:MAX_SHOWN]} is not one of {', '.join(words)}."
    parts = text.split("`")
    parts[1::2] = [" or ".join(_WORDS.get(word, word) for word in part.split(" | ")) for part in parts[1::2]]
    text = "".join(parts)
    return f"{name}: {text[:1].lower()}{text[1:]}."


def _words_of(kind: Any) -> list[str]:
    """The values that a field of an enumeration or of literals accepts."""
    for each in (kind, *get_args(kind)):
        if get_origin(each) is Literal:
            return [str(word) for word in get_args(each)]
        if isinstance(each, type) and issubclass(each, Enum):
            return [str(word.value) for word in each]
    return []


def _shown_text(text: str) -> str:
    return repr(printable(text[:MAX_SHOWN]))
