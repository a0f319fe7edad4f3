"""The demo as users start it, from calm queues through one outage to calm queues, until no process is left.

Each test runs one demo from start to end, because starting the workers takes most of the time.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from dashboard.clock import now_s
from tests.e2e.conftest import Visit, confirm
from tests.e2e.demo_process import DEMO, Demo, demo_starter
from tests.serving import get_json
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
NEVER = "86400"
ERROR = "502 Bad Gateway from payments.example"
BEGINS = r"\d\d:\d\d:\d\d payments\.example answers 502"
ENDS = r"\d\d:\d\d:\d\d payments\.example answers again"
CANARY = 3
OLDEST = 5
LIBRARIES = {"bullmq", "celery", "rq", "sidekiq"}
# Library -> finished jobs.
FINISHED = {"bullmq": 100, "celery": 60, "rq": 120, "sidekiq": 5}


@pytest.fixture
def demo() -> Iterator[Callable[..., Demo]]:
    """Starts demos, which end with the test."""
    with demo_starter() as start:
        yield start


def get(demo: Demo, url: str, path: str) -> Any:
    return get_json(f"{url}/api/v1/{path}", browser=demo.browser)


def dead_letters(demo: Demo, url: str) -> dict[str, int]:
    """Name -> dead letters of the queues that have any."""
    return {queue["name"]: queue["counts"]["dead"] for queue in demo.overview(url) if queue["counts"]["dead"]}


def has_worked(demo: Demo, url: str) -> bool:
    """Whether each library has finished so many jobs that one which fails now and then would have left dead letters."""
    completed: Counter[str] = Counter()
    for queue in demo.overview(url):
        # Sidekiq keeps no completed jobs: there, the rate alone says that some were.
        rate = queue["throughput_per_min"] or 0 if queue["backend"] == "sidekiq" else 0
        completed[queue["backend"]] += queue["counts"]["completed"] or rate
    return all(completed[library] >= least for library, least in FINISHED.items())


def are_moving(queues: dict[tuple[str, str], Any]) -> bool:
    """Whether there are queues of all libraries of the demo, that of the workers in Node among them."""
    return len(queues) >= 6 and {library for library, _ in queues} >= {"bullmq", "rq"} and ("bullmq", "mails") in queues


def finished(queues: dict[tuple[str, str], Any]) -> int:
    return sum((queue["counts"]["completed"] or 0) + (queue["counts"]["dead"] or 0) for queue in queues.values())


def wait_for_work(demo: Demo, url: str) -> None:
    """Return once jobs of six queues or more are worked off."""
    before = wait_until(
        lambda: found if are_moving(found := demo.queues(url)) else None, what="six queues of both libraries moving"
    )
    wait_until(lambda: finished(demo.queues(url)) > finished(before), what="finished work")


def problems(page: Page) -> Any:
    return page.get_by_role("region", name="Current problems")


def check_that_it_is_calm(demo: Demo, url: str, page: Page) -> None:
    """No page and no queue tells of a problem."""
    # From the first view on, and not only once everything runs.
    expect(page.get_by_role("link", name="payments", exact=True).first).to_be_visible()
    for _ in range(3):
        expect(problems(page)).to_have_count(0)
        expect(page.get_by_role("main")).to_contain_text("No problems in")
        page.reload()
    queues = demo.overview(url)
    assert {queue["backend"] for queue in queues} >= LIBRARIES
    assert {queue["error"] for queue in queues} == {None}
    assert not any(queue["paused"] for queue in queues)
    assert dead_letters(demo, url) == {}
    assert get(demo, url, "alerts")["alerts"] == []
    page.goto(f"{url}/dead")
    expect(page.get_by_role("main")).to_contain_text("No dead letters")
    page.goto(f"{url}/alerts")
    expect(page.get_by_role("main")).to_contain_text("No alerts are firing")
    check_that_it_has_a_past(demo, url, page)
    page.goto(url)


def check_that_it_has_a_past(demo: Demo, url: str, page: Page) -> None:
    """The charts begin with a week of sample data, in which deploys made jobs slow; pages say what they are."""
    week = f"metric=runtime_p50_s&from={now_s() - 6.5 * 86_400}"
    points = get(demo, url, f"queues/main/bullmq/search-index/history?{week}")["points"]
    medians = [value for _, value in points if value is not None]
    assert len(medians) > 200
    assert max(medians) > 2 * sorted(medians)[len(medians) // 2]
    page.goto(f"{url}/charts")
    expect(page.get_by_role("main")).to_contain_text("are sample data: this is a demo")
    expect(page.get_by_role("main")).to_contain_text("deploy v412")
    page.goto(f"{url}/classes")
    worst = page.get_by_role("row").nth(1)
    expect(worst).to_contain_text("render_thumbnail")
    expect(worst).to_contain_text("slower")


def follow_the_alert(page: Page) -> None:
    """From the overview through the alert and the queue to the page of the error."""
    reported = problems(page).get_by_role("listitem").filter(has=page.get_by_role("link", name="Alert"))
    expect(reported.first).to_contain_text("payments")
    expect(reported.first).to_contain_text("threshold")
    reported.first.get_by_role("link", name="Alert").click()
    firing = page.get_by_role("row").filter(has_text="Payments are failing")
    expect(firing.first).to_be_visible()
    firing.first.get_by_role("link", name="payments", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("payments")
    page.get_by_role("link", name=re.compile("^dead")).first.click()
    expect(page.get_by_role("table").get_by_text(ERROR).first).to_be_visible()
    page.get_by_role("link", name=re.compile("^Dead")).first.click()  # on a phone without its second word
    page.get_by_role("row").filter(has_text="UpstreamError").get_by_role("link").first.click()
    expect(page.get_by_role("main")).to_contain_text(ERROR)


def retry(page: Page, limit: int | None = None) -> None:
    """From the page of an error: retry all of its jobs, or the `limit` oldest, the first few before the others."""
    page.get_by_role("link", name=re.compile("^Retry all")).click()
    if limit is not None:
        page.get_by_role("spinbutton", name=re.compile("^At most")).fill(str(limit))
        page.get_by_label("starting with the").select_option("oldest")
    page.get_by_label("Canary size").fill(str(CANARY))
    page.get_by_label("Jobs per second").fill("0")
    page.get_by_role("button", name=re.compile(r"^Retry .*\d+ jobs$")).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Retry")


def retry_the_oldest_and_the_rest(page: Page) -> None:
    """Delete one job of a group, retry some of the oldest with a canary, then the others."""
    group = page.url
    expect(page.get_by_role("heading", level=1)).to_contain_text("UpstreamError")
    page.get_by_role("checkbox", name=re.compile("^Select ")).nth(1).check()
    page.get_by_role("button", name="Delete 1").click()
    confirm(page, "Delete")
    expect(page.locator("#flash")).to_contain_text("1 job deleted")
    for limit in (OLDEST, None):
        page.goto(group)
        retry(page, limit)
        expect(page.locator("#operation .tag").first).to_have_text("done")


def check_what_is_recorded(page: Page, url: str) -> None:
    """The audit log names both retries, and the trash has the deleted job."""
    page.goto(f"{url}/audit")
    retries = page.get_by_role("row").filter(has_text=ERROR).filter(has_text="bulk operation")
    expect(retries.first).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="oldest first").first).to_be_visible()
    page.goto(f"{url}/trash")
    expect(page.get_by_role("row").filter(has_text="payments").first).to_contain_text("1 dead job")


def wait_for_dead_letters(demo: Demo, url: str) -> None:
    wait_until(lambda: dead_letters(demo, url).get("payments", 0) > 4 * CANARY, what="failed payments")
    assert set(dead_letters(demo, url)) == {"payments"}
    alerts = get(demo, url, "alerts")["alerts"]
    assert {alert["rule"] for alert in alerts} <= {"payments-failing"}


def wait_until_resolved(demo: Demo, url: str, page: Page) -> None:
    """Return once all payments succeeded and the pages say that the alert is over.

    The other queues worked all the time: each library has finished many jobs by then, and none is dead.
    """
    wait_until(lambda: dead_letters(demo, url) == {}, what="all payments retried with success")
    wait_until(lambda: get(demo, url, "alerts")["alerts"] == [], what="the end of the alert")
    wait_until(lambda: has_worked(demo, url), what="finished jobs of each library")
    assert dead_letters(demo, url) == {}
    page.goto(url)
    expect(page.get_by_role("main")).to_contain_text("Queues")
    # The share of failed payments falls slowly.
    expect(problems(page).get_by_role("listitem").filter(has_not_text="payments")).to_have_count(0)
    page.goto(f"{url}/alerts")
    expect(page.get_by_role("main")).to_contain_text("No alerts are firing")
    expect(page.get_by_role("row").filter(has_text="Payments are failing").first).to_contain_text("lasted")
    page.goto(f"{url}/dead")
    expect(page.get_by_role("main")).to_contain_text("No dead letters")


def retry_too_early(page: Page) -> None:
    """Retry a group whose first jobs fail again, and abort what is left."""
    retry(page)
    expect(page.get_by_role("main")).to_contain_text("canary", ignore_case=True)
    expect(page.locator("#operation .tag").first).to_have_text("paused")
    page.get_by_role("button", name="Abort").click()
    expect(page.locator("#operation .tag").first).to_have_text("aborted")


def check_that_ctrl_c_ends_it(demo: Demo, url: str) -> None:
    """It stops everything and has reported no error and no process that exited."""
    started = demo.alive()
    assert len(started) > 8
    status, printed, errors = demo.end(signal.SIGINT)
    assert (status, errors) == (0, "")
    (address,) = re.findall(r"https?://\S+", printed)
    assert re.fullmatch(rf"{url}/\?token=[\w-]{{43}}", address)
    assert "exited" not in printed
    demo.wait_for_nothing_left(started)


def test_an_early_canary_stops_the_retry_and_a_later_one_resolves_the_alert(
    demo: Callable[..., Demo], visit: Visit
) -> None:
    running = demo(*DEMO, "--port", "0", "--incident-after", NEVER, "--incident-for", NEVER)
    url = running.announced_url()
    assert running.sign_in_url is not None
    page = visit(running.sign_in_url, **DESKTOP).page
    check_that_it_is_calm(running, url, page)
    wait_for_work(running, url)
    assert get_json(f"{url}/api/v1/overview")["error"]["code"] == "forbidden"

    running.process.send(signal.SIGUSR1)
    running.wait_for_line(BEGINS)
    wait_for_dead_letters(running, url)
    follow_the_alert(page)
    group = page.url
    retry_too_early(page)
    assert dead_letters(running, url)["payments"] > CANARY

    running.process.send(signal.SIGUSR1)
    running.wait_for_line(ENDS)
    page.goto(group)
    retry_the_oldest_and_the_rest(page)
    wait_until_resolved(running, url, page)
    page.goto(group)
    expect(page.get_by_role("main")).to_contain_text("No jobs left in this group")
    check_what_is_recorded(page, url)
    page.goto("about:blank")  # so that no poll reaches a server that is shutting down
    check_that_ctrl_c_ends_it(running, url)


def start_without_sign_in(demo: Callable[..., Demo], *, outage_after_s: int, outage_s: int) -> tuple[Demo, str]:
    """A demo that anybody may open, and its address."""
    times = ("--incident-after", str(outage_after_s), "--incident-for", str(outage_s))
    running = demo(*DEMO, "--port", "0", *times, "--no-auth")
    url = running.announced_url()
    assert running.sign_in_url == f"{url}/"
    return running, url


def check_that_all_ends_when_it_is_killed(demo: Demo) -> None:
    started = demo.alive()
    assert len(started) > 8
    demo.process.send(signal.SIGKILL)  # not its group: they have to see that it is gone
    demo.wait_for_nothing_left(started)


def test_the_outage_comes_and_goes_at_its_times_and_a_killed_demo_leaves_no_process(
    demo: Callable[..., Demo],
) -> None:
    running, _ = start_without_sign_in(demo, outage_after_s=1, outage_s=1)
    running.wait_for_line(BEGINS)
    running.wait_for_line(ENDS)
    check_that_all_ends_when_it_is_killed(running)


@pytest.mark.soak  # the same story as on the desktop
def test_on_a_phone_the_outage_comes_and_goes_at_its_times(demo: Callable[..., Demo], visit: Visit) -> None:
    running, url = start_without_sign_in(demo, outage_after_s=8, outage_s=12)
    page = visit(url, **PHONE).page
    running.wait_for_line(BEGINS)
    wait_for_dead_letters(running, url)
    follow_the_alert(page)
    running.wait_for_line(ENDS)
    page.reload()
    retry_the_oldest_and_the_rest(page)
    wait_until_resolved(running, url, page)
    check_what_is_recorded(page, url)
    page.goto("about:blank")
    check_that_all_ends_when_it_is_killed(running)
