"""What is kept of a deleted job, in Queuedeck's own store: its bytes, and where it was."""

from __future__ import annotations

import msgspec


class RecordBackup(msgspec.Struct, frozen=True, tag="record", forbid_unknown_fields=True):
    """A result record under its `key`; `until_ms` = when it would have expired, ms since 1970, None = never."""

    key: bytes
    raw: bytes
    until_ms: int | None


class MessageBackup(msgspec.Struct, frozen=True, tag="message", forbid_unknown_fields=True):
    """A waiting message: `step` of the queue's lists, how many stood `before` it, the `note` of its deletion."""

    raw: bytes
    step: int
    before: int
    note: str


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(RecordBackup | MessageBackup)


def pack_backup(kept: RecordBackup | MessageBackup) -> bytes:
    """The blob of a Kept."""
    return _encoder.encode(kept)


def unpack_backup(blob: bytes | None) -> RecordBackup | MessageBackup | None:
    """What is in the blob of a Kept; None where nothing was kept or it is none of ours."""
    if blob is None:
        return None
    try:
        kept: RecordBackup | MessageBackup = _decoder.decode(blob)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return kept
