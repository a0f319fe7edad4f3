"""The form of a rule in the browser: the preview beside it, thresholds dragged on the graph, the id from the name."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from playwright.sync_api import Locator, Page, Route, expect
from rq import Queue

from dashboard.demo.embedded import EmbeddedRedis
from tests.e2e.conftest import Visit, wait_for_queues
from tests.serving import get_json, serving
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e
SETTINGS = 'redis_url = "{url}"\nsample_interval_s = 5\n'
DESKTOP = {"width": 1440, "height": 900}
TABLET = {"width": 1024, "height": 768}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def url(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A dashboard with 40 jobs waiting in `mail` and none in `video`."""
    file: Path = tmp_path_factory.mktemp("editor") / "queuedeck.toml"
    file.write_text(SETTINGS.format(url=server.url))
    with redis.Redis.from_url(server.url) as client:
        client.sadd("rq:queues", "rq:queue:mail", "rq:queue:video")
        for _ in range(40):
            Queue("mail", connection=client).enqueue("os.getpid")
    with serving("--config", file) as served:
        wait_for_queues(served.url, 2)
        yield served.url


def fill(page: Page, **texts: str) -> None:
    for name, text in texts.items():
        page.locator(f"[name={name}]").fill(text)


def handle(page: Page, severity: str) -> Locator:
    return page.get_by_role("slider", name=f"{severity} threshold")


def graph(page: Page) -> Locator:
    """The graph on which thresholds are dragged. Once history is stored, there is one of the last week too."""
    return page.get_by_role("img", name="in the last hour")


def height(page: Page, severity: str) -> float:
    """Where the tip of a handle is, from the upper edge of the graph."""
    return float(handle(page, severity).get_attribute("data-y") or "nan")


def drag(page: Page, severity: str, pixels: float) -> None:
    """Drag a handle that far down, in several moves as a hand does."""
    box = handle(page, severity).locator("rect").bounding_box()
    assert box is not None
    across, down = box["x"] + 20, box["y"] + box["height"] / 2
    page.mouse.move(across, down)
    page.mouse.down()
    page.mouse.move(across, down + pixels, steps=5)
    page.mouse.up()


def test_the_preview_follows_what_is_typed(visit: Visit, url: str) -> None:
    page = visit(f"{url}/alerts/rules/new", viewport=DESKTOP).page
    preview = page.locator(".rule-preview")
    expect(preview).to_contain_text("No threshold yet.")
    fill(page, name="Mail: too deep", warning="30")
    expect(page.locator("[name=id]")).to_have_attribute("placeholder", "mail-too-deep")
    expect(preview).to_contain_text("Breaching: 1 of 2.")
    expect(preview).to_contain_text("[FIRING warning] Mail: too deep: mail (rq, main)")
    expect(handle(page, "warning")).to_have_attribute("aria-valuetext", "30")
    fill(page, queues="vid*")
    expect(preview).to_contain_text("OK. Worst of 1: 0")
    expect(preview).to_contain_text("1 queue: video")
    assert get_json(f"{url}/api/v1/rules/mail-too-deep")["error"]["code"] == "not_found"


def test_errors_and_units_are_shown_at_once_at_their_fields(visit: Visit, url: str) -> None:
    page = visit(f"{url}/alerts/rules/new", viewport=DESKTOP).page
    fill(page, warning="30", critical="20")
    expect(page.locator("#wrong-critical")).to_have_text("expected a value above warning")
    expect(page.locator("[name=critical]")).to_have_attribute("aria-invalid", "true")
    fill(page, critical="200", for_s="soon")
    expect(page.locator("#wrong-critical")).to_have_count(0)
    expect(page.locator("[name=critical]")).not_to_have_attribute("aria-invalid", "true")
    expect(page.locator("#wrong-for_s")).to_contain_text("expected a duration")
    fill(page, for_s="5 min")
    expect(page.locator("output[data-meaning=for_s]")).to_have_text("= 300 s")
    expect(page.locator("#wrong-for_s")).to_have_count(0)
    # A field of the folded part is shown when it is wrong.
    page.locator("[name=min_samples]").evaluate(
        "(input) => { input.value = 'x'; input.dispatchEvent(new Event('input', {bubbles: true})); }"
    )
    expect(page.locator("#wrong-min_samples")).to_be_visible()


def test_the_chosen_metric_is_explained_at_once(visit: Visit, url: str) -> None:
    page = visit(f"{url}/alerts/rules/new", viewport=DESKTOP).page
    page.locator("[name=metric]").select_option(label="Redis: memory used")
    expect(page.locator("[data-meaning-shown]")).to_have_text("used memory as a share of maxmemory")
    expect(page.locator("label", has=page.locator("[name=warning]")).locator("[data-measure]")).to_have_text("%")
    expect(page.locator(".chart .measure")).to_have_text("memory used %")
    expect(page.locator("[name=warning]")).to_have_attribute("placeholder", "such as 75%")
    page.locator("[name=metric]").select_option(value="workers.count")
    expect(page.locator("[name=op]")).to_have_value("lt")
    fill(page, critical="3")
    page.locator("[name=metric]").select_option(value="queue.depth")
    expect(page.locator("[name=op]")).to_have_value("lt")  # of a rule that has thresholds, it is the user's


def test_a_preview_on_its_way_is_shown_as_such(visit: Visit, url: str) -> None:
    page = visit("about:blank", viewport=DESKTOP).page
    page.clock.install()
    page.goto(f"{url}/alerts/rules/new")
    page.clock.pause_at(page.evaluate("Date.now() / 1000 + 60"))  # without an answer for ten seconds, it would give up
    held: list[Route] = []
    page.route("**/alerts/rules*", lambda route: held.append(route))
    fill(page, warning="30")
    with page.expect_request("**/alerts/rules*"):
        page.clock.run_for(400)
    expect(page.locator("[data-draft-status]")).to_have_text("Checking…")
    expect(page.locator(".rule-preview h2")).to_contain_text("Checking…")
    expect(page.locator("[data-draft-busy]")).to_have_text("")
    page.clock.run_for(1000)
    expect(page.locator("[data-draft-busy]")).to_have_text("Checking…")
    with page.expect_response("**/alerts/rules*"):
        held.pop().continue_()
    page.clock.resume()
    expect(page.locator(".rule-preview")).to_contain_text("Breaching: 1 of 2.")
    expect(page.locator(".rule-preview h2")).to_have_text("Preview")
    expect(page.locator("[data-draft-busy]")).to_have_text("")
    expect(page.locator("[data-draft-status]")).to_have_text("Not saved yet.")
    expect(page.locator("#draft")).not_to_have_class(re.compile("old"))


def test_thresholds_of_another_unit_do_not_stay(visit: Visit, url: str) -> None:
    page = visit(f"{url}/alerts/rules/new", viewport=DESKTOP).page
    warning, critical, metric = (page.locator(f"[name={name}]") for name in ("warning", "critical", "metric"))
    fill(page, warning=(warning.get_attribute("placeholder") or "").removeprefix("such as "), critical="1")
    expect(page.locator("#wrong-critical")).to_have_text("expected a value above warning")
    page.route("**/alerts/rules*", lambda _route: None)  # no preview comes any more
    metric.select_option(label="Redis: memory used")
    expect(warning).to_have_value("75%")  # as the built-in rule suggests
    expect(critical).to_have_value("1")
    expect(page.locator("#wrong-critical")).to_have_count(0)
    fill(page, warning="60%", for_s="x")
    metric.select_option(value="queue.depth")
    expect(warning).to_have_value("60%")  # typed


def test_a_threshold_is_dragged_and_typed(visit: Visit, url: str) -> None:
    page = visit(f"{url}/alerts/rules/new", viewport=DESKTOP).page
    warning, critical = page.locator("[name=warning]"), page.locator("[name=critical]")
    fill(page, warning="20", critical="100")
    expect(handle(page, "critical")).to_have_attribute("aria-valuetext", "100")
    before = height(page, "warning")
    drag(page, "warning", -30)
    value = float(warning.input_value())
    assert 20 < value < 100
    assert value == int(value)
    expect(handle(page, "warning")).to_have_attribute("aria-valuetext", warning.input_value())
    assert height(page, "warning") < before
    expect(page.locator(".rule-preview")).to_contain_text(f"{value:g}")
    # Not beyond the other one, however far it is dragged.
    drag(page, "warning", -400)
    assert float(warning.input_value()) < float(critical.input_value()) == 100
    # What is typed moves the handle.
    high = height(page, "critical")
    fill(page, critical="1000")
    expect(handle(page, "critical")).to_have_attribute("aria-valuetext", "1,000")
    fill(page, warning="1")
    expect(handle(page, "warning")).to_have_attribute("aria-valuetext", "1")
    assert height(page, "warning") > high


def test_a_threshold_is_dragged_by_its_line(visit: Visit, url: str) -> None:
    page = visit(f"{url}/alerts/rules/new", viewport=DESKTOP).page
    fill(page, warning="50")
    expect(handle(page, "warning")).to_have_attribute("aria-valuetext", "50")
    plot = graph(page).bounding_box()
    assert plot is not None
    across, down = plot["x"] + 100, plot["y"] + height(page, "warning")
    page.mouse.move(across, down + 40)
    expect(graph(page)).not_to_have_class(re.compile(r"\bnear\b"))
    page.mouse.move(across, down)
    expect(graph(page)).to_have_class(re.compile(r"\bnear\b"))
    page.mouse.down()
    page.mouse.move(across, down + 60, steps=4)
    page.mouse.up()
    assert 0 < float(page.locator("[name=warning]").input_value()) < 50


def test_the_graph_of_the_week_leaves_thresholds_alone(visit: Visit, url: str) -> None:
    history = f"{url}/api/v1/queues/main/rq/mail/history?from={time.time() - 7 * 86_400}"
    wait_until(lambda: any(value for _, value in get_json(history)["points"]), what="history of the queue")
    page = visit(f"{url}/alerts/rules/new", viewport=DESKTOP).page
    fill(page, queues="mail", warning="30")  # no other test asks for this queue alone: what it reads is not kept yet
    week = page.get_by_role("img", name="in the last 7 days")
    week.hover()
    page.mouse.down()
    page.mouse.move(0, 0, steps=3)
    page.mouse.up()
    expect(page.locator("[name=warning]")).to_have_value("30")


def test_the_first_threshold_is_dragged_from_the_edge(visit: Visit, url: str) -> None:
    page = visit(f"{url}/alerts/rules/new", viewport=DESKTOP).page
    expect(handle(page, "warning")).to_have_attribute("aria-valuetext", "not set")
    drag(page, "warning", 90)
    assert 0 < float(page.locator("[name=warning]").input_value()) < 80
    expect(page.locator(".rule-preview")).to_contain_text(re.compile("Breaching: 1 of 2|OK. Worst of 2"))
    expect(graph(page).locator("path.warning")).to_have_count(1)


def test_a_threshold_is_moved_with_the_keyboard(visit: Visit, url: str) -> None:
    page = visit(f"{url}/alerts/rules/new", viewport=DESKTOP).page
    page.locator("[name=metric]").select_option(value="queue.latency_s")
    fill(page, warning="10 min")
    expect(handle(page, "warning")).to_have_attribute("aria-valuetext", "10 m")
    handle(page, "warning").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("[name=warning]")).not_to_have_value("10 min")
    lower = page.locator("[name=warning]").input_value()
    assert lower == "9 m 45 s"
    expect(page.locator(".rule-preview")).to_contain_text(f"fires above {lower}")
    expect(handle(page, "warning")).to_be_focused()  # also after the preview was refreshed
    page.keyboard.press("ArrowUp")
    expect(page.locator("[name=warning]")).to_have_value("10 m")


@pytest.mark.parametrize("size", [DESKTOP, TABLET], ids=["desktop", "tablet"])
def test_the_preview_stays_beside_the_form(visit: Visit, url: str, size: dict[str, int]) -> None:
    page = visit(f"{url}/alerts/rules/new", viewport=size).page
    form, beside = page.locator(".condition").bounding_box(), page.locator(".editor .aside").bounding_box()
    assert form is not None
    assert beside is not None
    assert beside["x"] >= form["x"] + form["width"]
    assert abs(beside["y"] - form["y"]) < 40
    page.locator("[name=runbook_url]").scroll_into_view_if_needed()
    expect(page.locator(".chart")).to_be_in_viewport()


def test_a_phone_has_the_preview_below_the_condition(visit: Visit, url: str) -> None:
    page = visit(f"{url}/alerts/rules/new", viewport=PHONE, has_touch=True).page
    places = [page.locator(part).bounding_box() for part in (".condition", ".editor .aside", ".editor .rest")]
    edges = [place["y"] for place in places if place is not None]
    assert edges == sorted(edges)
    assert len(edges) == 3
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    labels = page.locator(".editor .condition .row > span:first-child")
    for label in labels.all():
        below = label.locator("xpath=following-sibling::*[1]").bounding_box()
        box = label.bounding_box()
        assert below is not None
        assert box is not None
        assert below["y"] >= box["y"] + box["height"] - 1  # the field covers no label


def test_a_threshold_is_dragged_with_a_finger(visit: Visit, url: str) -> None:
    page = visit(f"{url}/alerts/rules/new", viewport=PHONE, has_touch=True, is_mobile=True).page
    fill(page, warning="20")
    expect(handle(page, "warning")).to_have_attribute("aria-valuetext", "20")
    handle(page, "warning").scroll_into_view_if_needed()
    box, scrolled = handle(page, "warning").locator("rect").bounding_box(), page.evaluate("scrollY")
    assert box is not None
    assert box["height"] >= 24
    across, down = box["x"] + 20, box["y"] + box["height"] / 2
    touch = page.context.new_cdp_session(page)
    for step in range(6):
        points = [{"x": across, "y": down - 10 * step}]
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove" if step else "touchStart", "touchPoints": points})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(page.locator("[name=warning]")).not_to_have_value("20")
    assert float(page.locator("[name=warning]").input_value()) > 20
    assert page.evaluate("scrollY") == scrolled


def test_a_rule_is_made_without_a_script(visit: Visit, url: str) -> None:
    page = visit(f"{url}/alerts/rules/new", viewport=DESKTOP, java_script_enabled=False).page
    expect(page.get_by_role("slider")).to_have_count(0)
    fill(page, name="Made without", warning="5 min")
    page.locator("[name=metric]").select_option(value="queue.latency_s")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("output", has_text="= 300 s")).to_be_visible()
    expect(page.locator(".handles.scriptless")).to_contain_text("warning 5 m")
    expect(page.locator(".editor")).to_contain_text("age of the oldest waiting job")
    page.locator("[name=name]").press("Enter")  # creates it: the preview is not the default of the form
    expect(page.locator("h1")).to_have_text("Made without")
    assert get_json(f"{url}/api/v1/rules/made-without")["warning"] == 300
