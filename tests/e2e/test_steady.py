"""Nothing moves under a hand: questions before what destroys, rows in order, pages that neither jump nor chatter."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
import redis
from playwright.sync_api import Locator, Page, Response, expect
from rq import Queue, SimpleWorker

from dashboard.demo.embedded import EmbeddedRedis
from tests.dead_letters import failing_jobs
from tests.dead_letters.test_groups import fail_rq
from tests.e2e.conftest import Visit, Visitor, confirm, disabled_rules, wait_for_queues
from tests.serving import get_json, serving
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SETTINGS = """
redis_url = "{url}"
sample_interval_s = 1.0
[[rules]]
id = "deep"
name = "Too deep"
metric = "queue.depth"
critical = 8
for_s = 0
min_samples = 1
recover_for_s = 0
new_instance_grace_s = 0
"""
QUEUES = ("cash", "mail", "video")
WIDTHS = (390, 1024, 1440)
MAX_SHIFT = (
    0.1  # "good" by the definition of cumulative layout shift; here of all shifts, not of the worst five seconds
)
# The height of a box, and the room above and below what is in it, in whole pixels.
ROOM = """
(box) => {
  const edge = box.getBoundingClientRect();
  const parts = [...box.children].map((part) => part.getBoundingClientRect());
  const above = Math.min(...parts.map((part) => part.top)) - edge.top;
  const below = edge.bottom - Math.max(...parts.map((part) => part.bottom));
  return [edge.height, above, below].map(Math.round);
}
"""
POLLS_A_ROUND = 2
OUTAGES = (1, 4)
LOST, LATE = "Cannot reach Queuedeck", "no longer updating"
CONNECTION = re.compile(f"{LOST}|{LATE}|not sampling")
LATE_AFTER_S = 6
# In the six rounds, alerts begin to fire five times; a page that also said its figures would say them in each round.
MOST_SAID = 8
OUTAGE_SHOWN = {"wall board": "#alarm"}  # elsewhere it is the banner of all pages
# What a screen reader would say: changes of text inside live regions, apart from what is hidden from it.
WATCH = """
window.shifts = [];
window.said = [];
window.lateAges = [];
let state = "";
document.addEventListener("queuedeck:state", ({ detail }) => {
  if (detail.state === "stale" && state !== "stale") window.lateAges.push(detail.age);
  state = detail.state;
});
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (!entry.hadRecentInput) window.shifts.push([entry.value, entry.sources.map((source) => {
      const node = source.node?.nodeType === 1 ? source.node : source.node?.parentElement;
      return `${node?.tagName}#${node?.id}.${node?.className} ${source.previousRect.y}->${source.currentRect.y}`;
    })]);
  }
}).observe({ type: "layout-shift", buffered: true });
const LIVE = '[aria-live]:not([aria-live="off"]), [role="status"], [role="alert"], [role="log"]';
const heard = (region) => {
  const copy = region.cloneNode(true);
  for (const silent of copy.querySelectorAll('[aria-hidden="true"], [hidden]')) silent.remove();
  return region.hidden ? "" : copy.textContent.replace(/\\s+/g, " ").trim();
};
const before = new WeakMap();
document.addEventListener("DOMContentLoaded", () => {
  for (const region of document.querySelectorAll(LIVE)) before.set(region, heard(region));
  new MutationObserver(() => {
    for (const region of document.querySelectorAll(LIVE)) {
      const text = heard(region);
      if (text !== (before.get(region) ?? "") && text) window.said.push(text);
      before.set(region, text);
    }
  }).observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
});
"""
# By the clock of the page: each queue that became the first of the table, and when.
WATCH_FIRST = """
() => {
  window.firsts = [];
  const name = () => document.querySelector("table.queues tbody th a")?.textContent;
  let before = name();
  new MutationObserver(() => {
    if (name() === before) return;
    before = name();
    window.firsts.push([before, performance.now()]);
  }).observe(document.querySelector("#view"), { subtree: true, childList: true, characterData: true });
}
"""
REORDER_MS = 15_000  # the order changes at most that often


@pytest.fixture(scope="module")
def url(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A dashboard with three queues of RQ, two schedules of BullMQ and one rule that can fire."""
    file: Path = tmp_path_factory.mktemp("steady") / "queuedeck.toml"
    off = disabled_rules("queue-no-consumers", "workers-gone", "checker-slow")
    file.write_text(SETTINGS.format(url=server.url) + off)
    with redis.Redis.from_url(server.url) as client:
        client.sadd("rq:queues", *(f"rq:queue:{name}" for name in QUEUES))
        client.hset("bull:alpha:meta", mapping={"version": "bullmq:5.81.0", "opts.maxLenEvents": 10000})
        for name in ("evening", "night"):
            client.zadd("bull:alpha:repeat", {name: 5})
            client.hset(f"bull:alpha:repeat:{name}", mapping={"name": f"{name} report", "every": 5000, "ic": 1})
    with serving("--config", file) as served:
        wait_for_queues(served.url, len(QUEUES) + 1)
        yield served.url


@pytest.fixture
def workers(connection: redis.Redis) -> Iterator[list[SimpleWorker]]:
    """Three workers of RQ that are there, of which none runs."""
    queues = [Queue(name, connection=connection) for name in QUEUES]
    found = [SimpleWorker(queues, connection=connection, name=f"night-{number}") for number in range(3)]
    for worker in found:
        worker.register_birth()
    yield found
    for worker in found:
        worker.register_death()


def watched(visit: Visit, url: str) -> Visitor:
    """A tab whose page notes its layout shifts and what its live regions say."""
    visitor: Visitor = visit("about:blank", outage=True)
    visitor.page.add_init_script(WATCH)
    visitor.page.goto(url)
    return visitor


def is_poll_until(times: int) -> Callable[[Response], bool]:
    """Whether a response is that many-th one to a poll."""
    polls = count(1)
    return lambda answer: "/_" in answer.url and "_firing" not in answer.url and next(polls) == times


def poll(times: int, *pages: Page) -> None:
    """Return after that many more responses to polls on each of the pages, which poll at the same time."""
    with ExitStack() as waits:
        for page in pages:
            waits.enter_context(page.expect_response(is_poll_until(times)))


def test_a_schedule_is_removed_by_its_name_however_the_rows_change(
    visit: Visit, url: str, connection: redis.Redis
) -> None:
    page = visit(f"{url}/schedules").page
    row = page.locator("tr", has_text="night report")
    row.get_by_role("button", name="Remove").focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog#question")
    expect(dialog.get_by_role("heading")).to_have_text("Remove schedule night report?")
    expect(dialog).to_contain_text("Apps that set it up at startup recreate it.")
    expect(dialog.get_by_role("link", name="Cancel")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(row.get_by_role("button", name="Remove")).to_be_focused()
    row.get_by_role("button", name="Remove").click()
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert connection.zcard("bull:alpha:repeat") == 2
    row.get_by_role("button", name="Remove").click()
    expect(dialog).to_be_visible()
    connection.zrem("bull:alpha:repeat", "evening")  # the row above goes, and that of the question moves
    expect(page.locator("tr", has_text="evening report")).to_have_count(0)
    connection.zadd("bull:alpha:repeat", {"evening": 5})
    confirm(page, "Remove schedule")
    flash = page.locator("#flash")
    expect(flash).to_contain_text("1 schedule removed.")
    flash.get_by_role("button", name="Close").click()
    poll(2, page)
    expect(flash).to_have_count(0)
    assert connection.zrange("bull:alpha:repeat", 0, -1) == [b"evening"]


def test_without_script_a_page_asks(
    visit: Visit, url: str, workers: list[SimpleWorker], connection: redis.Redis
) -> None:
    page = visit(f"{url}/workers", java_script_enabled=False).page
    page.locator("tr", has_text="night-1").get_by_role("button", name="Stop").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Stop worker night-1?")
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Workers")


def test_the_order_is_kept_while_a_hand_is_on_the_table(visit: Visit, url: str, connection: redis.Redis) -> None:
    cash, mail = (Queue(name, connection=connection) for name in ("cash", "mail"))
    cash.enqueue("app.run")
    page = visit("about:blank").page
    page.clock.install()
    page.goto(f"{url}/?sort=waiting&library=rq")
    names = page.locator("table.queues tbody th a")
    expect(names.first).to_have_text("cash")
    page.evaluate(WATCH_FIRST)
    names.first.hover()
    page.clock.fast_forward(REORDER_MS)
    for _ in range(3):
        mail.enqueue("app.run")
    expect(page.locator("table.queues tr", has_text="mail").locator("td.wait")).to_have_text("3")
    poll(2, page)
    expect(names.first).to_have_text("cash")
    names.first.focus()  # before the pointer leaves: without either, the next poll may change the order
    page.mouse.move(1, 1)
    page.clock.fast_forward(REORDER_MS)
    poll(2, page)
    expect(names.first).to_have_text("cash")
    page.locator("h1").evaluate("() => document.activeElement.blur()")
    expect(names.first).to_have_text("mail")
    for _ in range(5):
        cash.enqueue("app.run")
    expect(page.locator("table.queues tr", has_text="cash").locator("td.wait")).to_have_text("6")
    poll(2, page)
    page.clock.fast_forward(REORDER_MS)
    expect(names.first).to_have_text("cash")
    (mail_first, mail_at), (cash_first, cash_at) = page.evaluate("window.firsts")
    assert (mail_first, cash_first) == ("mail", "cash")
    assert cash_at - mail_at > REORDER_MS - 100  # each is noted just after the change
    cash.empty()
    mail.empty()


def measure_room(box: Locator) -> dict[int, list[int]]:
    """Width of the screen -> ROOM of the box there."""
    found = {}
    for width in WIDTHS:
        box.page.set_viewport_size({"width": width, "height": 800})
        found[width] = box.evaluate(ROOM)
    return found


def test_what_is_wrong_fills_its_place(
    visit: Visit, url: str, connection: redis.Redis, workers: list[SimpleWorker]
) -> None:
    page = visit(url).page
    calm = page.locator("#overview > .all-clear")
    expect(calm).to_be_visible()
    rooms = measure_room(calm)
    assert {width: room for width, room in rooms.items() if abs(room[1] - room[2]) > 2} == {}
    filled = {width: [room[0], 0, 0] for width, room in rooms.items()}
    queues = [Queue(name, connection=connection) for name in ("cash", "mail")]
    for lines, queue in enumerate(queues, 1):
        for _ in range(9):
            queue.enqueue("app.run")
        box = page.locator("#overview > .problems")
        expect(box.locator("li")).to_have_count(lines)
        expect(box.locator(".alert-part")).to_have_count(lines)
        assert measure_room(box) == filled, lines
    for queue in queues:
        queue.empty()
    expect(calm).to_be_visible()


def change_everything(server: EmbeddedRedis, client: redis.Redis, workers: list[SimpleWorker], number: int) -> None:
    """One round of traffic: queues get worse and better, an alert fires or ends, jobs die, workers come and go."""
    for place, name in enumerate(QUEUES):
        queue = Queue(name, connection=client)
        if (number + place) % 3:
            for _ in range(4 * (place + 1)):
                queue.enqueue("app.run")
        else:
            queue.empty()
    for place, worker in enumerate(workers):
        worker.heartbeat()
        worker.set_state("busy" if (number + place) % 2 else "idle")
    if number % 2:
        workers[1].register_death()
    else:
        client.delete(workers[1].key)
        workers[1].register_birth()
    if number % 3 == 0:
        fail_rq(server, "dying", (failing_jobs.mail, f"user{number}@example.com", number))
    else:
        fail_rq(server, "dying", (failing_jobs.charge, number))


def wait_until_read(url: str, client: redis.Redis, workers: list[SimpleWorker]) -> None:
    """Return once a sample, the error groups and the alerts are of the traffic as it is now."""
    depths = {name: Queue(name, connection=client).count for name in QUEUES}
    there = {worker.name for worker in workers if worker.key.encode() in client.smembers("rq:workers")}
    busy = {name for name in there if client.hget(f"rq:worker:{name}", "state") == b"busy"}
    dead = client.zcard("rq:failed:dying")
    deep = {name for name, depth in depths.items() if depth > 8}

    def is_read() -> bool:
        queues, groups, alerts, found = (
            get_json(f"{url}/api/v1/{what}")[what if what != "dead" else "groups"]
            for what in ("queues", "dead", "alerts", "workers")
        )
        return (
            depths.items() <= {queue["name"]: queue["depth"] for queue in queues}.items()
            and sum(group["count"] for group in groups) == dead
            and {alert["labels"]["queue"] for alert in alerts if alert["rule"] == "deep"} == deep
            and {worker["id"] for worker in found} == there
            and {worker["id"] for worker in found if worker["state"] == "busy"} == busy
        )

    wait_until(is_read, what="what has changed")


def test_pages_do_not_jump_and_say_little(
    visit: Visit, url: str, server: EmbeddedRedis, connection: redis.Redis, workers: list[SimpleWorker]
) -> None:
    fail_rq(server, "dying", *((failing_jobs.mail, f"user{number}@example.com", number) for number in range(3)))
    wait_until(lambda: get_json(f"{url}/api/v1/dead")["groups"], what="the groups")
    (job_id,) = fail_rq(server, "dying", (failing_jobs.charge, 1))
    wait_for_queues(url, len(QUEUES) + 2)
    paths = {
        "overview": "/",
        "heat map": "/?view=heat",
        "wall board": "/?wall=1",
        "queue": "/queues/main/rq/dying?state=dead",
        "dead letters": "/dead",
        "workers": "/workers",
        "schedules": "/schedules",
        "alerts": "/alerts",
        "job": f"/queues/main/rq/dying/jobs/{job_id}",
    }
    visitors = {name: watched(visit, url + path) for name, path in paths.items()}
    pages = {name: visitor.page for name, visitor in visitors.items()}
    for number in range(6):
        change_everything(server, connection, workers, number)
        wait_until_read(url, connection, workers)
        poll(POLLS_A_ROUND, *pages.values())
        if number in OUTAGES:
            for name, page in pages.items():
                page.route("**/_*", lambda route: route.abort())
                expect(page.locator(OUTAGE_SHOWN.get(name, "#connection"))).to_be_visible()
            for name, page in pages.items():
                page.unroute("**/_*")
                page.evaluate("window.queuedeck.refresh()")
                expect(page.locator(OUTAGE_SHOWN.get(name, "#connection"))).to_be_hidden()
    shifts = {name: page.evaluate("window.shifts") for name, page in pages.items()}
    sums = {name: round(sum(value for value, _ in found), 3) for name, found in shifts.items()}
    worst = {name: sorted(found, reverse=True)[:3] for name, found in shifts.items() if sums[name] >= MAX_SHIFT}
    assert not worst, (sums, worst)
    said = {name: page.evaluate("window.said") for name, page in pages.items()}
    lost = {name: sum(LOST in text for text in texts) for name, texts in said.items()}
    # On a busy machine, answers and figures can be late more often than there are outages: it is said once each time,
    # and is true.
    outages = {name: len(OUTAGES) + visitor.timeouts for name, visitor in visitors.items()}
    assert {name: times for name, times in lost.items() if times > outages[name]} == {}
    late = {name: page.evaluate("window.lateAges") for name, page in pages.items()}
    assert {name: ages for name, ages in late.items() if ages and min(ages) <= LATE_AFTER_S} == {}
    assert {name: texts for name, texts in said.items() if sum(LATE in text for text in texts) > len(late[name])} == {}
    # Apart from that, what fires or no longer does: not the figures, and not their age.
    others = {name: [text for text in texts if not CONNECTION.search(text)] for name, texts in said.items()}
    assert {name: texts for name, texts in others.items() if len(texts) > MOST_SAID} == {}
    assert not [text for texts in said.values() for text in texts if "ago" in text or "UTC" in text]
