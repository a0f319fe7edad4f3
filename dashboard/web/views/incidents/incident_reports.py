"""Incident reports of one process: read once for the page that prepares a report and for its file."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ....incidents.incident_reader import ALERTS, IncidentReader
from ....incidents.scope import IncidentScope
from ....services import Services
from ....store.cache import SingleFlightCache
from .report import IncidentReport, build_report

KEPT_S, MAX_REPORTS = 60.0, 4


class IncidentReports:
    """Builds reports, each of which is cached for KEPT_S. Thread-safe."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._reader = IncidentReader(
            services.history,
            services.alert_service.alerts,
            services.marks,
            services.action_service.audit_log,
            services.pauses,
            services.dead_letter_service,
            services.snapshots.current_queues,
        )
        self._reports: SingleFlightCache[IncidentReport] = SingleFlightCache(KEPT_S, max_entries=MAX_REPORTS)

    def find(
        self, scope: IncidentScope, start_s: float, end_s: float, now_s: float, *, audited: bool
    ) -> IncidentReport:
        """The report of a range; `audited`: with the audit log. Raises BackendUnavailable while others take too long.

        Cost: see IncidentReader.read_records, none for a complete report of the last KEPT_S.
        """
        services = self._services
        key = scope, math.ceil(start_s), math.ceil(end_s), audited

        def load() -> IncidentReport:
            sources: Iterable[str] = [scope.source] if scope.source else services.sources.sources
            records = self._reader.read_records(
                scope, float(key[1]), float(key[2]), now_s, sources=sources, audited=audited
            )
            if services.alert_service.ownership.conflict is not None:
                records.missing.append("Alerts are evaluated by another dashboard, whose pages have their history.")
                records.unread.add(ALERTS)
            return build_report(records, services.sources.titles)

        report = self._reports.get(key, load)
        if not report.is_final:  # what could not be read is read again
            self._reports.invalidate()
        return report
