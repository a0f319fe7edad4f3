"""A past whose figures are known, and a reader of the file that rejects what no browser should have to repair."""

from __future__ import annotations

from html.parser import HTMLParser

import msgspec
import redis

from dashboard.alerts.evaluation.state_machine import AlertLabels
from dashboard.alerts.keys import EPISODES
from dashboard.alerts.notification import HistoryEntry
from dashboard.alerts.rules.rule import Severity
from dashboard.history.history_writer import HistoryWriter
from dashboard.history.recorder import HistoryRecorder
from dashboard.sources.source import Source
from dashboard.store.packing import pack
from dashboard.store.redis_store import LEAD, Store
from tests.unit.history.samples import flow_of, flows_of, queue_row, snapshot_of

STEP_S = 10
# In samples before the end: when it began, a gap of five minutes, and ten bad minutes.
LENGTH, GAP, BAD = 300, range(211, 241), range(121, 181)
CALM_DEPTH, BAD_DEPTH, FAILED = 4, 44, 5 * len(BAD)
_VOID = frozenset({"meta", "br", "input", "link", "hr"})


def record_past(source: Source, end_s: float) -> None:
    """Record the queue `mail` with a job per second: calm, a gap, calm, ten bad minutes in which half fail, calm."""
    source.execute("SET", LEAD, "past:1", "PX", 60_000)
    writer, recorder = HistoryWriter(Store(source), 64 * 2**20), HistoryRecorder()
    writer.load_series()
    for number in range(LENGTH, 0, -1):
        if number in GAP:
            continue
        is_bad = number in BAD
        flow = flow_of("mail", 10, 5 if is_bad else 0, *([2.0 if is_bad else 0.5] * 10), span_s=STEP_S)
        flow = msgspec.structs.replace(flow, waits_s=(0.2,) * 10)
        row = queue_row("mail", BAD_DEPTH if is_bad else CALM_DEPTH)
        sample = snapshot_of(end_s - number * STEP_S, row)
        assert writer.append_slots("past:1", recorder.add_sample(sample, flows_of(flow)))
    assert writer.append_slots("past:1", recorder.close())
    source.execute("DEL", LEAD)


def record_alert(
    client: redis.Redis,
    at: float,
    kind: str,
    *,
    began: float,
    queue: str = "mail",
    name: str = "Queue is deep",
    episode: str = "e1",
    severity: Severity = Severity.CRITICAL,
) -> None:
    """One change of an alert, as the checker stores it."""
    entry = HistoryEntry(
        kind=kind,
        episode=episode,
        at=at,
        rule_id="deep",
        rule_name=name,
        metric="queue.depth",
        severity=severity,
        labels=AlertLabels(source="main", backend="rq", queue=queue),
        threshold=20.0,
        value=30.0,
        peak=44.0,
        started_at=began,
        lasted_s=at - began,
    )
    client.xadd(EPISODES, {"e": pack(entry)}, id=f"{int(at * 1000)}-*")


class StrictReader(HTMLParser):
    """Reads a file: its text, its elements and their attributes. Raises AssertionError for tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open, tag
        assert self._open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        """All text on one line."""
        return " ".join(" ".join(self.words).split())

    def section(self, name: str, until: str) -> str:
        """The text from the heading `name` until the heading `until`."""
        return self.text.split(f" {name} ")[-1].partition(f" {until} ")[0]
