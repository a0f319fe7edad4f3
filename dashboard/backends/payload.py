"""Safe decoding of what applications put into Redis: bounded, never unpickled, secrets masked.

Whoever can enqueue a job can write anything here, so every function answers something printable for any bytes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from itertools import islice
from typing import Any

from dashboard.model import Payload

DECODE_LIMIT_BYTES = 256 * 1024
MAX_DEPTH = 64
MAX_NODES = 20_000
MASK = "••••••"
CUT = "…"

# Names that hold secrets in practice; compared without case, dashes and underscores.
_SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|passwort|secret|token|apikey|accesskey|privatekey|authorization|credential|cookie"
    r"|sessionid|creditcard|cardnumber|\bcard\b|\bcvc\b|\bcvv\b|\biban\b|\bssn\b"
)
_SECRET_SHAPE = re.compile(
    # JSON web token; group 1 is what precedes it in the same word. The lookahead is tried once per word and nothing
    # backtracks, so the time is linear even for text that repeats "-eyJ".
    r"(?<![\w-])(?=[\w-]++\.[\w-]{8,}+\.)([\w-]*?)\beyJ[\w-]{8,}+\.[\w-]{8,}+\.[\w-]*+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{30,}"
    r"|\bsk_(?:live|test)_[A-Za-z0-9]{16,}"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}"
    r"|(?<=://)[^\s/:@]*:[^\s/@]+(?=@)",  # user:password in a URL
    re.DOTALL,
)


def text(raw: bytes) -> str:
    """`raw` as text that leads back to the very same bytes (undecodable ones as surrogate escapes)."""
    return raw.decode("utf-8", "surrogateescape")


def printable(raw: bytes | str, limit: int = 10_000) -> str:
    """`raw` as text for people: at most `limit` characters, undecodable bytes as \\xNN, secrets masked."""
    if isinstance(raw, str):
        raw = raw.encode("utf-8", "surrogateescape")
    # A character is at most four bytes: no more of a huge value is looked at.
    shown = raw[: limit * 4 + 4].decode("utf-8", "backslashreplace")
    if len(shown) > limit:
        shown = shown[:limit] + CUT
    return mask_text(shown)


def mask_text(value: str) -> str:
    """`value` with everything that has the shape of a secret masked."""
    return _SECRET_SHAPE.sub(rf"\1{MASK}", value)


def loads(raw: bytes) -> Any:
    """The decoded JSON of `raw`. Raises ValueError, and nothing else, for whatever is not plain, bounded JSON."""
    if len(raw) > DECODE_LIMIT_BYTES:
        raise ValueError(f"longer than {DECODE_LIMIT_BYTES} bytes")
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("not valid UTF-8") from None


def loads_dict(raw: bytes | None) -> dict[str, Any]:
    """The JSON object in `raw`; {} for None and for anything else."""
    if raw is None:
        return {}
    try:
        value = loads(raw)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def finite(value: Any) -> float | None:
    """A number of decoded JSON as a float; None for anything else, and for one that no float holds."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def json_payload(raw: bytes | None, size_bytes: int | None = None) -> Payload:
    """A Payload from bytes that should be JSON; `size_bytes` = the whole length when `raw` is only its beginning."""
    if raw is None:
        return Payload(kind="missing", text="")
    size = len(raw) if size_bytes is None else size_bytes
    if size > len(raw):
        return Payload(
            kind="text",
            text=printable(raw, DECODE_LIMIT_BYTES),
            size_bytes=size,
            truncated=True,
            note=f"the first {len(raw)} of {size} bytes",
        )
    try:
        value = loads(raw)
    except ValueError as exc:
        kind = "text" if _looks_like_text(raw) else "binary"
        return Payload(
            kind=kind, text=printable(raw, DECODE_LIMIT_BYTES), size_bytes=size, note=f"not valid JSON: {exc}"
        )
    value, cut = bounded(value)
    return Payload(
        kind="json",
        value=value,
        text=json.dumps(value, ensure_ascii=False, indent=2),
        size_bytes=size,
        truncated=cut,
        note="parts nested deeper or longer than shown are cut" if cut else None,
    )


def bounded(value: Any) -> tuple[Any, bool]:
    """(`value` with secrets masked and depth and size bounded, whether anything was cut)."""
    budget = [MAX_NODES]
    cut = False

    def walk(item: Any, depth: int) -> Any:
        nonlocal cut
        budget[0] -= 1
        if isinstance(item, dict | list):
            if depth >= MAX_DEPTH or budget[0] <= 0:
                cut = True
                return CUT
            if isinstance(item, list):
                return [walk(child, depth + 1) for child in _first(item)]
            return {
                _plain(key): MASK
                if is_secret_name(key) and child not in (None, "", True, False)
                else walk(child, depth + 1)
                for key, child in _first(item.items())
            }
        if isinstance(item, str):
            return mask_text(_plain(item))
        if isinstance(item, float) and not math.isfinite(item):
            return str(item)
        return item

    def _first(children: Iterable[Any]) -> list[Any]:
        nonlocal cut
        kept = list(islice(children, max(0, budget[0]) + 1))
        if len(kept) > max(0, budget[0]):
            cut = True
            kept.pop()
        return kept

    return walk(value, 0), cut


def is_secret_name(name: str) -> bool:
    """Whether a field of this name is masked."""
    return _SECRET_NAME.search(_folded(name)) is not None


def holds_secret_name(text: str) -> bool:
    """Whether a field of such a name may stand anywhere in `text` of JSON without escapes; True more often than needed.

    Much quicker than to decode it, and most payloads hold none.
    """
    return _SECRET_NAME.search(_folded(text)) is not None


def _folded(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


def _plain(value: str) -> str:
    # JSON may escape lone surrogates, which no UTF-8 page can carry.
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def _looks_like_text(raw: bytes) -> bool:
    sample = raw[:1024]
    odd = sum(1 for byte in sample if byte < 9 or 13 < byte < 32)
    return odd * 20 <= len(sample)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
