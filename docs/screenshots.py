"""Take the pictures of the README from the real demo: `.venv/bin/python docs/screenshots.py [SECONDS]`.

Starts `queuedeck demo`, lets it run for two minutes (or SECONDS) while all queues are healthy, waits for the alert of
its incident and writes docs/PAGE-LOOK.png for the pages overview, queue, job, charts, classes, redis and redis-charts,
and for the file of an incident report: light, dark and on a phone. Queue and job are those of the failed payments; the
charts are of the queue that a deploy made slow, over the week of sample data. Stack traces show the path of the
checkout: use one whose path can be public.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Browser, sync_playwright

from dashboard.demo.embedded import die_with_parent
from dashboard.demo.past.queues import SLOWED

DOCS = Path(__file__).resolve().parent
START_TIMEOUT_S = 60.0
RUN_S = 120.0
# Longer than all pictures take.
INCIDENT_S = 3600.0
# The incident's queue; the pictures show it with at least this many dead letters, and its alert.
QUEUE = ("rq", "payments")
DEAD_LETTERS = 60
INCIDENT_TIMEOUT_S = 120.0
DESK = {"viewport": {"width": 1280, "height": 800}, "device_scale_factor": 1}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {**DESK, "color_scheme": "light"},
    "dark": {**DESK, "color_scheme": "dark"},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "color_scheme": "light",
        "is_mobile": True,
        "has_touch": True,
    },
}
CLIENT = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())


def main(seconds: float) -> None:
    """Write the pictures of the incident, which begins after `seconds`; raises RuntimeError if there is none."""
    with demo(seconds) as (base, sign_in_url):
        time.sleep(seconds)
        wait_for_incident(base)
        queue, job = failed_job(base)
        charts = f"{base}/queues/main/bullmq/{SLOWED}/charts?range=7d"
        pages = {"overview": f"{base}/", "queue": queue, "job": job, "charts": charts}
        pages |= {"classes": f"{base}/classes", "redis": f"{base}/redis"}
        pages["redis-charts"] = f"{base}/sources/main/charts?range=7d"
        with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
            pages["incident"] = save_report(base, Path(folder))
            # As root, as in containers, Chromium starts only without its sandbox.
            arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = playwright.chromium.launch(executable_path=chromium(), args=arguments)
            for look, options in LOOKS.items():
                for page, url in pages.items():
                    take(browser, sign_in_url, url, options, DOCS / f"{page}-{look}.png")
            browser.close()


def chromium() -> str | None:
    """The path of an installed Chromium; None for the one that Playwright downloaded."""
    return shutil.which("chromium-headless-shell") or shutil.which("chromium")


@contextmanager
def demo(incident_after_s: float) -> Iterator[tuple[str, str]]:
    """(base URL of a running demo, without a slash at the end; the URL that signs a browser in)."""
    times = ("--incident-after", str(incident_after_s), "--incident-for", str(INCIDENT_S))
    command = [sys.executable, "-m", "dashboard.cli", "demo", "--port", "0", *times]
    process = subprocess.Popen(command, cwd=DOCS.parent, stdout=subprocess.PIPE, preexec_fn=die_with_parent())
    try:
        assert process.stdout is not None
        found = None
        while found is None:
            line = process.stdout.readline().decode()
            if not line:
                raise RuntimeError("the demo did not start")
            found = re.match(r"Open ((http://\S+)/\?token=\S+)", line)
        get(found[1], as_json=False)
        wait_for_queues(found[2], process)
        yield found[2], found[1]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(15)


def wait_for_queues(base: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the overview has queues; raises RuntimeError after START_TIMEOUT_S."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if get(f"{base}/api/v1/overview").get("queues"):
                return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.2)
    raise RuntimeError("the demo did not start")


def get(url: str, *, as_json: bool = True) -> Any:
    """The response body of `url`: decoded JSON by default."""
    with CLIENT.open(url, timeout=5) as response:
        return json.load(response) if as_json else response.read()


def wait_for_incident(base: str) -> None:
    """Wait for the alert and enough dead letters; raises RuntimeError after INCIDENT_TIMEOUT_S."""
    deadline = time.monotonic() + INCIDENT_TIMEOUT_S
    while time.monotonic() < deadline:
        queues = get(f"{base}/api/v1/overview")["queues"]
        dead = sum(each["counts"]["dead"] or 0 for each in queues if (each["backend"], each["name"]) == QUEUE)
        if dead >= DEAD_LETTERS and get(f"{base}/api/v1/alerts")["alerts"]:
            return
        time.sleep(1)
    raise RuntimeError("the incident of the demo did not begin")


def failed_job(base: str) -> tuple[str, str]:
    """(URL of the dead letters of the incident's queue, URL of the newest of them)."""
    path = "/".join(("queues", "main", *QUEUE))
    newest = get(f"{base}/api/v1/{path}/jobs?state=dead&per_page=1")["jobs"][0]
    return f"{base}/{path}?state=dead", f"{base}/{path}/jobs/{quote(newest['id'], safe='')}"


def save_report(base: str, folder: Path) -> str:
    """The URL of the file of an incident report of the last hour."""
    file = folder / "incident.html"
    file.write_bytes(get(f"{base}/incident/download?range=1h&title=Payments+failed", as_json=False))
    return file.as_uri()


def take(browser: Browser, sign_in_url: str, url: str, options: dict[str, Any], path: Path) -> None:
    """Write the picture of one page after two refreshes, in a browser that `sign_in_url` signed in."""
    context = browser.new_context(**options, reduced_motion="reduce", timezone_id="UTC")
    page = context.new_page()
    page.goto(sign_in_url)
    response = page.goto(url)
    assert url.startswith("file:") or (response is not None and response.ok), url
    page.wait_for_timeout(5000)
    page.screenshot(path=path)
    context.close()
    print(path.relative_to(DOCS.parent))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else RUN_S)
