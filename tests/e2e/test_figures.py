"""No figure, time or label is cut, on any page, at any width, with or without script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from playwright.sync_api import Page
from rq import Queue, SimpleWorker

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.history.tiers import DAY_S
from dashboard.web.formatting import duration
from dashboard.web.views.problems.problem import ProblemKind
from tests.e2e.conftest import Visit, wait_for_queues
from tests.serving import get_json, serving
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e

SETTINGS = """
sample_interval_s = 5
[[sources]]
name = "main"
url = "{url}"
[[rules]]
id = "large-deep"
metric = "queue.depth"
op = "gt"
critical = 1234500.5
for_s = 0
min_samples = 1
new_instance_grace_s = 0
"""
WAITING = 1_234_567
FAILED = 12_345
FILL = """
local part = {}
for i = 1, 1000 do part[i] = 'j' end
for i = 1, math.floor(ARGV[1] / 1000) do redis.call('RPUSH', KEYS[1], unpack(part)) end
for i = 1, ARGV[1] % 1000 do redis.call('RPUSH', KEYS[1], 'j') end
for i = 1, ARGV[2] do redis.call('ZADD', KEYS[2], 1700000000000 + i, 'f' .. i) end
"""
# The texts that begin with a figure, and times, but not names and ids, which links and headings of rows hold. A text is
# cut when it is wider than an element around it that hides what does not fit; a scrolling one does not hide.
CUT = r"""() => {
  const cut = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode, parent = text.parentElement;
    const words = text.data.trim();
    if (!parent.closest("time") && !/^[+−<>≈/(-]*\s?\d[\d,.]*/.test(words)) continue;
    if (parent.closest("a, tbody th, script, style, [hidden], .job, .bad, code, pre")) continue;
    if (!parent.checkVisibility()) continue;
    const range = document.createRange();
    range.selectNodeContents(text);
    const box = range.getBoundingClientRect();
    if (!box.width) continue;
    for (let outer = parent; outer !== document.body; outer = outer.parentElement) {
      const style = getComputedStyle(outer);
      if (style.clipPath !== "none" || style.position === "absolute") break;
      if (!["hidden", "clip"].includes(style.overflowX)) continue;
      const frame = outer.getBoundingClientRect();
      // An ellipsis begins where the padding does.
      const ends = style.textOverflow === "ellipsis";
      const inset = ends ? [style.paddingLeft, style.paddingRight].map(parseFloat) : [0, 0];
      if (box.right > frame.right - inset[1] + 0.5 || box.left < frame.left + inset[0] - 0.5) {
        cut.push(`${words} in ${outer.tagName}.${outer.className} (${Math.round(frame.width)} px)`);
        break;
      }
    }
  }
  for (const cell of document.querySelectorAll("td[data-label]")) {
    const labelled = getComputedStyle(cell, "::before").content !== "none";
    if (labelled && cell.checkVisibility() && cell.scrollWidth > cell.clientWidth + 1) {
      cut.push(`label ${cell.dataset.label} of ${cell.textContent.trim()}`);
    }
  }
  for (const heading of document.querySelectorAll("thead th")) {
    const shown = getComputedStyle(heading.closest("thead")).clipPath === "none" && heading.checkVisibility();
    if (shown && heading.scrollWidth > heading.clientWidth + 1) cut.push(`heading ${heading.textContent.trim()}`);
  }
  return cut;
}"""
# As a queue with 13 problems has them, the worst of which is named.
SHOW_PROBLEMS = """(label) => {
  const worst = document.querySelector(".queues .worst"), others = document.createElement("small");
  others.textContent = "+12";
  worst.replaceChildren(worst.querySelector(".tag"), others);
  worst.querySelector(".tag").textContent = label;
}"""
# What is hours old is long; in a test that has just begun, nothing is.
AGE = r"""([ago, age]) => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode;
    if (/^\s*\d+\s[smhd](\s\d+\s[smh])? ago\s*$/.test(text.data)) text.data = ago;
    if (/^\s*\d[\d.]*\s[smhd](\s\d+\s[smh])?\s*$/.test(text.data)) text.data = age;
  }
}"""
AGES = [f"{duration(10 * 3600 - 1)} ago", duration(3599)]
AGED = f"(ages) => {{ ({AGE})(ages); return ({CUT})(); }}"
PAGES = (
    "/",
    "/?sort=rate",
    "/queues/main/bullmq/large",
    "/queues/main/bullmq/large?state=dead",
    "/queues/main/rq/mail?state=dead",
    "/queues/main/rq/mail?state=completed",
    "/dead",
    "/workers",
    "/redis",
    "/redis/main/memory",
    "/schedules",
    "/search?q=app",
    "/alerts",
    "/alerts/rules",
    "/alerts/rule/large-deep",
    "/alerts/silences",
    "/bulk",
    "/audit",
)
WIDTHS = (360, 390, 1024, 1440)
# Without script, only times differ. The narrowest page, and the narrowest one with tables.
NARROWEST = (360, 1024)


@pytest.fixture(scope="module")
def base(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a dashboard on a Redis with large figures and an alert."""
    settings = tmp_path_factory.mktemp("figures") / "queuedeck.toml"
    settings.write_text(SETTINGS.format(url=server.url))
    with redis.Redis.from_url(server.url) as client:
        client.hset("bull:large:meta", "version", "bullmq:5.81.0")
        client.eval(FILL, 2, "bull:large:wait", "bull:large:failed", WAITING, FAILED)
        for queue in ("mail", "mail", "reports"):
            Queue(queue, connection=client).enqueue("app.missing")
        Queue("mail", connection=client).enqueue("time.sleep", 0)
        worker = SimpleWorker(["mail"], connection=client)
        worker.work(burst=True)
        worker.register_birth()
        with serving("--config", settings) as served:
            wait_for_queues(served.url, 3)
            wait_until(lambda: get_json(f"{served.url}/api/v1/alerts")["alerts"], what="an alert")
            yield served.url
        worker.register_death()


def cut_figures(page: Page, url: str, paths: tuple[str, ...], widths: tuple[int, ...]) -> list[str]:
    found: list[str] = []
    for path in paths:
        answer = page.goto(url + path)
        assert answer is not None
        assert answer.status == 200, path
        for width in widths:
            page.set_viewport_size({"width": width, "height": 900})
            found += [f"{path} at {width} px: {text}" for text in page.evaluate(AGED, AGES)]
    return found


def test_no_figure_and_no_label_is_cut(base: str, visit: Visit) -> None:
    assert cut_figures(visit("about:blank").page, base, PAGES, WIDTHS) == []


def test_no_time_is_cut_without_script(base: str, visit: Visit) -> None:
    assert cut_figures(visit("about:blank", java_script_enabled=False).page, base, PAGES, NARROWEST) == []


def test_a_long_change_is_not_cut(base: str, visit: Visit) -> None:
    page = visit(f"{base}/queues/main/bullmq/large").page
    long = "document.querySelector('.figure small').textContent = '+1,234,567 since start (14\u202fm)'"
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(f"() => {{ {long}; return ({CUT})(); }}") == [], width


def test_the_number_of_further_problems_is_not_cut(base: str, visit: Visit) -> None:
    page, longest = visit(f"{base}/").page, max(ProblemKind, key=len)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(f"(label) => {{ ({SHOW_PROBLEMS})(label); return ({CUT})(); }}", longest) == [], width


def test_no_age_of_a_job_is_cut(base: str, visit: Visit) -> None:
    page = visit(f"{base}/").page
    age = "document.querySelector('.queues tbody td:nth-child(4)').textContent"
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for seconds in (59 * 60 + 59, DAY_S - 1, 99 * DAY_S + DAY_S - 1, 999 * DAY_S + DAY_S - 1):
            cut = page.evaluate(f"(text) => {{ {age} = text; return ({CUT})(); }}", duration(seconds))
            assert cut == [], (width, seconds)


def test_a_figure_that_is_cut_is_found(base: str, visit: Visit) -> None:
    """The search itself: a narrow cell with a long figure."""
    page = visit(f"{base}/").page
    long = "document.querySelector('table.queues td.n').textContent = '1,234,567,890,123 jobs'"
    assert page.evaluate(f"() => {{ {long}; return ({CUT})(); }}") != []


def test_an_error_has_more_room_than_the_id_of_its_job(base: str, visit: Visit) -> None:
    page = visit(f"{base}/queues/main/rq/mail?state=dead", viewport={"width": 1024, "height": 800}).page
    widths = {
        name: page.locator(f"table.jobs tbody tr > {name}").first.bounding_box()["width"] for name in ("th", ".job")
    }
    assert widths[".job"] > 300
    assert widths[".job"] > 1.5 * widths["th"]
