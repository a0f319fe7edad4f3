"""The last seven days in the form of a rule: when it would have fired, and a graph of them."""

from __future__ import annotations

import re

from flask.testing import FlaskClient
from msgspec.structs import replace

from dashboard.clock import now_s
from dashboard.history.history_writer import HistoryWriter
from dashboard.history.recorder import HistoryRecorder
from dashboard.sources.source import Source
from dashboard.store.redis_store import LEAD, Store
from tests.unit.history.samples import queue_row, snapshot_of
from tests.web.conftest import MakeApp
from tests.web.test_rule_form import draft
from tests.web.test_rules import text

MINUTES = 180
DEEP = range(100, 140)  # minutes ago


def record_past(source: Source) -> None:
    """Record a queue that was deep in the minutes DEEP, one sample a minute, as a leader would."""
    source.execute("SET", LEAD, "past:1", "PX", 60_000)
    writer, recorder = HistoryWriter(Store(source), 64 * 2**20), HistoryRecorder()
    writer.load_series()
    end_s = now_s()
    for ago in range(MINUTES, 0, -1):
        sample = snapshot_of(end_s - ago * 60, queue_row("mail", 500 if ago in DEEP else 4))
        assert writer.append_slots("past:1", recorder.add_sample(replace(sample, interval_s=60.0), {}))
    assert writer.append_slots("past:1", recorder.close())
    source.execute("DEL", LEAD)


def outlook(client: FlaskClient, **form: str) -> str:
    """What the preview says about the last seven days."""
    words = text(draft(client, **{"queues": "", "queues_not": "", "source": "*", "backend": "*"} | form))
    found = re.search(r"In the last 7 days (.*?)(?= Notification|$)", words)
    return found[1] if found else ""


def test_a_draft_says_when_it_would_have_fired(make_app: MakeApp, source: Source, jobs: list[str]) -> None:
    record_past(source)
    client = make_app().test_client()
    said = outlook(client, metric="queue.depth", warning="", critical="100", for_s="2 min", recover_for_s="1 min")
    assert re.match(r"Would have fired 1 time, (40|45|50) m in all", said), said
    assert re.search(r"critical .* for (40|45|50) m", said), said
    assert "now highest 500 critical at 100" in said
    assert "5 min of the last 2 days, and in each 15 min before" in said
    assert re.search(r"Values go back 3 h", said), said
    calm = outlook(client, metric="queue.depth", warning="", critical="1000", for_s="2 min")
    assert calm.startswith("Would not have fired."), calm
    assert '<figure class="weekly">' in draft(client, metric="queue.depth", critical="100")


def test_without_a_stored_past_nothing_is_said(make_app: MakeApp, source: Source, jobs: list[str]) -> None:
    client = make_app().test_client()
    assert outlook(client, metric="queue.depth", critical="100") == ""
    record_past(source)
    assert outlook(client, metric="queue.stalled", critical="1") == ""
