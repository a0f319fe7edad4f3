"""What is examined when the page of a Redis is opened: the doctor's findings, the slow log, the latency events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ....backends.monitored_sources import MonitoredSources
from ....clock import now_s
from ....doctor.cluster import examine_servers
from ....doctor.findings import DoctorFinding, FindingLevel
from ....doctor.libraries import examine_actions
from ....doctor.permissions import examine_permissions
from ....errors import QueuedeckError
from ....model import QueueRef, QueueStats
from ....sources.metering import measure_cost
from ....sources.server_logs import ServerLogs, read_server_logs
from ....store.cache import SingleFlightCache

KEEP_S = 60.0
UNREAD = ServerLogs()


@dataclass(frozen=True, slots=True)
class ServerReport:
    """`findings`: worst first, without those that all is OK, which are `passed`. `at`: seconds since 1970.

    `problem`: why the server could not be examined; what was found before that is still there.
    """

    at: float
    findings: tuple[DoctorFinding, ...] = ()
    passed: tuple[DoctorFinding, ...] = ()
    logs: ServerLogs = UNREAD
    problem: QueuedeckError | None = None
    commands: int = 0
    round_trips: int = 0
    cost_s: float = 0.0


class ServerReports:
    """Examines each source for all viewers of a process, at most once every KEEP_S. Thread-safe."""

    def __init__(self, sources: MonitoredSources, current_queues: Callable[[], Sequence[QueueStats]]) -> None:
        self._sources = sources
        self._current_queues = current_queues
        self._reports: SingleFlightCache[ServerReport] = SingleFlightCache(KEEP_S)

    def read_report(self, name: str) -> ServerReport:
        """The report on the source `name`; never raises for one that cannot be read.

        Cost: mostly none, else 10 round trips and 2 for each library with queues there. It only reads.
        """
        return self._reports.get(name, lambda: self._examine(name))

    def _examine(self, name: str) -> ServerReport:
        source = self._sources.sources[name]
        found: list[DoctorFinding] = []
        logs, problem = UNREAD, None
        with measure_cost() as meter:
            try:
                logs = read_server_logs(source)
                found += examine_servers(source)
                found += examine_permissions(source)
                found += self._examine_libraries(name)
            except QueuedeckError as exc:
                problem = exc
        worst_first = sorted(found, key=lambda finding: -finding.level)
        return ServerReport(
            at=now_s(),
            findings=tuple(finding for finding in worst_first if finding.level is not FindingLevel.OK),
            passed=tuple(finding for finding in worst_first if finding.level is FindingLevel.OK),
            logs=logs,
            problem=problem,
            commands=meter.commands,
            round_trips=meter.round_trips,
            cost_s=meter.seconds,
        )

    def _examine_libraries(self, name: str) -> list[DoctorFinding]:
        refs: dict[str, list[QueueRef]] = {}
        for queue in self._current_queues():
            if queue.source == name:
                refs.setdefault(queue.backend, []).append(queue.ref)
        backends = [(self._sources.backend(name, backend), known) for backend, known in refs.items()]
        return [
            examine_actions(backend, known)
            for backend, known in backends
            if backend.job_actions or backend.queue_actions
        ]
