"""Edited payloads that were displayed with secrets masked: values that still show the mask keep their original value.

The original is the payload that is stored when the new job is created. A value is restored only if the same path of the
original shows the same text. Any other value with a mask is refused, because a job must never run with MASK as its
password.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from ...redact import MASK, mask_text
from .decoding import loads, written
from .masking import CUT, mask_payload

LIMIT_BYTES = 2 * 1024 * 1024
MAX_DEPTH = 200
SHOWN_NAME = 100
_NOWHERE = object()  # the original does not have this path


class InvalidPayload(ValueError):
    """The new payload cannot be used; the message says why, at which path, and what to do."""


def decoded_edit(text: str) -> Any:
    """Return the JSON that a user entered, each number as a JSONNumber. Raises InvalidPayload."""
    try:
        value = loads(text.encode("utf-8", "surrogatepass"), exact=True, limit=LIMIT_BYTES)
    except ValueError as exc:
        raise InvalidPayload(f"The payload is not valid JSON: {exc}.") from None
    level, depth = [value], 0
    while level := [child for item in level for child in _children(item)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise InvalidPayload(f"The payload is nested deeper than {MAX_DEPTH} levels.")
    return value


def with_originals(edited: Any, original: bytes | Any, name: str) -> Any:
    """Return `edited` with masked values restored from `original`: JSON bytes, or a value decoded with `exact`.

    `name` is what messages call the root of the payload. Raises InvalidPayload. Time: linear.
    """
    try:
        stored = loads(original, exact=True) if isinstance(original, bytes) else original
    except ValueError:
        stored, shown, cut = _NOWHERE, _NOWHERE, True
    else:
        shown, cut = mask_payload(stored, exact=True)
    return _Merge(edited, shown, cut=cut).value(edited, shown, stored, name)


class _Merge:
    """Walks the edited, the displayed and the stored payload in parallel."""

    def __init__(self, edited: Any, shown: Any, *, cut: bool) -> None:
        self._cut = cut
        self._digests: dict[int, int] = {}  # of objects and lists, by identity: equal if their content is equal
        self._masked: set[int] = set()  # objects and lists that contain a mask
        self._look_at(edited)
        self._look_at(shown)

    def _look_at(self, value: Any) -> int:
        parts: list[Any] = [type(value)]
        masked = False
        for child in _children(value):
            parts.append(self._look_at(child))
            masked = masked or self._holds_mask(child)
        if not isinstance(value, dict | list):
            return hash((type(value), value))
        if isinstance(value, dict):
            parts += value
            masked = masked or any(MASK in key for key in value)
        if masked:
            self._masked.add(id(value))
        self._digests[id(value)] = hash(tuple(parts))
        return self._digests[id(value)]

    def _digest(self, value: Any) -> int:
        return self._digests[id(value)] if isinstance(value, dict | list) else hash((type(value), value))

    def _holds_mask(self, value: Any) -> bool:
        return MASK in value if isinstance(value, str) else id(value) in self._masked

    def value(self, edited: Any, shown: Any, stored: Any, path: str) -> Any:
        """Return the value to store for `edited`."""
        if isinstance(edited, dict):
            return self._dict(edited, shown, stored, path)
        if isinstance(edited, list):
            return self._list(edited, shown, stored, path)
        if not isinstance(edited, str):
            return edited
        if edited == CUT and shown == CUT and stored != CUT:
            raise InvalidPayload(f"{path}: this part is too large to show here. Enter its full value.")
        if MASK not in edited:
            return edited
        if self._cut:
            raise InvalidPayload(
                f"{path}: the stored payload is too large to show in full, or not JSON, so the value behind {MASK} "
                "cannot be restored. Enter the full value."
            )
        if shown == edited:
            return stored
        if isinstance(shown, str) and MASK in shown:
            raise InvalidPayload(
                f"{path}: the text around {MASK} was changed, so the value behind it cannot be restored. "
                "Enter the full text, or leave all of it unchanged."
            )
        raise InvalidPayload(
            f"{path}: the current job has no masked value here that {MASK} could stand for. Enter the full value."
        )

    def _dict(self, edited: dict[str, Any], shown: Any, stored: Any, path: str) -> dict[str, Any]:
        # Both have their keys in the same order; if parts were cut, no mask is resolved.
        names = dict(zip(shown, stored, strict=False)) if isinstance(shown, dict) and isinstance(stored, dict) else {}
        found: dict[str, Any] = {}
        for key, child in edited.items():
            place, there = _joined(path, key), key in names
            if MASK in key and (self._cut or not there):
                raise InvalidPayload(f"{place}: the current job has no such key. Enter the full key.")
            name = names[key] if MASK in key else key
            was, kept = (shown[key], stored[names[key]]) if there else (_NOWHERE, _NOWHERE)
            found[name] = self.value(child, was, kept, place)
        return found

    def _list(self, edited: list[Any], shown: Any, stored: Any, path: str) -> list[Any]:
        if not isinstance(shown, list) or not isinstance(stored, list):
            shown = stored = []
        alike = Counter(map(self._digest, shown)) if id(edited) in self._masked else Counter()
        found = []
        for n, item in enumerate(edited):
            place = f"{path}[{n}]"
            there = n < len(shown) and n < len(stored)
            if there and self._holds_mask(item) and self._may_have_moved(edited, shown, n, alike):
                raise InvalidPayload(
                    f"{place}: elements of this list were moved or removed, so it is not clear what {MASK} stands for. "
                    "Enter the full value."
                )
            was, kept = (shown[n], stored[n]) if there else (_NOWHERE, _NOWHERE)
            found.append(self.value(item, was, kept, place))
        return found

    def _may_have_moved(self, edited: list[Any], shown: list[Any], n: int, alike: Counter[int]) -> bool:
        """Whether the mask in an element may stand for the value of another element."""
        item = self._digest(edited[n])
        changed = item != self._digest(shown[n])
        return (changed and alike[item] > 0) or (len(edited) < len(shown) and (changed or alike[item] > 1))


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _joined(path: str, key: str) -> str:
    shown = mask_text(key)[:SHOWN_NAME]
    if shown.isidentifier():
        return f"{path}.{shown}" if path else shown
    return f"{path}[{written(shown)}]"
