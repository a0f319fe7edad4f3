"""The arguments of a dead letter in one string, since those of up to MAX_ROWS jobs are kept. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from ..model import Argument
from ..redact import MASK

NAME_LIMIT = 40
TEXT_LIMIT = 60
# Of the arguments of one job together, in characters; further ones are not kept.
KEPT_LIMIT = 500
_SEPARATOR = "\x1f"
CUT = "…"


@dataclass(frozen=True, slots=True)
class KeptArgument:
    """An argument as it is shown. `value` = what equal values have in common; None if part of the value is unknown."""

    name: str
    text: str
    value: str | None


def keep_arguments(arguments: Iterable[Argument]) -> str:
    """The first of these arguments, for `read_arguments`: about 20 bytes more than their text."""
    parts: list[str] = []
    size = 0
    for argument in arguments:
        text, name = _one_line(argument.text), _one_line(argument.name)[:NAME_LIMIT]
        shown = text[:TEXT_LIMIT] + CUT if len(text) > TEXT_LIMIT or argument.cut else text
        size += len(name) + len(shown)
        if size > KEPT_LIMIT:
            break
        parts += (name, shown, _value_of(argument, shown))
    return _SEPARATOR.join(parts)


def read_arguments(kept: str) -> tuple[KeptArgument, ...]:
    """The arguments that `keep_arguments` stored."""
    parts = kept.split(_SEPARATOR) if kept else []
    return tuple(
        KeptArgument(name, text, {"": text, "?": None}.get(value, value))
        for name, text, value in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    )


def _value_of(argument: Argument, shown: str) -> str:
    """ "" if `shown` is the whole value, "?" if part of it is hidden or was not read, else a digest of the value."""
    if argument.cut or MASK in argument.text:
        return "?"
    if shown == argument.text:
        return ""
    return hashlib.blake2b(argument.text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def _one_line(text: str) -> str:
    return " ".join(text.replace(_SEPARATOR, " ").split())
