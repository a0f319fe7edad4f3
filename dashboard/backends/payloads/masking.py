"""Payloads with secrets masked, and bounded in depth and size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from ...redact import (
    MASK,
    hidden_keys,
    is_hidden,
    is_hidden_number,
    is_list_of_pairs,
    is_revealing,
    mask_text,
    masking_cache,
)
from .json_values import JSONNumber, plain_text, plain_value

MAX_DEPTH = 64
MAX_NODES = 20_000
CUT = "…"


def mask_payload(value: Any, *, exact: bool = False) -> tuple[Any, bool]:
    """Return (`value` with secrets masked, unless masks are lifted, and depth and size bounded, whether anything was
    cut).

    With `exact` nothing else changes; without, the result can be displayed: it has no JSONNumber, infinity or lone
    surrogate.
    """
    masked = _MaskedCopy(exact=exact)
    return masked.copy_value(value, 0), masked.cut


class _MaskedCopy:
    """Copies one value, with at most MAX_NODES parts in MAX_DEPTH levels."""

    def __init__(self, *, exact: bool) -> None:
        self.cut = False
        self._exact = exact
        self._masks = not is_revealing()
        self._left = MAX_NODES
        self._readable: Callable[[str], str] = str if exact else plain_text

    def copy_value(self, item: Any, depth: int) -> Any:
        """Return the copy of a value that is `depth` levels down."""
        self._left -= 1
        if isinstance(item, dict | list):
            if depth >= MAX_DEPTH or self._left <= 0:
                self.cut = True
                return CUT
            return self._copy_list(item, depth + 1) if isinstance(item, list) else self._copy_dict(item, depth + 1)
        if isinstance(item, str) and not isinstance(item, JSONNumber):
            return mask_text(self._readable(item))
        if self._hides_number(item):
            return MASK
        return item if self._exact and isinstance(item, JSONNumber) else plain_value(item)

    def _copy_dict(self, item: dict[str, Any], depth: int) -> dict[str, Any]:
        hidden = self._hidden_keys(item)
        found: dict[str, Any] = {}
        for key, child in self._first_of(item.items()):
            name = self._name(key)
            number = 2
            while name in found:  # two keys that differ only in their masked part
                name, number = f"{self._name(key)} {number}", number + 1
            found[name] = MASK if key in hidden else self.copy_value(child, depth)
        return found

    def _copy_list(self, items: list[Any], depth: int) -> list[Any]:
        if not is_list_of_pairs(items):
            return [self.copy_value(child, depth) for child in self._first_of(items)]
        return [
            [
                mask_text(self._readable(name)),
                MASK if self._masks and is_hidden(name, _number(child)) else self.copy_value(child, depth + 1),
            ]
            for name, child in self._first_of(items)
        ]

    def _hides_number(self, item: Any) -> bool:
        is_number = isinstance(item, JSONNumber | int | float) and not isinstance(item, bool)
        return is_number and is_hidden_number(str(item))

    def _hidden_keys(self, item: dict[str, Any]) -> set[str]:
        if not self._masks:
            return set()
        return hidden_keys({key: _number(child) for key, child in item.items()} if self._exact else item)

    def _name(self, key: str) -> str:
        # What is remembered of names is masked, so it is not asked while masks are lifted.
        return _masked_name(self._readable(key)) if self._masks else mask_text(self._readable(key))

    def _first_of(self, children: Iterable[Any]) -> list[Any]:
        """Return as many of `children` as there is room for."""
        room = max(0, self._left)
        kept = list(islice(children, room + 1))
        if len(kept) > room:
            self.cut = True
            kept.pop()
        return kept


def _number(value: Any) -> Any:
    return value.plain() if isinstance(value, JSONNumber) else value


@masking_cache(4096)
def _masked_name(name: str) -> str:
    return mask_text(name)
