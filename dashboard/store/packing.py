"""Queuedeck's values in MessagePack: text is encoded as bytes, because it can contain any bytes from Redis."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from ..sources.source import text

T = TypeVar("T")


def pack(value: Any) -> bytes:
    """Encode `value` (a Struct, or built-in types without bytes) for `unpack`."""
    return msgspec.msgpack.encode(_map_texts(msgspec.to_builtins(value), str, _to_bytes))


def unpack(raw: Any, kind: type[T]) -> T | None:
    """Decode what `pack` encoded; None for anything else."""
    try:
        return msgspec.convert(_map_texts(msgspec.msgpack.decode(raw), bytes, text), kind)
    except (msgspec.DecodeError, msgspec.ValidationError, TypeError, ValueError, RecursionError):
        return None


def _to_bytes(decoded: str) -> bytes:
    return decoded.encode("utf-8", "surrogateescape")


def _map_texts(value: Any, kind: type, change: Any) -> Any:
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, dict):
        return {_map_texts(key, kind, change): _map_texts(item, kind, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_texts(item, kind, change) for item in value]
    return value
