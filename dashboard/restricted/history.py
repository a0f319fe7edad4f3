"""The recorded history as someone with some rights sees it."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import Forbidden, NotFound
from ..history.history_reader import HistoryRange, HistoryReader
from ..history.series_keys import SeriesKey
from ..history.slots import Slot, StoredSeries
from ..rights.rights import Rights
from ..store.redis_store import Store


class RestrictedHistory(HistoryReader):
    """Reads the series of queues and job classes that may be seen. Those of a whole source, or of all of them, are only
    for those who see all of it.

    Raises NotFound and Forbidden for others.
    """

    def __init__(self, store: Store, rights: Rights) -> None:
        super().__init__(store)
        self._rights = rights

    def read_slots(
        self, keys: Sequence[SeriesKey], wanted: HistoryRange, now_s: float, *, coarse: bool = False
    ) -> dict[SeriesKey, list[Slot]]:
        """As HistoryReader.read_slots."""
        self._check(keys)
        return super().read_slots(keys, wanted, now_s, coarse=coarse)

    def read_records(
        self, keys: Sequence[SeriesKey], wanted: HistoryRange, now_s: float
    ) -> dict[SeriesKey, StoredSeries]:
        """As HistoryReader.read_records."""
        self._check(keys)
        return super().read_records(keys, wanted, now_s)

    def _check(self, keys: Sequence[SeriesKey]) -> None:
        for key in keys:
            if not self._rights.sees(key.source or None, key.backend or None, key.name or None):
                if key.name:
                    raise NotFound("Queue not found.")
                raise Forbidden("This is about all queues together, and you may see only some of them.")
