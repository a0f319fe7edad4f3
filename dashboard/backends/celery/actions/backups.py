"""The backup of a deleted job in Queuedeck's own store: its bytes, and where it was."""

from __future__ import annotations

import msgspec


class RecordBackup(msgspec.Struct, frozen=True, tag="record", forbid_unknown_fields=True):
    """A result record under its `key`; `until_ms` = when it would have expired, ms since 1970, None = never."""

    key: bytes
    raw: bytes
    until_ms: int | None


class MessageBackup(msgspec.Struct, frozen=True, tag="message", forbid_unknown_fields=True):
    """A waiting message: the `step` of its list, how many were `before` it, and the `note` that marks its deletion."""

    raw: bytes
    step: int
    before: int
    note: str


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(RecordBackup | MessageBackup)


def pack_backup(backup: RecordBackup | MessageBackup) -> bytes:
    """Return the blob of a JobBackup."""
    return _encoder.encode(backup)


def unpack_backup(blob: bytes | None) -> RecordBackup | MessageBackup | None:
    """Return the content of the blob of a JobBackup; None if there is no blob or it is not a valid backup."""
    if blob is None:
        return None
    try:
        backup: RecordBackup | MessageBackup = _decoder.decode(blob)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return backup
