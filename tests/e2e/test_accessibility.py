"""Every page at three widths and in both themes: axe finds nothing, all fits, and a finger hits each control."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis
from playwright.sync_api import Browser, Locator, Page, expect
from rq import Queue, SimpleWorker
from werkzeug.security import generate_password_hash

from dashboard.clock import now_s
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.demo.past.writing import write_past
from dashboard.history.tiers import slot_of
from dashboard.sources.source import Source
from tests.contract.rq_library import open_client, run_waiting_jobs
from tests.dead_letters import failing_jobs
from tests.dead_letters.test_groups import fail_rq
from tests.e2e.conftest import PATIENCE_MS
from tests.e2e.inspector import AXE, DESKTOP, KEEP_AXE, PHONE, TABLET, Inspector
from tests.serving import serving
from tests.unit.history.class_samples import class_key, class_record, closed_slots, record_classes, sampled_slots_of
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e

# Screens that differ only in size look at the same loaded page.
SCREENS = {"desktop and tablet": (DESKTOP, TABLET), "phone": (PHONE,)}
SLOS = """
[[slos]]
id = "payments"
name = "Payments start on time"
queues = ["payments"]
target = 0.9999
waited_within_s = 2
[[slos]]
id = "unknown"
backend = "celery"
target = 0.99
waited_within_s = 60
"""
RULES = """
[[queues]]
match = "*"
owner = "shop"
runbook = "https://wiki.example.com/runbooks/shop"
note = "Customers wait for these. Ask in #shop before you delete anything."
[[rules]]
id = "deep"
name = "Too deep"
metric = "queue.depth"
warning = 2
critical = 8
for_s = 0
min_samples = 1
new_instance_grace_s = 0
[[rules]]
id = "failing"
name = "Jobs were given up"
metric = "queue.dead"
warning = 3
for_s = 0
min_samples = 1
new_instance_grace_s = 0
"""
SEND = """
([path, body]) => fetch(path, {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
}).then((answer) => answer.json())
"""
# Enough queues over their threshold for one incident.
IMPORTS = {f"import-of-warehouse-{number}": 4 for number in range(6)}
PEOPLE = {"ada": "admin", "vera": "viewer"}
PARTS = 2
THOROUGH = pytest.mark.parametrize(
    "thorough", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["each layout", "each screen and theme"]
)
CALM_S = "2"  # between two polls: a page is looked at, not what it becomes


@pytest.fixture(scope="module")
def url(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A dashboard with sign-in: queues with work of RQ and BullMQ, errors, workers, schedules, alerts."""
    lines = [f'secret_key = "{"k" * 40}"', f'[[sources]]\nname = "main"\nurl = {json.dumps(server.url)}']
    for name, role in PEOPLE.items():
        digest = generate_password_hash(f"password of {name}", "scrypt:1024:8:1")
        lines.append(f'[[users]]\nname = "{name}"\npassword_hash = "{digest}"\nrole = "{role}"')
    file: Path = tmp_path_factory.mktemp("pages") / "queuedeck.toml"
    file.write_text("\n".join(lines) + SLOS + RULES)
    fill(server)
    record_past(server)
    with serving("--config", file, QUEUEDECK_SAMPLE_INTERVAL_S=CALM_S, QUEUEDECK_AUTH="auto") as served:
        yield served.url


def fill(server: EmbeddedRedis) -> None:
    """Waiting, dead and finished jobs of RQ, its workers, and schedules of BullMQ."""
    with redis.Redis.from_url(server.url) as client:
        for name, size in {"order-confirmations": 12, "data-exports-of-the-night": 4, "mail": 1, **IMPORTS}.items():
            for number in range(size):
                order = {"order": number, "lines": [1, 2]}
                Queue(name, connection=client).enqueue("shop.mails.send", order, job_timeout=9)
        client.hset("bull:reports:meta", mapping={"version": "bullmq:5.81.0", "opts.maxLenEvents": 10000})
        for name in ("evening", "night"):
            client.zadd("bull:reports:repeat", {name: 5})
            client.hset(f"bull:reports:repeat:{name}", mapping={"name": f"{name} report", "every": 5000, "ic": 1})
        queues = [Queue(name, connection=client) for name in ("order-confirmations", "mail")]
        for number in range(3):
            worker = SimpleWorker(queues, connection=client, name=f"worker-of-the-night-{number}")
            worker.register_birth()
            client.persist(worker.key)
    write_past(server.url, {"RQ producer"}, now_s())
    fail_rq(server, "payments", *((failing_jobs.mail, f"user{number}@example.com", number) for number in range(12)))
    fail_rq(server, "payments", *((failing_jobs.fail_with, "402 Payment required " * 5),) * 3)


def record_past(server: EmbeddedRedis) -> None:
    """Three hours of two job classes, one of which got slower and fails more."""
    now = now_s()
    starts = range(slot_of(now - 3 * 3600, 900), int(now), 900)
    later = [class_record(at, 30, 10, 3.0) if at > now - 4500 else class_record(at, 30) for at in starts]
    slots = [*sampled_slots_of("main", starts[0], int(now))]
    slots += closed_slots(class_key("shop.payments.charge", "payments"), later)
    slots += closed_slots(class_key("shop.mails.send"), [class_record(at, 2, 0, None) for at in starts])
    source = Source("main", server.url)
    record_classes(source, iter(slots), now)
    source.close()


@contextmanager
def signed_in(browser: Browser, url: str, name: str, **options: Any) -> Iterator[Page]:
    """A page of `name`, who has signed in."""
    context = browser.new_context(timezone_id="UTC", bypass_csp=True, **options)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(f"{url}/login")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(f"password of {name}")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".rail")).to_be_visible()
    yield page
    context.close()


def wait_for(page: Page, url: str, path: str, field: str, least: int = 1) -> list[Any]:
    """What the API has at `path`, once there are `least` of them."""
    found: list[Any] = wait_until(
        lambda: (rows := page.request.get(f"{url}/api/v1/{path}").json()[field])[least - 1 :] and rows,
        what=f"{least} of {path}",
    )
    return found


@pytest.fixture(scope="module")
def paths(browser: Browser, server: EmbeddedRedis, url: str) -> dict[str, str]:
    """Name -> path of every page, with something on each."""
    with signed_in(browser, url, "ada") as page:
        [group, *_] = wait_for(page, url, "dead", "groups", 2)
        alerts = wait_for(page, url, "alerts", "alerts", 3 + len(IMPORTS))
        wait_for(page, url, "queues", "queues", 5 + len(IMPORTS))
        payments = "/queues/main/rq/payments"
        [job, other, *_] = wait_for(page, url, f"{payments[1:]}/jobs?state=dead", "jobs")
        everything = {"source": "main", "backend": "rq", "queue": "payments", "state": "dead"}
        page.evaluate(SEND, [f"/api/v1{payments}/jobs/{other['id']}/delete", {"reason": "tested twice"}])
        started = page.evaluate(SEND, ["/api/v1/bulk", {"action": "retry", "limit": 5, "canary": 2, **everything}])
        [batch, *_] = wait_for(page, url, "trash", "batches")
        waiting = wait_for(page, url, "queues/main/rq/mail/jobs?state=waiting", "jobs")[0]["id"]
        operation = f"{url}/api/v1/bulk/{started['bulk_id']}"
        wait_until(lambda: page.request.get(operation).json()["state"] == "watching", what="retried jobs of the canary")
        with open_client(server.url) as client:
            run_waiting_jobs(Queue("payments", connection=client))
        wait_until(lambda: page.request.get(operation).json()["state"] == "paused", what="the stop of the canary")
        objectives = f"{url}/api/v1/slos"
        wait_until(lambda: page.request.get(objectives).json()["slos"][0]["jobs"], what="counted jobs")
        page.goto(f"{url}/alerts")
        grouped = page.locator("a[href*='/alerts/groups/']").first.get_attribute("href")
    return {
        "overview": "/",
        "heat map": "/?view=heat",
        "wall board": "/?wall=1",
        "overview filtered": "/?q=nothing-has-this-name",
        **{f"queue {state}": f"{payments}?state={state}" for state in ("dead", "waiting", "completed")},
        "queue with workers": "/queues/main/rq/order-confirmations",
        "job": f"{payments}/jobs/{job['id']}",
        "waiting job": f"/queues/main/rq/mail/jobs/{waiting}",
        "dead letters": "/dead",
        "error group": f"/dead/{group['fingerprint']}",
        "overview in the past": f"/?at={int(now_s()) - 7200}",
        "queue in the past": f"{payments}?at={int(now_s()) - 7200}",
        "charts": f"{payments}/charts?compare=day&from={int(now_s()) - 7200}&to={int(now_s()) - 3600}",
        "workers": "/workers",
        "redis": "/redis",
        "redis memory": "/redis/main/memory",
        "schedules": "/schedules",
        "slos": "/slos",
        "slo": "/slos/payments",
        "classes": f"/classes?since={int(now_s()) - 7200}",
        "incident report": "/incident?range=1h&queue=payments",
        "search": "/search",
        "search results": "/search?q=user1",
        "alerts": "/alerts",
        "all firing": "/alerts/firing",
        "acknowledge": f"/alerts/{alerts[0]['fingerprint']}/ack",
        "acknowledge group": str(grouped),
        "rules": "/alerts/rules",
        "rule": "/alerts/rule/deep",
        "new rule": "/alerts/rules/new",
        "edit rule": "/alerts/rule/deep/edit",
        "silences": "/alerts/silences",
        "new silence": "/silences/new",
        "bulk": "/bulk",
        "bulk preview": "/bulk/new?source=main&backend=rq&queue=payments&state=dead&action=retry",
        "bulk delete": f"/bulk/new?fingerprint={group['fingerprint']}&action=delete",
        "bulk operation": f"/bulk/{started['bulk_id']}",
        "bulk rest": f"/bulk/{started['bulk_id']}/rest",
        "trash": "/trash",
        "trash batch": f"/trash/{batch['batch']}",
        "audit": "/audit",
        "tokens": "/tokens",
        "rights": "/rights?name=anna&queue=main/rq/mail",
        "your rights": "/rights/me",
        "not found": "/queues/main/rq/no-such-queue",
    }


@contextmanager
def inspecting(
    browser: Browser, url: str, name: str, screens: Sequence[dict[str, Any]], thorough: bool
) -> Iterator[Inspector]:
    """An inspector of the pages of `name`, who has signed in."""
    with signed_in(browser, url, name, **screens[0], reduced_motion="reduce") as keeper:
        keeper.goto(f"{url}/healthz")  # of the same site, and it asks for nothing
        with keeper.expect_popup() as opened:
            keeper.evaluate(KEEP_AXE, AXE.read_text())
        yield Inspector(opened.value, keeper, screens, thorough)


def open_question(page: Page) -> None:
    page.locator("button[data-confirm]").first.click()
    expect(page.locator("dialog#question")).to_be_visible()


def open_question_as_page(page: Page) -> None:
    """As without scripts."""
    scriptless = "(button) => { delete button.dataset.confirm; button.click(); }"
    page.locator("button[data-confirm]").first.evaluate(scriptless)
    expect(page.locator("main [data-question]")).to_be_visible()


def open_help(page: Page) -> None:
    page.evaluate("document.querySelector('dialog#help').showModal()")


def open_palette(page: Page) -> None:
    page.get_by_role("button", name="Commands").click()
    expect(page.locator("#palette [role=option]").first).to_be_visible()


def open_palette_with_matches(page: Page) -> None:
    open_palette(page)
    page.locator("#palette-text").fill("pay")
    expect(page.locator("#palette [role=option]", has_text="Pause queue payments…")).to_be_visible()


def open_empty_palette(page: Page) -> None:
    open_palette(page)
    page.locator("#palette-text").fill("no such thing")
    expect(page.locator("#palette [role=status]")).not_to_be_empty()


def open_more(page: Page) -> None:
    """The sheet with all pages, on a phone."""
    page.locator(".more summary").click()
    expect(page.get_by_role("list", name="All pages").get_by_role("link", name="Trash")).to_be_visible()


def open_completion(page: Page) -> None:
    page.locator("#search").press_sequentially("queue:")
    expect(page.locator(".completions [role=option]").first).to_be_visible()
    page.keyboard.press("ArrowDown")


STEPS = {
    "question": open_question,
    "question as page": open_question_as_page,
    "help": open_help,
    "palette": open_palette,
    "palette with matches": open_palette_with_matches,
    "palette without matches": open_empty_palette,
    "completion": open_completion,
}


# In parts, so that each has enough time on a busy machine.
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("screens", SCREENS.values(), ids=list(SCREENS))
@THOROUGH
def test_axe_finds_nothing_and_all_fits(
    browser: Browser, url: str, paths: dict[str, str], screens: Sequence[dict[str, Any]], thorough: bool, part: int
) -> None:
    with inspecting(browser, url, "ada", screens, thorough) as ada:
        for name, path in list(paths.items())[part::PARTS]:
            ada.page.goto(url + path)
            ada.look(name)
    assert not ada.found, "\n".join(ada.found)


@pytest.mark.parametrize("screens", SCREENS.values(), ids=list(SCREENS))
@THOROUGH
def test_axe_finds_nothing_in_what_opens(
    browser: Browser, url: str, paths: dict[str, str], screens: Sequence[dict[str, Any]], thorough: bool
) -> None:
    with inspecting(browser, url, "ada", screens, thorough) as ada:
        page = ada.page
        page.goto(f"{url}{paths['queue dead']}")
        page.locator(".queue-context summary").click()
        ada.look("queue with its context")
        for name, step in STEPS.items():
            page.goto(f"{url}/schedules")
            step(page)
            ada.look(name)
        if PHONE in screens:
            page.goto(f"{url}/schedules")
            open_more(page)
            ada.look("more pages", only_here=True)
        page.goto(url)
        page.locator("#recent-charts summary").click()
        expect(page.locator("#recent-charts canvas").first).to_be_visible()
        ada.look("overview with charts")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Password")).to_be_visible()
        ada.look("sign-in")
    with inspecting(browser, url, "vera", screens, thorough) as vera:
        vera.page.goto(f"{url}/audit")
        expect(vera.page.get_by_role("button", name="Sign out")).to_be_visible()
        vera.look("forbidden")
        vera.page.goto(f"{url}{paths['job']}")
        vera.look("job of a viewer")
    assert not ada.found + vera.found, "\n".join(ada.found + vera.found)


def is_whole(page: Page, selector: str, text: str) -> bool:
    """Whether the first such element with `text` cuts nothing off."""
    fits = "(part) => part.scrollWidth <= part.clientWidth && part.scrollHeight <= part.clientHeight"
    return bool(page.locator(selector, has_text=text).first.evaluate(fits))


def width_of(parts: Locator) -> int:
    return int(parts.first.evaluate("(part) => part.clientWidth"))


def test_names_and_errors_have_the_room_that_there_is(browser: Browser, url: str, paths: dict[str, str]) -> None:
    with signed_in(browser, url, "ada", **TABLET) as page:
        page.goto(url)
        assert is_whole(page, "table.queues tbody th", "import-of-warehouse-0")
        assert is_whole(page, "table.queues thead th", "Processed/min")
        assert is_whole(page, ".health td", "MiB")
        page.goto(f"{url}/search?q=user1")
        assert (
            page.locator("table.search-results td[data-label=job]").first.evaluate("(cell) => cell.clientWidth") > 350
        )
        page.goto(f"{url}/workers")
        assert width_of(page.locator("td[data-label=queues]")) > 110
        page.goto(f"{url}/dead")
        assert width_of(page.locator("table.groups tbody td:nth-child(3)")) > 140
        page.goto(f"{url}/schedules")
        assert width_of(page.locator("td[data-label=queue]")) > 90
        page.goto(f"{url}/alerts/rules")
        assert page.locator(".scroll").first.evaluate("(box) => box.scrollWidth <= box.clientWidth")
        page.goto(url + paths["queue dead"])
        assert width_of(page.locator("table.jobs .bad", has_text="ConnectionError")) > 250


def test_a_phone_shows_labels_messages_and_a_search_box(browser: Browser, url: str, paths: dict[str, str]) -> None:
    with signed_in(browser, url, "ada", **PHONE) as page:
        page.goto(f"{url}/dead")
        assert width_of(page.locator("#search")) > 300
        labels = page.locator(".rail > ul > li:not(.roomy) a > span").all()
        assert min(width_of(label) for label in labels) > 20
        page.set_viewport_size({"width": 360, "height": 780})
        edges = [label.bounding_box() for label in labels]
        gaps = [right["x"] - left["x"] - left["width"] for left, right in pairwise(edges) if left and right]
        assert min(gaps) >= 4, gaps
        open_more(page)
        assert page.get_by_role("list", name="All pages").get_by_role("link").count() == 14
        page.keyboard.press("Escape")
        expect(page.locator(".more summary")).to_be_focused()
        expect(page.get_by_role("list", name="All pages")).to_be_hidden()
        open_more(page)
        page.get_by_role("link", name="Redis").click()
        expect(page).to_have_url(f"{url}/redis")
        expect(page.locator(".more summary")).to_have_class("here")
        page.goto(f"{url}/dead")
        assert page.locator(".user button").evaluate("(button) => button.clientHeight") < 32  # on one line
        assert width_of(page.locator("#search")) > 280
        page.set_viewport_size(PHONE["viewport"])
        assert is_whole(page, "table.groups tbody th", "ConnectionError")
        expect(page.locator("table.groups .what").first).to_be_visible()
        # The banner covers no heading, although it has two lines here.
        banner, heading = page.locator("#firing").bounding_box(), page.locator("h1").bounding_box()
        assert banner is not None
        assert heading is not None
        assert banner["y"] + banner["height"] <= heading["y"]
        page.goto(f"{url}/alerts/rules")
        assert page.locator("tr.critical th").first.evaluate("(name) => getComputedStyle(name).boxShadow") == "none"
        assert page.locator("tr.critical").first.evaluate("(row) => parseFloat(getComputedStyle(row).paddingLeft)") > 3
