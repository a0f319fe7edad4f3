"""References to secrets: `${NAME}` and `${file:/path}` in a settings file, `…_FILE` in the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError

MAX_FILE_BYTES = 64 * 1024
# `$${` is an escape for the two characters `${`.
_PLACE = re.compile(r"\$\$\{|\$\{([^{}\n]{0,300}+)\}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
_FILE = "file:"


def substitute(value: Any, environ: Mapping[str, str], where: str) -> Any:
    """Replace the references in all strings of `value`, a TOML value: `${NAME}` by the environment variable and
    `${file:/path}` by the content of the file without its last line ending. Replaced text is not expanded again.

    Raises ConfigurationError if the variable or file does not exist, with one line that names it and `where`.
    """
    if isinstance(value, str):
        return _PLACE.sub(lambda place: _text_of(place, environ, where), value)
    if isinstance(value, dict):
        return {name: substitute(each, environ, where) for name, each in value.items()}
    if isinstance(value, list):
        return [substitute(each, environ, where) for each in value]
    return value


def _text_of(place: re.Match[str], environ: Mapping[str, str], where: str) -> str:
    name = place.group(1)
    if name is None:
        return "${"
    if name.startswith(_FILE):
        return read_secret(name.removeprefix(_FILE), where)
    if not _VARIABLE.match(name):
        raise ConfigurationError(f"{where}: expected ${{NAME}} or ${{file:/path}}; write $${{ for the characters ${{")
    if name not in environ:
        raise ConfigurationError(f"{where}: the environment has no variable {name}")
    return environ[name]


def read_secret(path: str, where: str) -> str:
    """The text of a file without its last line ending. Raises ConfigurationError with one line that names the file."""
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        text = raw.decode()
    except OSError as exc:
        raise ConfigurationError(f"{where}: {path} cannot be read: {exc.strerror or exc}") from None
    except ValueError:  # a path with a NUL, or a file that is not UTF-8
        raise ConfigurationError(f"{where}: {path!r}: expected a UTF-8 text file") from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{where}: {path}: expected at most {MAX_FILE_BYTES} bytes")
    return text.removesuffix("\n").removesuffix("\r")
