"""Channel settings with a type for secrets, so that a secret cannot be shown by mistake."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args, get_type_hints
from urllib.parse import urlsplit

import msgspec

from ....errors import ConfigurationError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
# A URL as sent over the wire: no spaces, controls or backslashes, nothing that two parsers could read differently.
_URL = re.compile(r"https?://[\x21-\x5b\x5d-\x7e]{1,2000}\Z")
HIDDEN = "set"
_SIGNS = re.compile(r"[/?&=;]")


class Secret:
    """Text that only `reveal` returns; repr, str and comparisons do not expose it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "<secret>"

    def __bool__(self) -> bool:
        return bool(self._text)

    def secret_parts(self) -> Iterator[str]:
        """The secret texts, which must never appear in logs, results or pages."""
        yield self._text


class Endpoint(Secret):
    """The URL of a webhook: everything except scheme, host and port is secret."""

    __slots__ = ("host", "path_and_query", "port", "tls")

    def __init__(self, text: str) -> None:
        super().__init__(text)
        expected = "expected an https:// URL in plain ASCII, without user name or password"
        if not _URL.match(text):
            raise ValueError(expected)
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise ValueError(expected) from None
        if not parts.hostname or "@" in parts.netloc or port == 0:
            raise ValueError(expected)
        self.tls = parts.scheme == "https"
        self.host = parts.hostname
        self.port = port or (443 if self.tls else 80)
        self.path_and_query = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def origin(self) -> str:
        """Scheme, host and port, which are safe to show."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.tls else 80
        return f"{'https' if self.tls else 'http'}://{host}" + ("" if self.port == default else f":{self.port}")

    def secret_parts(self) -> Iterator[str]:
        yield self._text
        if len(self.path_and_query) > 1:
            yield self.path_and_query
        # A provider may repeat only the token at the end of the path or in the query.
        yield from (part for part in _SIGNS.split(self.path_and_query) if len(part) >= 8)


class ChannelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of every channel; each kind adds its own fields and validates them in `find_problem`."""

    id: str
    kind: str

    def find_problem(self, *, allow_private: bool) -> str | None:
        """What is wrong with the combination of values, as `field: expected …`; None when it is valid."""
        for field, value in _field_values(self):
            if isinstance(value, Endpoint) and not value.tls and not allow_private:
                return f"{field}: expected https://, or allow_private_webhooks = true"
        return None

    def secret_texts(self) -> Iterator[str]:
        """All texts of these settings that must not appear anywhere."""
        for _, value in _field_values(self):
            for item in _flatten_value(value):
                if isinstance(item, Secret):
                    yield from item.secret_parts()


S = TypeVar("S", bound=ChannelSettings)


def channel_name(settings: Mapping[str, Any]) -> str:
    """The id of the channel if it is valid, otherwise a placeholder: an invalid value is not repeated."""
    name = settings.get("id")
    return name if isinstance(name, str) and _NAME.match(name) else "(no id)"


def parse_settings(settings: Mapping[str, Any], shape: type[S], *, allow_private: bool) -> S:
    """The settings in the type of their kind. Raises ConfigurationError, which contains no value."""
    where = f"channel {channel_name(settings)}"
    if channel_name(settings) != settings.get("id"):
        raise ConfigurationError(f"{where}: id: expected 1 to 64 letters, digits, dots, dashes or underscores")
    try:
        found = msgspec.convert(dict(settings), shape, dec_hook=_decode_secret)
    except msgspec.ValidationError as exc:
        raise ConfigurationError(f"{where}: {_explain_error(str(exc), shape)}") from None
    problem = found.find_problem(allow_private=allow_private)
    if problem:
        raise ConfigurationError(f"{where}: {problem}")
    return found


def redact_settings(settings: Mapping[str, Any], shape: type[ChannelSettings]) -> dict[str, Any]:
    """The settings safe to show: plain fields unchanged, secrets as "set", URLs reduced to scheme, host and port."""
    answer: dict[str, Any] = {"id": channel_name(settings), "kind": settings.get("kind")}
    hints = get_type_hints(shape)
    for field in msgspec.structs.fields(shape):
        name = field.encode_name
        if name in answer or settings.get(name) is None:
            continue
        try:
            value = msgspec.convert(settings[name], hints[field.name], dec_hook=_decode_secret)
        except msgspec.ValidationError:
            continue
        answer[name] = _redact_value(value)
    return answer


def _redact_value(value: Any) -> Any:
    if isinstance(value, Endpoint):
        return value.origin()
    if isinstance(value, Secret):
        return HIDDEN
    if isinstance(value, dict):
        return {key: _redact_value(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_redact_value(item) for item in value]
    return value


def _decode_secret(kind: type, value: Any) -> Any:
    """The msgspec hook for types it does not know; a ValueError becomes a ValidationError with the path."""
    if not isinstance(value, str) or not value:
        raise ValueError("expected text")
    return kind(value)


def _explain_error(text: str, shape: type[ChannelSettings]) -> str:
    """msgspec's message as `field: expected …`, without the enum value that msgspec repeats, which can be anything."""
    message, _, path = text.partition(" - at `")
    field = path.removesuffix("`").removeprefix("$").lstrip(".")
    if message.startswith("Invalid enum value"):
        hints = {item.encode_name: item.type for item in msgspec.structs.fields(shape)}
        message = f"expected one of {', '.join(map(str, get_args(hints.get(field))))}"
    message = message.removeprefix("Object ")
    return f"{field}: {message[:1].lower()}{message[1:]}" if field else message


def _field_values(settings: ChannelSettings) -> Iterator[tuple[str, Any]]:
    for field in msgspec.structs.fields(settings):
        yield field.encode_name, getattr(settings, field.name)


def _flatten_value(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple):
        yield from value
    else:
        yield value
