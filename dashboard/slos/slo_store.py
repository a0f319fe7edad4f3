"""The reports of all objectives, in the store: the leader publishes them, all processes read them."""

from __future__ import annotations

from collections.abc import Sequence

from ..model import Value
from ..settings import SloSettings
from ..store.cache import SingleFlightCache
from ..store.packing import pack, unpack
from ..store.redis_store import LEAD, PREFIX, Store
from .slo_report import SloReport, SloStatus, digest_of

SLOS = f"{PREFIX}:slos"  # string: packed SloReports of at most MAX_SLOS objectives
# Until then, pages show the last reports with their age.
KEEP_MS = 86_400_000
READ_EVERY_S = 5.0

# KEYS: lead, slos. ARGV: the lease value; the reports; their TTL in ms. Returns 0 if another process leads.
_PUBLISH = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return 1
"""


class SloReports(Value, frozen=True, kw_only=True):
    """What is published, in the order of the settings."""

    reports: tuple[SloReport, ...] = ()


class SloStore:
    """Writes and reads the reports. Thread-safe. Raises BackendUnavailable, Forbidden."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def publish(self, lead: str, reports: Sequence[SloReport]) -> bool:
        """Replace the reports; False if another process leads. Cost: 1 round trip."""
        packed = pack(SloReports(reports=tuple(reports)))
        return bool(self._store.run_script(_PUBLISH, (LEAD, SLOS), lead, packed, KEEP_MS))

    def read_reports(self) -> tuple[SloReport, ...]:
        """The reports as they were published last; none if they cannot be decoded. Cost: 1 round trip."""
        (raw,) = self._store.read_keys(("GET", SLOS))
        found = unpack(raw, SloReports) if raw else None
        return found.reports if found is not None else ()


class SloReader:
    """The objectives of this process with their last reports. Thread-safe."""

    def __init__(self, slos: Sequence[SloSettings], store: Store) -> None:
        self._slos = {slo.id: (slo, digest_of(slo)) for slo in slos}
        self._store = SloStore(store)
        self._cache: SingleFlightCache[tuple[SloStatus, ...]] = SingleFlightCache(READ_EVERY_S)

    @property
    def slos(self) -> tuple[SloSettings, ...]:
        """The objectives of the settings."""
        return tuple(slo for slo, _ in self._slos.values())

    def list_statuses(self) -> tuple[SloStatus, ...]:
        """All objectives in the order of the settings.

        Raises BackendUnavailable, Forbidden. Cost: none without objectives, else 1 round trip every READ_EVERY_S for
        all viewers of a process.
        """
        return self._cache.get("", self._read) if self._slos else ()

    def _read(self) -> tuple[SloStatus, ...]:
        reports = {(report.slo_id, report.digest): report for report in self._store.read_reports()}
        return tuple(SloStatus(slo, reports.get((slo.id, digest))) for slo, digest in self._slos.values())
