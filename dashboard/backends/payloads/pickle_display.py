"""Values read from a pickle, as plain JSON to display; objects are not built, they are shown by name."""

from __future__ import annotations

import datetime
import math
import uuid
from typing import Any

from ...redact import without_cut_word
from .masking import CUT, MAX_DEPTH, MAX_NODES
from .pickle_reader import PickledMapping, PickledObject, PickledSequence

TEXT_LIMIT = 20_000
INT_LIMIT = 1 << 256
_SCALARS = (str, bytes, int, float, type(None))


def describe(value: Any) -> Any:
    """Return a value of `pickle_reader` as None, bool, int, float, str, list and dict, at most MAX_NODES of them.

    Secrets are not masked: pass the result to `masking.mask_payload`.
    """
    return described(value)[0]


def described(value: Any) -> tuple[Any, bool]:
    """Like `describe`, with whether anything was cut."""
    describer = _Describer()
    return describer.value(value, 0), describer.cut


class _Describer:
    def __init__(self) -> None:
        self._left = MAX_NODES
        self.cut = False

    def value(self, value: Any, depth: int) -> Any:
        """Return one value; CUT once the limits are reached."""
        self._left -= 1
        if isinstance(value, _SCALARS):
            self.cut = self.cut or (isinstance(value, str | bytes) and len(value) > TEXT_LIMIT)
            return _scalar(value)
        if self._left <= 0 or depth > MAX_DEPTH:
            self.cut = True
            return CUT
        if isinstance(value, PickledSequence):
            return self._items(value.items, depth)
        if isinstance(value, PickledMapping):
            return self._pairs(value.pairs, depth)
        if isinstance(value, PickledObject):
            return self._thing(value, depth)
        return CUT

    def _items(self, items: list[Any], depth: int) -> list[Any]:
        found = []
        for item in items:
            found.append(self.value(item, depth + 1))
            if self._left <= 0:
                self.cut = True
                break
        return found

    def _pairs(self, pairs: list[tuple[Any, Any]], depth: int) -> dict[str, Any]:
        found = {}
        for key, item in pairs:
            found[_key(self.value(key, depth + 1))] = self.value(item, depth + 1)
            if self._left <= 0:
                self.cut = True
                break
        return found

    def _thing(self, thing: PickledObject, depth: int) -> Any:
        known = _known(thing)
        if known is not None:
            return known
        args = thing.args.items if isinstance(thing.args, PickledSequence) else []
        short = len(args) <= 8 and all(isinstance(arg, _SCALARS) for arg in args)
        self.cut = self.cut or any(isinstance(arg, str | bytes) and len(arg) > TEXT_LIMIT for arg in args)
        if not thing.called:
            name = thing.what
        elif short:
            name = f"{thing.what}({', '.join(_literal(arg) for arg in args)})"
        else:
            name = f"{thing.what}(…)"
        parts = [] if short else [self._items(args, depth + 1)]
        if thing.state is not None:
            parts.append(self.value(thing.state, depth + 1))
        if not parts:
            return name
        return {name: parts[0] if len(parts) == 1 else parts}


def _scalar(value: Any) -> Any:
    if isinstance(value, bytes):
        shown = repr(value[:TEXT_LIMIT])
        return f"{without_cut_word(shown[:-1])}{shown[-1]}{CUT}" if len(value) > TEXT_LIMIT else shown
    if isinstance(value, str):
        return _cut(value[:TEXT_LIMIT], len(value) > TEXT_LIMIT)
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) >= INT_LIMIT:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _cut(shown: str, cut: bool) -> str:
    return without_cut_word(shown) + CUT if cut else shown


def _literal(value: Any) -> str:
    shown = _scalar(value)
    return repr(shown) if isinstance(value, str) else str(shown)


def _key(key: Any) -> str:
    return key if isinstance(key, str) else str(key)[:TEXT_LIMIT]


def _known(thing: PickledObject) -> str | None:
    """Return the usual text of dates, times and UUIDs; None for anything else, or with unexpected arguments."""
    args = thing.args.items if isinstance(thing.args, PickledSequence) else []
    try:
        if thing.what == "datetime.datetime" and len(args[0]) == 10:
            return _moment(args[0], args[1] if len(args) > 1 else None)
        if thing.what == "datetime.date" and len(args[0]) == 4:
            return datetime.date(args[0][0] * 256 + args[0][1], args[0][2], args[0][3]).isoformat()
        if thing.what == "uuid.UUID" and isinstance(thing.state, PickledMapping):
            return str(uuid.UUID(int=dict(thing.state.pairs)["int"]))
    except (TypeError, ValueError, IndexError, KeyError):
        return None
    return None


def _moment(raw: bytes, zone: Any) -> str:
    """Return the text of a pickled datetime: year, month, day, hour, minute, second and microseconds in ten bytes."""
    year, microsecond = int.from_bytes(raw[:2], "big"), int.from_bytes(raw[7:], "big")
    moment = datetime.datetime(  # noqa: DTZ001  the time zone, if there is one, is added below
        year, raw[2] & 0x7F, raw[3], raw[4], raw[5], raw[6], microsecond
    )
    if isinstance(zone, PickledObject):
        offset = zone.args.items[0] if isinstance(zone.args, PickledSequence) else None
        if isinstance(offset, PickledObject) and isinstance(offset.args, PickledSequence):
            days, seconds, _ = offset.args.items
            moment = moment.replace(tzinfo=datetime.timezone(datetime.timedelta(days, seconds)))
    return moment.isoformat(sep=" ")
