"""The figures of one queue or one Redis as of a moment, from its slots. Pure: no Redis, no clock."""

from __future__ import annotations

from collections.abc import Sequence

from ...model import Counts, Quality, QueueRef, QueueStats, RedisHealth
from ...sampling.recent_history import QueueHistory, Series
from ..columns import QUALITY_CODES, QUEUE, SOURCE, merge_cells
from ..slots import Slot, figure_values
from .past_window import PastWindow

NOT_RECORDED = "not recorded at that time"
_QUALITIES = {code: quality for quality, code in QUALITY_CODES.items()}
_QUALITY = QUEUE.index_of("quality")
_LEVELS = tuple(place for place, column in enumerate(QUEUE.columns) if column.is_level)


def queue_as_of(ref: QueueRef, slots: Sequence[Slot], window: PastWindow) -> QueueStats | None:
    """The figures of a queue in the last of its slots; None if nothing is known of it then: it did not exist, or
    nothing was recorded. What the history does not have is unknown: whether it was paused, among others."""
    last = slots[-1]
    if last.cells is None or not _is_known(last):
        return None
    recent = _joined(slots[-window.rate_points :])
    quality = _QUALITIES.get(_whole(recent, _QUALITY) or 0, Quality.UNKNOWN)
    depth = _count(last, "depth")
    return QueueStats(
        source=ref.source,
        backend=ref.backend,
        name=ref.name,
        key=ref.key,
        shared=ref.shared,
        counts=Counts(
            waiting=depth,
            **{name: _count(last, name) for name in ("active", "scheduled", "retrying", "dead")},
        ),
        depth=depth,
        latency_s=_figure(last, "latency_s"),
        workers=_count(last, "workers"),
        throughput_per_min=_figure(recent, "throughput_per_min"),
        failed_per_min=_figure(recent, "failed_per_min"),
        error_ratio=_figure(recent, "error_ratio"),
        runtime_p50_s=_figure(recent, "runtime_p50_s"),
        runtime_p95_s=_figure(recent, "runtime_p95_s"),
        flow_quality=quality,
        flow_reason=NOT_RECORDED if quality is Quality.UNKNOWN else None,
    )


def history_as_of(slots: Sequence[Slot], *, rates: bool = True) -> QueueHistory:
    """The trend of a queue before the moment; with `rates`, also of what finished and failed."""
    return QueueHistory(
        depth=_series(slots, "depth"),
        dead=_series(slots, "dead"),
        finished_per_min=_series(slots, "throughput_per_min") if rates else (),
        failed_per_min=_series(slots, "failed_per_min") if rates else (),
        error_ratio=_series(slots, "error_ratio") if rates else (),
    )


def health_as_of(slots: Sequence[Slot]) -> RedisHealth:
    """The figures of a Redis server in the last of its slots; all None if it was not sampled then."""
    last = slots[-1:]

    def figure(name: str) -> float | int | None:
        return figure_values(SOURCE, name, last)[0]

    used, most = _int(figure("used_memory_bytes")), _int(figure("maxmemory_bytes"))
    return RedisHealth(
        used_memory_bytes=used,
        maxmemory_bytes=most,
        memory_limited=True if most else None,
        memory_ratio=used / most if used is not None and most else None,
        clients=_int(figure("clients")),
        blocked_clients=_int(figure("blocked_clients")),
        ops_per_s=_int(figure("ops_per_s")),
        keys=_int(figure("keys")),
        fragmentation_ratio=figure("fragmentation_ratio"),
        keyspace_hit_ratio=figure("keyspace_hit_ratio"),
        replica_lag_bytes=_int(figure("replica_lag_bytes")),
    )


def memory_as_of(slots: Sequence[Slot]) -> Series:
    """The trend of the memory of a Redis server before the moment, in bytes."""
    return tuple(figure_values(SOURCE, "used_memory_bytes", slots))


def last_sampled_s(slots: Sequence[Slot], step_s: int) -> int | None:
    """The end of the last slot in which anything was sampled, in seconds since 1970; None if there is none."""
    return next((slot.start_s + step_s for slot in reversed(slots) if slot.sampled_ms > 0), None)


def _joined(slots: Sequence[Slot]) -> Slot:
    """Several slots as one; those of a gap add nothing."""
    known = [slot.cells for slot in slots if slot.cells is not None]
    sampled_ms = sum(slot.sampled_ms for slot in slots if slot.cells is not None)
    return Slot(slots[0].start_s, sampled_ms, merge_cells(QUEUE, known) if known else None)


def _is_known(slot: Slot) -> bool:
    """Whether any number of jobs is known: a queue that is gone has a last record of unknown figures."""
    return slot.cells is not None and any(slot.cells[place] is not None for place in _LEVELS)


def _series(slots: Sequence[Slot], name: str) -> Series:
    return tuple(figure_values(QUEUE, name, slots))


def _figure(slot: Slot, name: str) -> float | int | None:
    return figure_values(QUEUE, name, [slot])[0]


def _count(slot: Slot, name: str) -> int | None:
    return _int(_figure(slot, name))


def _whole(slot: Slot, place: int) -> int | None:
    cell = None if slot.cells is None else slot.cells[place]
    return cell if isinstance(cell, int) else None


def _int(value: float | int | None) -> int | None:
    return None if value is None else int(value)
