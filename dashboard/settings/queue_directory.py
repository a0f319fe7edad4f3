"""Who owns a queue, its runbook and its note, as `[[queues]]` of the settings say. Pure.

Of the entries that match a queue, each field comes from the first one that sets it: a general entry at the end, such as
`match = "*"`, fills in what the particular ones before it leave out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..globs import EXPECTED, GLOB_LIMIT, glob_matches, is_glob
from .schema import QueueSettings

MAX_ENTRIES = 1000
MAX_GLOBS = 50
MAX_OWNER = 80
MAX_NOTE = 200  # as long as a fact of a notification
MAX_RUNBOOK = 500
_MAX_KNOWN = 20_000


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """What the settings say about one queue; None where they say nothing."""

    owner: str | None = None
    runbook_url: str | None = None
    note: str | None = None

    def __bool__(self) -> bool:
        """Whether they say anything."""
        return self != NO_INFO


NO_INFO = QueueInfo()


class QueueDirectory:
    """The entries of the settings, by queue. Thread-safe."""

    def __init__(self, entries: Iterable[QueueSettings] = ()) -> None:
        self._entries = tuple(entries)
        self._known: dict[tuple[str, str, str], QueueInfo] = {}

    def find(self, source: str | None, backend: str | None, queue: str | None) -> QueueInfo:
        """What is said about that queue; NO_INFO if any part of its address is None, or no entry matches.

        Cost: one look-up, the first time one comparison per glob.
        """
        if not self._entries or source is None or backend is None or queue is None:
            return NO_INFO
        key = source, backend, queue
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            found = self._known[key] = self._read(*key)
        return found

    def _read(self, source: str, backend: str, queue: str) -> QueueInfo:
        owner = runbook_url = note = None
        for entry in self._entries:
            if (
                glob_matches(entry.source, source)
                and glob_matches(entry.backend, backend)
                and any(glob_matches(glob, queue) for glob in globs_of(entry))
            ):
                owner, runbook_url, note = owner or entry.owner, runbook_url or entry.runbook, note or entry.note
        return QueueInfo(owner, runbook_url, note)


def globs_of(entry: QueueSettings) -> tuple[str, ...]:
    """The globs of an entry, of which one has to match the name of the queue."""
    return (entry.match,) if isinstance(entry.match, str) else entry.match


def find_problem(entry: QueueSettings) -> str | None:
    """What is wrong with an entry, as `field: expected …`; None when it is valid."""
    globs = globs_of(entry)
    if not 0 < len(globs) <= MAX_GLOBS or not all(map(is_glob, globs)):
        return f"match: expected a queue name, or 1 to {MAX_GLOBS} {EXPECTED}"
    for field, glob in (("source", entry.source), ("backend", entry.backend)):
        if not is_glob(glob):
            return f"{field}: expected a glob of at most {GLOB_LIMIT} characters with * and ? only"
    for field, text, most in (("owner", entry.owner, MAX_OWNER), ("note", entry.note, MAX_NOTE)):
        if text is not None and not (0 < len(text) <= most and text.isprintable() and text.strip() == text):
            return f"{field}: expected one line of 1 to {most} printable characters"
    if entry.runbook is not None and not _is_runbook(entry.runbook):
        return "runbook: expected an http:// or https:// URL of plain characters, without a password"
    if entry.owner is entry.runbook is entry.note is None:
        return "owner, runbook, note: expected at least one of them"
    return None


def _is_runbook(url: str) -> bool:
    """Whether pages and messages can link to `url`."""
    if len(url) > MAX_RUNBOOK or not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return is_web and "@" not in parts.netloc
