"""One incident from start to end: a worker stops, users are notified, one acknowledges, it resolves."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from dashboard.demo.embedded import reserved_port
from tests.alerts.channels.fake_providers import HttpSink
from tests.alerts.channels.smtp import SmtpSink
from tests.conftest import start_server
from tests.contract.bullmq_library import WORKLOAD, BullMQLibrary
from tests.e2e.conftest import Visit, disabled_rules, wait_for_queues
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
critical = 600
for_s = 1
recover_for_s = 1
new_instance_grace_s = 0
group_wait_s = 0
"""
# Shipped rules that may fire on a machine that takes its time.
OFF = ("checker-slow", "queue-latency", "queue-no-consumers", "queue-no-progress", "workers-gone")
TOLD = ["firing", "firing", "resolved", "resolved"]


@contextmanager
def at_work(redis_url: str) -> Iterator[None]:
    """A real BullMQ worker of the queue `mails`, killed at the end."""
    node = shutil.which("node")
    assert node is not None
    command = [node, WORKLOAD / "stream.mjs", "work", redis_url, "mails"]
    with child(command, name="bullmq-worker", pipes=True, gently=False) as process:
        assert process.read_line() == "ready"
        yield


def add_job(redis_url: str, *, age_s: float = 0) -> None:
    """Have BullMQ add a job that was, by its timestamp, added `age_s` ago."""
    timestamp = int((time.time() - age_s) * 1000)
    BullMQLibrary().drive("add", redis_url, "mails", name="mail", opts={"timestamp": timestamp})


def test_a_worker_stops_and_restarts(visit: Visit, tmp_path: Path) -> None:
    with ExitStack() as stack:
        slack, mails = HttpSink(), SmtpSink()
        stack.callback(slack.close)
        stack.callback(mails.close)
        redis = stack.enter_context(start_server("redis-7"))
        port = stack.enter_context(reserved_port())
        url = f"http://127.0.0.1:{port}"
        settings = tmp_path / "queuedeck.toml"
        off = disabled_rules(*OFF)
        settings.write_text(SETTINGS.format(redis=redis.url, url=url, slack=slack.url, smtp=mails.port) + off)
        add_job(redis.url)
        with at_work(redis.url):
            stack.enter_context(serving("--config", settings, port=port))
            wait_for_queues(url, 1)
            page = visit(url, outage=True).page
            banner = page.locator("#firing")
            expect(page.locator("table.queues")).to_contain_text("mails")
            figures = f"{url}/api/v1/queues/main/bullmq/mails"
            wait_until(lambda: get_json(figures)["counts"]["completed"] == 1, what="the first job to be completed")
            expect(banner).to_be_hidden()
        # No worker is left, and a job is waiting.
        add_job(redis.url, age_s=3600)
        expect(banner).to_contain_text("critical: Mail waits: mails (bullmq, main)")
        expect(page).to_have_title(re.compile(r"^\(1\) "))
        wait_until(lambda: slack.requests and mails.mails, what="the first message of each channel")
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
        page.get_by_role("button", name="Acknowledge", exact=True).click()
        expect(banner).to_have_text(re.compile("1 alert firing, all acknowledged or silenced"))
        expect(page).to_have_title(re.compile(r"^Alerts"))
        with at_work(redis.url):
            wait_until(lambda: len(slack.requests) == 2 and len(mails.mails) == 2, what="the messages about the end")
            expect(banner).to_be_hidden()
            assert "resolved" in slack.requests[1].body.decode().lower()
            assert "resolved" in mails.mails[1]["Subject"].lower()
            assert mails.mails[1]["References"] == mail["Message-ID"]
            deliveries = f"{url}/api/v1/deliveries"
            wait_until(
                lambda: sorted(each["kind"] for each in get_json(deliveries)["deliveries"]) == TOLD,
                what="the record of the deliveries",
            )
            assert (len(slack.requests), len(mails.mails)) == (2, 2)
