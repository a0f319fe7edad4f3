"""What the checker knows besides the sample, as the evaluation needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...dead_letters.group_watch import WatchedGroup
from ...history.activity.activities import NO_ACTIVITIES, Activities
from ...history.run_times import RunTimes
from ...history.series_keys import SeriesKey
from ...schedules.schedule_watch import WatchedSchedules
from ...slos.slo_report import SloStatus
from ..silences import ActiveSilences


@dataclass(frozen=True, slots=True)
class CheckerContext:
    """What the checker knows besides the sample.

    `heartbeat_age_s`: since the last completed evaluation; None before the second one. `error_groups`: None while it is
    unknown which of them are new. `schedules`: None before the first reading. `slos`: without reports while the history
    is being read.
    """

    now: float  # by the store's clock
    active_silences: ActiveSilences = field(default_factory=ActiveSilences)
    heartbeat_age_s: float | None = None
    undelivered_s: Mapping[str, float] = field(default_factory=dict)  # by channel
    dead_messages: Mapping[str, int] = field(default_factory=dict)  # by channel
    channels: tuple[str, ...] = ()  # ids of the existing ones
    run_times: Mapping[SeriesKey, RunTimes] = field(default_factory=dict)  # of queues and job classes
    activities: Activities = NO_ACTIVITIES  # of queues and job classes
    error_groups: Sequence[WatchedGroup] | None = None
    schedules: WatchedSchedules | None = None
    slos: Sequence[SloStatus] = ()
