"""Safe decoding of what applications store in Redis: bounded, never unpickled, secrets masked.

Anyone who can enqueue a job can write anything here, so every function returns something printable for any bytes.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable
from json.encoder import encode_basestring
from typing import Any

from ...model import Payload
from ...redact import LONGEST_WORD, mask_text, without_cut_word
from ...sources.source import raw_bytes, text
from ...units import format_size
from .json_values import JSONNumber, plain_value
from .masking import CUT, mask_payload
from .nesting import is_too_deep

DECODE_LIMIT_BYTES = 256 * 1024

# A secret that is cut in two may no longer be recognizable: this many characters beyond a limit are masked before the
# text is cut, without the last word of them.
_BEYOND = LONGEST_WORD
# Halves of surrogate pairs, and those that do not represent a byte (see `text`).
_SURROGATES = re.compile("[\ud800-\udfff]")
_NO_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")
# Invisible in a page: controls, directional marks, lone surrogates, private-use characters.
_INVISIBLE = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})


def names_in(values: Iterable[Any]) -> list[str]:
    """Return the strings among `values`, which come from JSON, each as `text` decodes the same name elsewhere."""
    return [name if name.isascii() else text(raw_bytes(name)) for name in values if isinstance(name, str)]


def printable(raw: bytes | str, limit: int = 10_000, *, cut: bool = False) -> str:
    """Return `raw` as text to display: at most `limit` characters, undecodable bytes as \\xNN, secrets masked.

    `cut`: `raw` is only the beginning of the text. Where it ends, a word may be missing.

    Half of a surrogate pair, which JSON can contain but a page cannot, becomes a replacement character.
    """
    if isinstance(raw, str):
        # The part that cannot be shown is not processed.
        raw = _NO_BYTES.sub("\ufffd", raw[: limit + _BEYOND + 1]).encode("utf-8", "surrogateescape")
    # A character has at most four bytes: the rest of a huge value is not processed.
    most = limit + _BEYOND
    shown = raw[: most * 4 + 4].decode("utf-8", "backslashreplace")
    if len(shown) <= limit:
        return mask_text(without_cut_word(shown) if cut else shown)
    return mask_text(without_cut_word(shown[:most]) if len(shown) > most else shown)[:limit] + CUT


def of_decoded(value: str, limit: int = 10_000) -> str:
    """Like `printable`, for text from decoded JSON, where no half of a surrogate pair represents a byte."""
    return printable(_SURROGATES.sub("\ufffd", value[: limit + _BEYOND + 1]), limit)


def text_or_none(value: Any, limit: int) -> str | None:
    """Return a string from decoded JSON as text to display; None if it is empty, and for anything else."""
    return printable(value.encode("utf-8", "replace"), limit) if isinstance(value, str) and value else None


def loads(raw: bytes, *, exact: bool = False, limit: int = DECODE_LIMIT_BYTES) -> Any:
    """Return the decoded JSON of `raw`; with `exact` each number as a JSONNumber.

    Raises ValueError, and nothing else, for anything that is not plain JSON of at most `limit` bytes.
    """
    if len(raw) > limit:
        raise ValueError(f"longer than {limit} bytes")
    if is_too_deep(raw):
        raise ValueError("nested too deeply")
    numbers = JSONNumber if exact else None
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant, parse_int=numbers, parse_float=numbers)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("not valid UTF-8") from None


def loads_dict(raw: bytes | None) -> dict[str, Any]:
    """Return the JSON object in `raw`; {} for None and for anything else."""
    if raw is None:
        return {}
    try:
        value = loads(raw)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


MOST_COUNTED = 1e15


def finite(value: Any) -> float | None:
    """Return a number from decoded JSON as a float; None for anything else, and if it does not fit into a float."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def count_or_none(value: Any) -> int | None:
    """Return a number from decoded JSON as a count: a whole number, 0 or more; None for anything else.

    Also None above 1e15: neither our store nor readers of our JSON can represent it exactly.
    """
    number = finite(value)
    return int(number) if number is not None and 0 <= number <= MOST_COUNTED else None


def json_payload(raw: bytes | None, size_bytes: int | None = None) -> Payload:
    """Return the Payload of bytes that should be JSON; `size_bytes` = the full length if `raw` is only the start."""
    if raw is None:
        return Payload(kind="missing", text="")
    size = len(raw) if size_bytes is None else size_bytes
    if size > len(raw):
        return Payload(
            kind="text",
            text=printable(raw, DECODE_LIMIT_BYTES, cut=True),
            size_bytes=size,
            truncated=True,
            note=f"the first {format_size(len(raw))} of {format_size(size)}",
        )
    try:
        value = loads(raw, exact=True)
    except ValueError as exc:
        kind = "text" if _looks_like_text(raw) else "binary"
        return Payload(
            kind=kind, text=printable(raw, DECODE_LIMIT_BYTES), size_bytes=size, note=f"not valid JSON: {exc}"
        )
    return decoded_payload(value, size)


def decoded_payload(value: Any, size_bytes: int | None = None) -> Payload:
    """Return the masked Payload of a decoded value; if it was decoded with `exact`, its text decodes to the same value.

    `size_bytes` None = the length of that text.
    """
    exact, cut = mask_payload(value, exact=True)
    text = written(exact, indent=2)
    return Payload(
        kind="json",
        value=plain_value(exact),
        text=text,
        size_bytes=len(text) if size_bytes is None else size_bytes,
        truncated=cut,
        note="parts nested too deeply or too long to show are cut" if cut else None,
    )


def written(value: Any, indent: int | None = None, *, compact: bool = False) -> str:
    """Return `value` as JSON: each JSONNumber as written, invisible characters escaped so that forms send it unchanged.

    `compact`: no spaces between the parts.
    """
    parts: list[str] = []
    colon, blank = (":", "") if compact else (": ", " ")

    def write(item: Any, margin: str) -> None:
        if isinstance(item, dict):
            block("{}", [(f"{_quoted(key)}{colon}", child) for key, child in item.items()], margin)
        elif isinstance(item, list):
            block("[]", [("", child) for child in item], margin)
        elif isinstance(item, JSONNumber):
            parts.append(item)
        else:
            parts.append(_quoted(item) if isinstance(item, str) else json.dumps(plain_value(item)))

    def block(signs: str, children: list[tuple[str, Any]], margin: str) -> None:
        inner = margin + " " * (indent or 0)
        parts.append(signs[0])
        for n, (name, child) in enumerate(children):
            line = f"\n{inner}" if indent else ""
            parts.append(f"{',' if n else ''}{line if indent else blank if n else ''}{name}")
            write(child, inner)
        parts.append(f"\n{margin}{signs[1]}" if indent and children else signs[1])

    write(value, "")
    return "".join(parts)


def _quoted(text: str) -> str:
    shown = encode_basestring(text)
    return shown if shown.isascii() or shown.isprintable() else "".join(map(_escaped, shown))


def _escaped(char: str) -> str:
    return char if unicodedata.category(char) not in _INVISIBLE else json.dumps(char)[1:-1]


def _looks_like_text(raw: bytes) -> bool:
    sample = raw[:1024]
    odd = sum(1 for byte in sample if byte < 9 or 13 < byte < 32)
    return odd * 20 <= len(sample)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
