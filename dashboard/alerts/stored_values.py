"""What the store holds for alerts, and how replies are decoded into it. What cannot be decoded is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from ..sources.source import Reply
from . import keys
from .evaluation.state_machine import AlertState
from .silences import Acknowledgement, ActiveSilences, Silence


@dataclass(frozen=True, slots=True)
class StoredStates:
    """The stored states, each with its revision."""

    states: dict[str, AlertState] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, int] = field(default_factory=dict)  # revisions of states that cannot be read
    changes: int = 0
    born: str = ""


@dataclass(frozen=True, slots=True)
class CheckerBeat:
    """The last completed evaluation, as recorded by the leader."""

    at: float
    holder: str
    delivers: bool
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class EvaluationInputs:
    """All that an evaluation reads besides the sample. `now` by the store's clock."""

    now: float
    born: str
    changes: int
    rules: bytes
    active_silences: ActiveSilences
    beat: CheckerBeat | None
    undelivered: dict[str, float]  # channel -> age of its oldest unsent message in seconds
    dead: dict[str, int]  # channel -> messages given up
    unsent: frozenset[str]  # ids of the oldest 1,000


def parse_count(raw: Reply) -> int:
    """A non-negative count; 0 for anything else."""
    if isinstance(raw, int):
        return max(raw, 0)
    return int(raw) if isinstance(raw, bytes) and raw.isdigit() and len(raw) <= 15 else 0


def decode_text(raw: Reply) -> str:
    return raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else str(raw)


def parse_pairs(flat: Reply) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=False)) if isinstance(flat, list) else {}


def parse_silences(flat: Reply, kind: type[Silence]) -> list[Silence]:
    found = []
    for raw in list(parse_pairs(flat).values())[: keys.MAX_SILENCES]:
        try:
            silence = msgspec.json.decode(raw, type=kind)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
        if silence.find_problem() is None:
            found.append(silence)
    return sorted(found, key=lambda silence: (silence.until, silence.id))


def parse_acknowledgements(flat: Reply) -> dict[str, Acknowledgement]:
    found = {}
    for fingerprint, raw in parse_pairs(flat).items():
        try:
            found[decode_text(fingerprint)] = msgspec.json.decode(raw, type=Acknowledgement)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
    return found


def parse_beat(fields: Mapping[bytes, bytes]) -> CheckerBeat | None:
    try:
        epoch = fields.get(b"lead", b"").rpartition(b":")[2]
        return CheckerBeat(
            int(fields[b"at"]) / 1000,
            decode_text(fields[b"holder"]),
            fields.get(b"delivers") == b"1",
            int(epoch) if epoch.isdigit() else 0,
        )
    except (KeyError, ValueError, OverflowError):
        return None


def stream_values(rows: Reply) -> Sequence[bytes]:
    found = []
    for row in rows if isinstance(rows, list) else ():
        fields = row[1]
        if isinstance(fields, list) and len(fields) >= 2:
            found.append(fields[1])
    return found
