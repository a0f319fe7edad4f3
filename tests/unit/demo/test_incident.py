"""The demo's incident: when the payment provider is down, what workers do then, and the rule that reports it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
from rq import Queue, Retry
from rq.job import JobStatus
from rq.worker import SimpleWorker

from dashboard.alerts.rules.default_rules import default_rules
from dashboard.alerts.rules.ruleset import Ruleset
from dashboard.demo import bullmq_work, faults, incident, runner, serve, shop
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.demo.incident import OUTAGE_FILE, OUTAGE_VARIABLE, Incident, describe_story
from dashboard.demo.processes import READY_LINE, DemoProcess
from dashboard.errors import ConfigurationError


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 500.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a demo, as its workers know it."""
    monkeypatch.setenv(OUTAGE_VARIABLE, str(tmp_path / OUTAGE_FILE))
    return tmp_path


def test_the_outage_begins_and_ends_once_at_its_times(folder: Path, clock: Clock) -> None:
    outage = Incident(folder, 120.0, 90.0, clock)
    seen = []
    for _ in range(400):
        seen.append((clock.now - 500.0, incident.is_provider_down(), outage.advance()))
        clock.now += 1.0
    assert [(at, line) for at, _, line in seen if line] == [
        (120.0, "payments.example answers 502: payments are failing."),
        (210.0, "payments.example answers again: retry the failed payments."),
    ]
    assert [at for at, down, _ in seen if down] == [float(second) for second in range(121, 211)]


def test_the_outage_begins_and_ends_at_once_when_asked(folder: Path, clock: Clock) -> None:
    outage = Incident(folder, 120.0, 90.0, clock)
    for down in (True, False):
        assert outage.advance() is None
        assert outage.advance(at_once=True) is not None
        assert incident.is_provider_down() is down
    assert outage.advance(at_once=True) is None
    assert not incident.is_provider_down()


def test_its_duration_counts_from_its_beginning(folder: Path, clock: Clock) -> None:
    outage = Incident(folder, 120.0, 90.0, clock)
    outage.advance(at_once=True)
    clock.now += 89.0
    assert outage.advance() is None
    clock.now += 1.0
    assert outage.advance() is not None
    assert not incident.is_provider_down()


def test_payments_fail_during_the_outage_only(folder: Path, clock: Clock) -> None:
    def pay() -> object:
        return shop.capture_payment(order="2026-000001", customer=7, cents=1250, currency="EUR")["captured"]

    outage = Incident(folder, 0.0, 90.0, clock)
    assert pay() == "12.50 EUR"
    outage.advance()
    with pytest.raises(faults.UpstreamError, match=r"^502 Bad Gateway from payments\.example$"):
        pay()
    outage.advance(at_once=True)
    assert pay() == "12.50 EUR"


def test_the_provider_is_never_down_outside_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OUTAGE_VARIABLE, raising=False)
    assert not incident.is_provider_down()


def test_the_story_names_its_times_in_three_lines() -> None:
    lines = describe_story(120.0, 90.0)
    assert len(lines) == 3
    assert lines[0].startswith("After 2 m, payments.example answers 502 for 1 m 30 s")
    assert describe_story(0.0, 90.0)[0].startswith("From the start, payments.example answers 502")
    assert all(len(line) <= 110 for line in lines)


@pytest.mark.parametrize(
    ("after_s", "for_s", "named"),
    [
        (-1.0, 60.0, "--incident-after: expected 0 to 86400 seconds; got -1"),
        (float("nan"), 60.0, "--incident-after: expected 0 to 86400 seconds; got nan"),
        (90_000.0, 60.0, "--incident-after: expected 0 to 86400 seconds; got 90000"),
        (0.0, 0.5, "--incident-for: expected 1 to 86400 seconds; got 0.5"),
        (0.0, float("inf"), "--incident-for: expected 1 to 86400 seconds; got inf"),
    ],
)
def test_times_out_of_range_are_rejected(after_s: float, for_s: float, named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        runner.main(Namespace(port=0, no_auth=True, incident_after=after_s, incident_for=for_s))
    assert caught.value.message == named


def test_one_quick_rule_reports_the_payments_and_no_other_does() -> None:
    rules = {rule.id: rule for rule in Ruleset(serve.ALERT_RULES, 2.0).list_rules()}
    payments = rules["payments-failing"]
    assert (payments.queues, payments.critical, payments.for_s) == (("payments",), 10, 4)
    for shipped in default_rules():
        if shipped.metric in ("queue.error_ratio", "queue.dead", "queue.dead_growth_per_h"):
            assert rules[shipped.id].queues_not == ("payments",)
            assert (rules[shipped.id].warning, rules[shipped.id].for_s) == (shipped.warning, shipped.for_s)
        else:
            assert rules[shipped.id] == shipped


@pytest.fixture
def started(tmp_path: Path) -> Callable[..., DemoProcess]:
    """A process of the demo that printed something and exited."""

    def start(printed: str, *, producer: bool) -> DemoProcess:
        log = tmp_path / "process.log"
        log.write_text(printed)
        process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
        process.wait()
        return DemoProcess("RQ producer", process, log, producer)

    return start


def test_a_producer_is_starting_until_it_says_that_it_is_ready(tmp_path: Path) -> None:
    log = tmp_path / "process.log"
    log.write_text("a warning\n")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert DemoProcess("RQ producer", process, log, producer=True).is_starting
        assert not DemoProcess("RQ worker", process, log).is_starting
        log.write_text(f"a warning\n{READY_LINE}\n")
        assert not DemoProcess("RQ producer", process, log, producer=True).is_starting
        assert process.stdin is not None
        process.stdin.write(b"\n")


def test_a_producer_that_exited_is_not_waited_for(started: Callable[..., DemoProcess]) -> None:
    assert not started("a warning\n", producer=True).is_starting


def test_the_reason_of_an_exit_is_not_that_it_was_ready(started: Callable[..., DemoProcess]) -> None:
    assert started(f"{READY_LINE}\n", producer=True).last_output() == "exit status 3"
    assert started(f"no memory\n{READY_LINE}\n", producer=True).last_output() == "no memory"


@pytest.fixture
def unlucky(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every job that can fail by chance does, and none takes time."""

    async def pause(_seconds: float) -> None:
        return None

    monkeypatch.setattr("random.random", lambda: 0.0)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    monkeypatch.setattr("asyncio.sleep", pause)


@pytest.mark.usefixtures("unlucky")
def test_a_letter_fails_at_most_in_its_first_attempt() -> None:
    with EmbeddedRedis() as server, redis.Redis.from_url(server.url) as connection:
        queue = Queue("newsletter", connection=connection)
        job = queue.enqueue(shop.send_issue, 7, "anna@example.com", retry=Retry(max=shop.LETTER_RETRIES))
        SimpleWorker([queue], connection=connection).work(burst=True, logging_level="CRITICAL")
        job.refresh()
        assert (job.get_status(), job.retries_left) == (JobStatus.FINISHED, shop.LETTER_RETRIES - 1)


class BullMQJob:
    """As much of a job as processors use."""

    def __init__(self, attempts: int) -> None:
        self.attemptsMade = attempts
        self.data = {"url": "https://hooks.ledger.example/incoming"}
        self.lines: list[str] = []

    async def log(self, line: str) -> None:
        self.lines.append(line)


def deliver(attempts: int) -> dict[str, int]:
    """The result of one attempt, in a thread of its own: the browser of other tests has a loop in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(bullmq_work.deliver_webhook(BullMQJob(attempts), ""))).result()


@pytest.mark.usefixtures("unlucky")
def test_a_webhook_fails_at_most_in_its_first_attempt() -> None:
    with pytest.raises(faults.UpstreamError, match=r"^503 Service Unavailable from hooks\.ledger\.example$"):
        deliver(0)
    for attempts in (1, 2):
        assert deliver(attempts)["status"] == 200
