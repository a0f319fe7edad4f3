"""Reading of the settings from a TOML file, the environment and keywords.

`load` returns a Settings or raises one ConfigurationError, whose single line names the setting, where it was read and
what was expected. Credentials never appear in it.
"""

from __future__ import annotations

import functools
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from ..errors import ConfigurationError
from ..spelling import close_name
from .schema import OidcSettings, ProxySignInSettings, RedactionSettings, Settings, SourceSettings
from .secret_references import read_secret, substitute
from .validation import check_settings

ENV_PREFIX = "QUEUEDECK_"
_TABLES = frozenset({"proxy_sign_in", "oidc", "redaction"})
_STRUCTURED = _TABLES | {"sources", "users", "rules", "channels", "queues", "slos", "grants"}
# QUEUEDECK_SECRET_KEY_FILE names a file with the value of QUEUEDECK_SECRET_KEY; no setting's name ends like this.
_FROM_FILE = "_file"
_LISTS = frozenset({"api_tokens", "dlq_queues", "trusted_hosts", "secret_key_fallbacks"})


def load(
    *,
    config: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    keywords: Mapping[str, Any] | None = None,
    options: Mapping[str, tuple[str, Any]] | None = None,
) -> Settings:
    """Load the settings of this process. `config`: the path of a TOML file; default `QUEUEDECK_CONFIG`, else no file.

    `options`: settings of the command line, each with the option that messages name. They win over `keywords`, these
    over the environment, and that over the file. Raises ConfigurationError with one line.
    """
    env = os.environ if environ is None else environ
    path = config or env.get(f"{ENV_PREFIX}CONFIG")
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    layers: list[tuple[Mapping[str, Any], Callable[[str], str]]] = []
    if path:
        read = _read_toml(Path(path))
        written = {name: substitute(value, env, f"{path}: {name[:64]}") for name, value in read.items()}
        layers.append((written, lambda name: f"{path}: {name}"))
    layers.append((_read_environment(env), lambda name: f"environment: {ENV_PREFIX}{name.upper()}"))
    layers.append((keywords or {}, lambda name: f"keyword {name}"))
    given = options or {}
    layers.append(({name: value for name, (_, value) in given.items()}, lambda name: given[name][0]))
    for layer, where in layers:
        for name, value in layer.items():
            if name not in Settings.__struct_fields__:
                raise ConfigurationError(f"{where(name)}: unknown setting{_suggestion(name)}")
            values[name], origin[name] = value, where(name)
        if "redis_url" in layer and "sources" in layer:
            raise ConfigurationError(f"{where('redis_url')}: expected either redis_url or sources, not both")
        # If one layer sets redis_url and a later one sets sources, or the other way round, the later one wins.
        if "redis_url" in layer:
            values.pop("sources", None)
        if "sources" in layer:
            values.pop("redis_url", None)
    for name, value in values.items():
        values[name] = _convert(name, value, origin[name])
    settings = Settings(**values)
    check_settings(settings, origin)
    return settings


def _suggestion(name: str) -> str:
    close = close_name(name, Settings.__struct_fields__)
    return f": did you mean {close}?" if close else f"; valid settings are {', '.join(Settings.__struct_fields__)}"


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as exc:
        raise ConfigurationError(f"{path}: cannot be read: {exc.strerror or exc}") from None
    except RecursionError:
        raise ConfigurationError(f"{path}: not valid TOML: nested too deeply") from None
    except ValueError as exc:  # TOMLDecodeError, UnicodeDecodeError, or a number with thousands of digits
        raise ConfigurationError(f"{path}: not valid TOML: {exc}") from None


def _read_environment(env: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, text in env.items():
        if not key.startswith(ENV_PREFIX) or key == f"{ENV_PREFIX}CONFIG":
            continue
        if any("\ud800" <= character <= "\udfff" for character in f"{key}{text}"):
            raise ConfigurationError(f"environment: {ascii(key)[1:-1]}: expected UTF-8")
        name = key.removeprefix(ENV_PREFIX).lower()
        if name.endswith(_FROM_FILE):
            name = name.removesuffix(_FROM_FILE)
            if key.removesuffix(_FROM_FILE.upper()) in env:
                raise ConfigurationError(
                    f"environment: {key}: expected either this or {ENV_PREFIX}{name.upper()}, not both"
                )
            text = read_secret(text, f"environment: {key}")
        if name in _LISTS:
            values[name] = [part.strip() for part in text.split(",") if part.strip()]
        elif name == "trusted_proxies":
            values[name] = text if text.isdecimal() else [part.strip() for part in text.split(",") if part.strip()]
        elif name in _STRUCTURED:
            try:
                values[name] = msgspec.json.decode(text)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                shape = "object" if name in _TABLES else "array of objects"
                raise ConfigurationError(f"environment: {key}: expected a JSON {shape}") from None
        else:
            values[name] = text
    return values


def _convert(name: str, value: Any, where: str) -> Any:
    """`value` converted to the type of the field `name`; text from the environment also to numbers and booleans."""
    if isinstance(value, Settings | SourceSettings):
        raise ConfigurationError(f"{where}: expected plain values")
    if name in ("sources", "users", "queues", "slos", "grants") and isinstance(value, list | tuple):
        value = [msgspec.to_builtins(item) if isinstance(item, msgspec.Struct) else item for item in value]
    elif isinstance(value, ProxySignInSettings | OidcSettings | RedactionSettings):
        value = msgspec.to_builtins(value)
    try:
        return msgspec.convert(value, _field_types()[name], strict=False)
    except msgspec.ValidationError as exc:
        raise ConfigurationError(f"{where}: {_expected(_field_types()[name], str(exc))}") from None


def _expected(type_: Any, message: str) -> str:
    """What was expected, from msgspec's message without the value, which may be a secret."""
    if type_ is bool:
        return "expected true or false"
    choices = get_args(type_) if get_origin(type_) is Literal else ()
    if choices:
        return f"expected {' or '.join(repr(choice).replace(chr(39), chr(34)) for choice in choices)}"
    if message.startswith("Invalid enum value"):
        _, _, place = message.rpartition(" - ")
        return f"unknown value {place}"
    return message[:1].lower() + message[1:]


@functools.cache
def _field_types() -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(Settings)}
