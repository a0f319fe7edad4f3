"""The outage that every page shows while a Redis cannot be read. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from ....errors import BackendUnavailable, Forbidden, join_hint
from ....model import Snapshot
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
