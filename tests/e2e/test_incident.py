"""One incident from its beginning to its end: a worker stops, people are told, somebody sees to it, it is over."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from dashboard.demo.embedded import reserved_port
from tests.alerts.channels.sinks import HttpSink
from tests.alerts.channels.smtp import SmtpSink
from tests.conftest import start_server
from tests.contract.bullmq_library import WORKLOAD
from tests.e2e.conftest import Visit
from tests.processes import child
from tests.serving import get_json, serving
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e
SETTINGS = """
redis_url = "{redis}"
public_url = "{url}"
sample_interval_s = 0.5
allow_private_webhooks = true
[[channels]]
id = "slack"
kind = "slack"
url = "{slack}"
[[channels]]
id = "mail"
kind = "email"
host = "127.0.0.1"
port = {smtp}
tls = "none"
from = "deck@example.com"
to = ["ops@example.com"]
[[rules]]
id = "mail-waits"
name = "Mail waits"
metric = "queue.latency_s"
critical = 5
for_s = 2
recover_for_s = 1
new_instance_grace_s = 0
group_wait_s = 0
[[rules]]
id = "checker-slow"
enabled = false
"""
TOLD = ["firing", "firing", "resolved", "resolved"]


@contextmanager
def at_work(part: str, redis_url: str) -> Iterator[None]:
    """A real BullMQ producer or worker of the queue `mails`, ended at the end."""
    node = shutil.which("node")
    assert node is not None
    command = [node, WORKLOAD / "stream.mjs", part, redis_url, "mails"]
    with child(command, name=f"bullmq-{part}", pipes=True, gently=False) as process:
        assert process.read_line() == "ready"
        yield


def test_a_worker_stops_and_comes_back(visit: Visit, tmp_path: Path) -> None:
    slack, mails = HttpSink(), SmtpSink()
    redis = start_server("redis-7")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = tmp_path / "queuedeck.toml"
    settings.write_text(
        SETTINGS.format(redis=redis.url, url=url, spool=tmp_path / "spool", slack=slack.url, smtp=mails.port)
    )
    command = ["-m", "dashboard.cli", "serve", "--config", str(settings), "--port", str(port)]
    try:
        with running(command, port), ExitStack() as producing:
            with at_work("work", redis.url):
                producing.enter_context(at_work("produce", redis.url))  # after the worker: nothing waits for its start
                wait_until(lambda: get_json(f"{url}/api/v1/queues")["total"] == 1, what="finding the queue")
                page = visit(url, outage=True).page
                banner = page.locator("#firing")
                expect(page.locator("table.queues")).to_contain_text("mails")
                expect(banner).to_be_hidden()
            # Nobody works any more while jobs arrive.
            expect(banner).to_contain_text("critical: Mail waits: mails (bullmq, main)")
            expect(page).to_have_title(re.compile(r"^\(1\) "))
            wait_until(lambda: slack.requests and mails.mails, what="the messages")
            told, mail = slack.requests[0].body.decode(), mails.mails[0]
            assert "Mail waits" in told
            assert "Mail waits" in mail["Subject"]
            link = re.search(rf"{re.escape(url)}/alerts/[0-9a-f]+/ack\?episode=[\w%.:-]+", told)
            assert link
            plain = mail.get_body(("plain",))
            assert plain is not None
            assert link[0] in plain.get_content()
            page.goto(link[0])
            expect(page.get_by_role("heading", level=1)).to_have_text("Mail waits")
            assert get_json(f"{url}/api/v1/alerts")["alerts"][0]["acknowledged_by"] is None
            page.get_by_role("button", name="I see to it").click()
            expect(banner).to_have_text(re.compile("1 alert fires, all seen to or silenced"))
            expect(page).to_have_title(re.compile(r"^Alerts"))
            with at_work("work", redis.url):
                wait_until(
                    lambda: len(slack.requests) == 2 and len(mails.mails) == 2, within_s=60, what="the end being told"
                )
                expect(banner).to_be_hidden()
                assert "resolved" in slack.requests[1].body.decode().lower()
                assert "resolved" in mails.mails[1]["Subject"].lower()
                assert mails.mails[1]["References"] == mail["Message-ID"]
                deliveries = f"{url}/api/v1/deliveries"
                wait_until(
                    lambda: sorted(each["kind"] for each in get_json(deliveries)["deliveries"]) == TOLD,
                    what="the record of what was told",
                )
                assert (len(slack.requests), len(mails.mails)) == (2, 2)
    finally:
        redis.close()
        slack.close()
        mails.close()
