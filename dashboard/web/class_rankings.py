"""The rankings of job classes, computed once for all viewers of a process, and never while a viewer waits for long.

Adding up weeks of thousands of classes takes seconds. A thread does it; until it is done, viewers get the last ranking.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import QueuedeckError
from ..history.classes.ranking import ClassRanking
from ..history.classes.windows import CLASS_RANGES, STEP_S
from ..history.tiers import HOUR_S, WRITTEN_WITHIN_S, classes_until_s, slot_of
from ..redact import masked_logger
from ..sources.metering import Meter, measure_cost

log = masked_logger(__name__)

# A page waits so long for a ranking before it shows that there is none yet; the API waits longer.
PAGE_WAIT_S = 0.25
API_WAIT_S = 30.0
# Of long ranges, a new ranking is computed more rarely: each costs more and differs less.
RENEWED_S = {"7d": 2 * STEP_S, "30d": HOUR_S}
# A ranking that is older than this is not shown while a new one is computed.
SHOWN_S = 2 * HOUR_S
MAX_RANKINGS = 16
MAX_FLIGHTS = 8


class RankingQuery(NamedTuple):
    """What is asked for. `range_name`: of CLASS_RANGES. `since_s`: a moment to compare with. `merged`: all queues of a
    class as one row. `until_s`: when the range ends; None for now."""

    range_name: str
    since_s: float | None = None
    merged: bool = False
    until_s: float | None = None


@dataclass(frozen=True, slots=True)
class MeasuredRanking:
    """A ranking, what reading it cost, and the slot it was computed in (seconds since 1970)."""

    ranking: ClassRanking
    cost: Meter
    slot_s: int


class ClassRankings:
    """The rankings of one process. Thread-safe."""

    def __init__(self, read: Callable[[RankingQuery, float], ClassRanking], within_s: float = WRITTEN_WITHIN_S) -> None:
        """`read`: computes the ranking of a query as of a moment in seconds since 1970. `within_s`: see
        `written_within_s`."""
        self._read = read
        self._within_s = within_s
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # one ranking is computed at a time: others would only slow it down
        self._known: OrderedDict[RankingQuery, MeasuredRanking] = OrderedDict()
        self._flights: dict[RankingQuery, Future[MeasuredRanking]] = {}
        self._failures: OrderedDict[RankingQuery, QueuedeckError] = OrderedDict()  # of the last flight

    def find(self, wanted: RankingQuery, now_s: float, wait_s: float) -> MeasuredRanking | None:
        """The ranking of the last slot that is stored, or the last known one while that is computed.

        Without either, waits for at most `wait_s` seconds; None if it is not ready by then. Raises BackendUnavailable,
        Forbidden, also while it is tried again after such an error. Cost: none for the caller; in a thread that of
        `ClassReader.read_ranking`, once for each slot in which a ranking is asked for.
        """
        since_s = None if wanted.since_s is None else _same_slots(wanted.since_s)
        until_s = None if wanted.until_s is None else float(slot_of(wanted.until_s, STEP_S))
        wanted = wanted._replace(since_s=since_s, until_s=until_s)
        slot_s = slot_of(classes_until_s(now_s, self._within_s), RENEWED_S.get(wanted.range_name, STEP_S))
        with self._lock:
            known = self._known.get(wanted)
            if known is not None and known.slot_s == slot_s:
                self._known.move_to_end(wanted)
                return known
            flight = self._flights.get(wanted)
            if flight is None and len(self._flights) < MAX_FLIGHTS:
                flight = self._flights[wanted] = Future()
                arguments = wanted, flight, now_s, slot_s
                threading.Thread(target=self._load, args=arguments, name="queuedeck-classes", daemon=True).start()
        if known is not None and abs(slot_s - known.slot_s) <= SHOWN_S:
            return known
        try:
            return flight.result(wait_s) if flight is not None else None
        except TimeoutError:
            # A Redis that does not respond takes longer than a viewer waits: without its error, the page would promise
            # a list each time.
            failure = self._failures.get(wanted)
            if failure is not None:
                raise failure.with_traceback(None) from None
            return None

    def _load(self, wanted: RankingQuery, flight: Future[MeasuredRanking], now_s: float, slot_s: int) -> None:
        try:
            with self._turn, measure_cost() as meter:
                found = MeasuredRanking(self._read(wanted, now_s), meter, slot_s)
        except Exception as exc:
            with self._lock:
                del self._flights[wanted]
                if isinstance(exc, QueuedeckError):
                    self._failures[wanted] = exc
                    if len(self._failures) > MAX_RANKINGS:
                        self._failures.popitem(last=False)
            flight.set_exception(exc)
            if not isinstance(exc, QueuedeckError):
                log.exception("the classes could not be ranked")
            return
        with self._lock:
            del self._flights[wanted]
            self._failures.pop(wanted, None)
            # Without any class, the next viewer looks again: the first ones can be stored at any moment.
            if found.ranking.rows:
                self._known[wanted] = found
                self._known.move_to_end(wanted)
                if len(self._known) > MAX_RANKINGS:
                    self._known.popitem(last=False)
        flight.set_result(found)


def _same_slots(at_s: float) -> float:
    """A moment that lies in the same slot: all moments within a slot lead to the same ranking."""
    slot_s = slot_of(at_s, STEP_S)
    return float(slot_s if at_s == slot_s else slot_s + 1)


def range_of(wanted: RankingQuery) -> int:
    """The seconds of the range that is asked for."""
    return CLASS_RANGES[wanted.range_name]
