"""Redis servers that cannot be read: the state that every page shows, and the figures from before. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from msgspec.structs import replace

from ....errors import BackendUnavailable, Forbidden, join_hint
from ....model import Snapshot, SourceStats
from ....redact import mask_text

HEADER = "Queuedeck-Down"
MAX_TEXT = 400


@dataclass(frozen=True, slots=True)
class Outage:
    """`label`: what is down ("Redis", or the name of one of several); `since_s`: for how long, None if unknown.

    `text` says what happened and what to do.
    """

    label: str
    since_s: float | None
    text: str

    @property
    def header(self) -> str:
        """The outage in ASCII, for the header and the script of the page."""
        since = "-" if self.since_s is None else f"{self.since_s:.1f}"
        return f"{since} {_quoted(self.label)} {_quoted(self.text)}"


def find_outage(snapshot: Snapshot | None, now: float) -> Outage | None:
    """The longest outage of a source; `now` in seconds since 1970, by the clock of the snapshot. None without any."""
    down = [source for source in snapshot.sources if not source.reachable] if snapshot else []
    if snapshot is None or not down:
        return None
    first = min(down, key=lambda source: source.unreachable_since or now)
    since = first.unreachable_since
    text = join_hint(first.error or "Redis is not responding", first.hint)
    label = "Redis" if len(snapshot.sources) == 1 else first.name
    if len(down) > 1:
        label, text = f"{len(down)} Redis servers", f"{', '.join(source.name for source in down)}: {text}"
    return Outage(label, None if since is None else max(0.0, now - since), text)


def outage_of_error(problem: BackendUnavailable | Forbidden) -> Outage:
    """The outage that a failed read shows. The page counts its duration itself."""
    return Outage("Redis", None, join_hint(problem.message, problem.hint))


def _quoted(text: str) -> str:
    return quote(mask_text(text)[:MAX_TEXT], safe="", errors="replace")


class LastKnown:
    """The last snapshot of each source in which it could be read, to show its figures with their age while it is down.

    Thread-safe: it only ever replaces whole entries.
    """

    def __init__(self) -> None:
        self._snapshots: dict[str, Snapshot] = {}

    def remember(self, snapshot: Snapshot) -> None:
        """Keep `snapshot` for each of its sources that could be read."""
        for source in snapshot.sources:
            if source.reachable:
                self._snapshots[source.name] = snapshot

    def fill(self, snapshot: Snapshot) -> tuple[Snapshot, Mapping[str, float]]:
        """The snapshot with the last known figures of unreachable sources and their queues, and when those were taken.

        Seconds since 1970, by source. A source that this process has never read stays without figures.
        """
        before = {
            source.name: self._snapshots[source.name]
            for source in snapshot.sources
            if not source.reachable and source.name in self._snapshots
        }
        if not before:
            return snapshot, {}
        sources = tuple(_with_health_of(source, before.get(source.name)) for source in snapshot.sources)
        queues = [queue for queue in snapshot.queues if queue.source not in before]
        for name, known in before.items():
            queues += [queue for queue in known.queues if queue.source == name]
        queues.sort(key=lambda queue: (queue.source, queue.backend, queue.name))
        taken_at = {name: known.sampled_at for name, known in before.items()}
        return replace(snapshot, sources=sources, queues=tuple(queues)), taken_at


def _with_health_of(source: SourceStats, known: Snapshot | None) -> SourceStats:
    before = next((each for each in known.sources if each.name == source.name), source) if known else source
    return replace(source, health=before.health)
