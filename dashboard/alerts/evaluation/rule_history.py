"""The last hour of every rule: one point per subject and minute, the worst figure of that minute.

Pure: no Redis, no clock. The leader holds all of it in memory, at 4 bytes per point. Once a minute it stores, for pages
and for the next leader, the few worst series of each rule, and the worst figure over all subjects in each minute.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest

from ...model import Value
from ...sampling.recent_history import Point, Series
from ..rules.figures import IDLE, NOT_USUAL, PAUSED, Figure
from ..rules.rule import Rule
from .state_machine import AlertLabels

STEP_S = 60.0
POINTS = 60
MAX_RULES = 500  # further ones have no history
MAX_LINES = 40_000  # in memory over all rules: about 16 MB
MAX_STORED = 1000  # stored over all rules: at most about 550 kB, with 30 rules at most 100 kB
MAX_WORST_LINES = 5  # stored per rule, at most

_UNKNOWN = math.nan


class TrackedSeries(Value, frozen=True, kw_only=True):
    """The hour of one subject, oldest first, up to `RuleHistories.at`; None is unknown or not applicable."""

    labels: AlertLabels
    points: Series


class RuleHistory(Value, frozen=True, kw_only=True):
    """The hour of one rule. `since`: when its evaluation in this form began, in seconds since 1970, store's clock."""

    mark: str  # identifies the figures of the rule, see `figures_mark`
    since: float
    worst: Series  # over all subjects
    lines: tuple[TrackedSeries, ...] = ()  # of the subjects that are the worst now


class RuleHistories(Value, frozen=True, kw_only=True):
    """The hours of all rules by id; the newest point ended `at`, in seconds since 1970 by the store's clock."""

    at: float
    step_s: float  # from point to point
    rules: dict[str, RuleHistory]


def is_valid(histories: RuleHistories) -> bool:
    """Whether all of it can be drawn: the data comes from a Redis that others can write to."""
    numbers = [histories.at, histories.step_s]
    for hour in histories.rules.values():
        series = [hour.worst, *(line.points for line in hour.lines)]
        if len(series) > 1 + MAX_WORST_LINES or any(len(points) > POINTS for points in series):
            return False
        numbers.append(hour.since)
        numbers += [point for points in series for point in points if point is not None]
    return (
        histories.step_s >= 1 and len(histories.rules) <= MAX_RULES and all(math.isfinite(number) for number in numbers)
    )


def figures_mark(rule: Rule) -> str:
    """A mark that is equal for rules with the same figures, whatever their names and thresholds."""
    what = (
        *(rule.metric, rule.reducer, rule.window_s, rule.needed_events, rule.worsens_upwards),
        *(rule.scope, rule.source, rule.backend, rule.queues, rule.queues_not),
    )
    return hashlib.sha256(repr(what).encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(slots=True)
class _Track:
    """One rule: the current minute, and the series of the minutes before."""

    rule: Rule
    mark: str
    since: float
    worst: array[float]
    lines: dict[AlertLabels, array[float]] = field(default_factory=dict)
    labels: Sequence[AlertLabels] = ()
    figures: Sequence[Figure] = ()  # of the last evaluation
    peaks: list[float | None] = field(default_factory=list)  # of this minute, as `labels`
    gone: dict[AlertLabels, float | None] = field(
        default_factory=dict
    )  # peaks of subjects that left `labels` within this minute
    touched: bool = True  # recorded within this minute


class RuleHistoryRecorder:
    """Records the figures of evaluations in order. Not thread-safe."""

    def __init__(self, interval_s: float) -> None:
        """`interval_s` = between evaluations: a figure stays valid until the next one is two intervals away."""
        self._interval_s = interval_s
        self._tracks: dict[str, _Track] = {}
        self._now = 0.0
        self.at = 0.0  # the end of the last full minute; a new value = there is more to store

    def begin_evaluation(self, now: float) -> None:
        """Start an evaluation. Call it before its `record_figures`."""
        stands = now - self._now <= 2 * self._interval_s
        self._now = now
        began = now // STEP_S * STEP_S
        minutes = round((began - self.at) / STEP_S)
        if not self.at or minutes > POINTS or minutes < -1:  # start over after a clock set back
            self._tracks.clear()
            self.at = began
        elif minutes > 0:
            self._close_minutes(minutes, stands=stands)
            self.at = began

    def record_figures(self, rule: Rule, labels: Sequence[AlertLabels], figures: Sequence[Figure]) -> None:
        """Record the figure of each subject of a rule; None where it is unknown.

        Cheap while `labels` is the same list object as in the last evaluation. Neither list must be changed afterwards.
        """
        track = self._ensure_track(rule)
        if track is None:
            return
        upwards = rule.worsens_upwards
        if labels is not track.labels and labels != track.labels:
            track.gone |= zip(track.labels, track.peaks, strict=True)
            track.peaks = [track.gone.pop(each, None) for each in labels]
        track.labels, track.figures, track.touched = labels, figures, True
        track.peaks = _merge_peaks(track.peaks, figures, upwards=upwards)

    def last_figures(self, rule: Rule) -> Iterator[tuple[AlertLabels, Figure]]:
        """The figures of the rule in the last evaluation."""
        track = self._tracks.get(rule.id)
        if track is not None and track.rule is rule:
            yield from zip(track.labels, track.figures, strict=True)

    def hour_points(self, rule_id: str, labels: AlertLabels) -> Series:
        """The hour of one subject including the current minute, oldest first; () when nothing is recorded for it."""
        track = self._tracks.get(rule_id)
        if track is None:
            return ()
        now = next((peak for each, peak in zip(track.labels, track.peaks, strict=True) if each == labels), None)
        # A lower bound is stored as the number it is.
        return (*_series_from_line(track.lines.get(labels, ())), None if now is None else float(now))[-POINTS:]

    def export_histories(self) -> RuleHistories:
        """The histories to store."""
        most = min(MAX_WORST_LINES, max(1, MAX_STORED // max(1, len(self._tracks)) - 1))
        return RuleHistories(
            at=self.at, step_s=STEP_S, rules={name: _build_history(track, most) for name, track in self._tracks.items()}
        )

    def restore_histories(self, histories: RuleHistories, rules: Iterable[Rule], now: float) -> None:
        """Continue from the histories of another leader; the time between is a gap."""
        began = now // STEP_S * STEP_S
        missed = round((began - histories.at) / STEP_S)
        if not 0 <= missed <= POINTS or histories.at <= self.at or histories.step_s != STEP_S:
            return
        by_id = {rule.id: rule for rule in rules}
        self._tracks = {}
        self.at = began
        for name, hour in list(histories.rules.items())[:MAX_RULES]:
            rule = by_id.get(name)
            if rule is None or figures_mark(rule) != hour.mark:
                continue
            lines = {line.labels: _line_from_series(line.points, missed) for line in hour.lines[:MAX_WORST_LINES]}
            track = _Track(rule, hour.mark, min(hour.since, now), _line_from_series(hour.worst, missed), lines)
            self._tracks[name] = track

    def _ensure_track(self, rule: Rule) -> _Track | None:
        track = self._tracks.get(rule.id)
        if track is not None and track.rule is rule:
            return track
        name = figures_mark(rule)
        if track is not None and track.mark == name:
            track.rule = rule
            return track
        if track is None and len(self._tracks) >= MAX_RULES:
            return None
        track = self._tracks[rule.id] = _Track(rule, name, self._now, array("f"))
        return track

    def _close_minutes(self, minutes: int, *, stands: bool) -> None:
        """Close the minute; the minutes after it, up to now, repeat it if it `stands` and are unknown otherwise."""
        self._tracks = {name: track for name, track in self._tracks.items() if track.touched}
        share = MAX_LINES // max(1, len(self._tracks))
        for track in self._tracks.values():
            peaks = track.gone | dict(zip(track.labels, track.peaks, strict=True))
            _extend_line(
                track.worst, _worst_value(peaks.values(), upwards=track.rule.worsens_upwards), minutes, stands=stands
            )
            for labels in peaks.keys() - track.lines.keys():
                track.lines[labels] = array("f")
            for labels, line in track.lines.items():
                _extend_line(line, peaks.get(labels), minutes, stands=stands)
            # A missing subject can return, such as when Redis did not respond. After an hour it is dropped.
            for labels in track.lines.keys() - peaks.keys():
                if all(math.isnan(point) for point in track.lines[labels]):
                    del track.lines[labels]
            if len(track.lines) > share:
                track.lines = {labels: track.lines[labels] for labels in _worst_lines(track, share)}
            track.peaks, track.gone, track.touched = [None] * len(track.labels), {}, False


def _merge_peaks(peaks: Sequence[float | None], figures: Sequence[Figure], *, upwards: bool) -> list[float | None]:
    """The worse of each pair."""
    pairs = zip(peaks, figures, strict=True)
    if upwards:
        return [
            p if f is None or f is IDLE or f is PAUSED or f is NOT_USUAL or (p is not None and p >= f) else f
            for p, f in pairs
        ]
    return [
        p if f is None or f is IDLE or f is PAUSED or f is NOT_USUAL or (p is not None and p <= f) else f
        for p, f in pairs
    ]


def _worst_value(values: Iterable[float | None], *, upwards: bool) -> float | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return max(known) if upwards else min(known)


def _worst_lines(track: _Track, most: int) -> list[AlertLabels]:
    """The worst series of the newest minute, worst first; unknown ones come last."""
    sign = -1.0 if track.rule.worsens_upwards else 1.0

    def rank_line(labels: AlertLabels) -> float:
        newest = track.lines[labels][-1]
        return math.inf if math.isnan(newest) else sign * newest

    return nsmallest(most, track.lines, key=rank_line)


def _extend_line(line: array[float], point: float | None, minutes: int, *, stands: bool) -> None:
    known = _UNKNOWN if point is None else point
    line.append(known)
    if minutes > 1:
        line.extend([known if stands else _UNKNOWN] * (minutes - 1))
    del line[:-POINTS]


def _build_history(track: _Track, most: int) -> RuleHistory:
    lines = (
        TrackedSeries(labels=labels, points=_series_from_line(track.lines[labels]))
        for labels in _worst_lines(track, most)
    )
    return RuleHistory(mark=track.mark, since=track.since, worst=_series_from_line(track.worst), lines=tuple(lines))


def _series_from_line(line: Iterable[float]) -> Series:
    return tuple(map(_round_point, line))


def _round_point(value: float) -> Point:
    """A point as it is stored: six significant digits, whole numbers as integers, which take less space."""
    if math.isnan(value):
        return None
    rounded = float(f"{value:.6g}")
    return int(rounded) if rounded.is_integer() else rounded


def _line_from_series(points: Series, missed: int) -> array[float]:
    line = array("f", (_UNKNOWN if point is None else point for point in points[-POINTS:]))
    line.extend([_UNKNOWN] * missed)
    del line[:-POINTS]
    return line
