"""What the charts of a page draw: one set of values for each of their figures, all over the same slots."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from ....history.history_reader import HistoryRange, HistoryReader, choose_range
from ....history.series_keys import SeriesKey
from ....history.slots import Slot, figure_values
from .chart_marks import ChartMark
from .chart_notes import FiguresNow, note_charts
from .chart_range import ChartRange
from .charts import Chart

# The last slot is shown once this share of it was sampled.
LEAST_SHARE = 0.25
Values = list[float | int | None]


class ChartData(msgspec.Struct, frozen=True, kw_only=True):
    """Values by figure, one for each slot from `start_s` on; null is a gap. Seconds since 1970.

    `earlier`: the values of the time before that the URL compares with, in as many slots. `marks`: all of the range,
    newest first; `marks_digest`: of them, as in the list of the page. `notes`: by the ID of a chart, what is estimated
    or unknown in the whole range.
    """

    start_s: int
    step_s: int
    end_s: int
    values: dict[str, Values]
    earlier: dict[str, Values] = {}
    marks: tuple[ChartMark, ...] = ()
    marks_digest: str = ""
    notes: dict[str, str] = {}

    def since(self, start_s: float | None) -> ChartData:
        """Only the slots that end after `start_s`; all of them for None."""
        skipped = 0 if start_s is None else int((start_s - self.start_s) // self.step_s)
        if not 0 < skipped < (self.end_s - self.start_s) // self.step_s:
            return self
        return replace(
            self,
            start_s=self.start_s + skipped * self.step_s,
            values={name: values[skipped:] for name, values in self.values.items()},
            earlier={name: values[skipped:] for name, values in self.earlier.items()},
        )


def read_chart_data(
    reader: HistoryReader,
    key: SeriesKey,
    charts: Sequence[Chart],
    wanted: ChartRange,
    now_s: float,
    figures_now: FiguresNow,
) -> ChartData:
    """The data of `charts` about one series, of which `figures_now` is known now. Raises BackendUnavailable, Forbidden.

    Cost: 2 round trips, 4 if the range is compared with an earlier one; both then have the slots of the earlier one.
    """
    shift_s = wanted.earlier_s
    before = choose_range(key.kind, wanted.start_s - shift_s, wanted.end_s - shift_s, now_s)
    slots = HistoryRange(before.start_s + shift_s, before.end_s + shift_s, before.step_s)
    earlier = _values_of(key, charts, reader.read_slots([key], before, now_s)[key]) if shift_s else {}
    found = drop_beginning(reader.read_slots([key], slots, now_s)[key], slots.step_s, now_s)
    return ChartData(
        start_s=slots.start_s,
        step_s=slots.step_s,
        end_s=slots.end_s,
        values=_values_of(key, charts, found),
        earlier=earlier,
        notes=note_charts(key.kind, charts, found, figures_now),
    )


def drop_beginning(slots: Sequence[Slot], step_s: int, now_s: float) -> list[Slot]:
    """The slots, with a gap in the place of a last one that has only just begun: the highest figure of some seconds
    would look like a dip after those of whole slots."""
    found = list(slots)
    if found and found[-1].start_s + step_s > now_s and found[-1].sampled_ms < step_s * 1000 * LEAST_SHARE:
        found[-1] = found[-1]._replace(cells=None)
    return found


def _values_of(key: SeriesKey, charts: Sequence[Chart], slots: Sequence[Slot]) -> dict[str, Values]:
    figures = dict.fromkeys(line.figure for chart in charts for line in chart.lines)
    return {figure: figure_values(key.kind, figure, slots) for figure in figures}
