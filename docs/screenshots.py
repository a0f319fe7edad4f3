"""Take the pictures of the README from the real demo: `.venv/bin/python docs/screenshots.py [SECONDS]`.

Starts `queuedeck demo`, lets it run for a minute (or SECONDS) and writes docs/PAGE-LOOK.png for the pages overview,
queue and job: light, dark and on a phone. Stack traces show the path of the checkout: use one whose path can be public.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
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

DOCS = Path(__file__).resolve().parent
START_TIMEOUT_S = 60.0
RUN_S = 60.0
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
# The queues and states whose pages show the most, best first.
WANTED = (("bullmq", "webhooks", "dead"), ("bullmq", "mails", "dead"), ("rq", "newsletter", "dead"))


def main(seconds: float) -> None:
    """Write the pictures; raises if the demo does not start or no job has failed yet."""
    with demo() as (base, sign_in_url):
        time.sleep(seconds)
        queue = next(found for wanted in WANTED if (found := failed_job(base, *wanted)))
        pages = {"overview": f"{base}/", "queue": queue[0], "job": queue[1]}
        with sync_playwright() as playwright:
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
def demo() -> Iterator[tuple[str, str]]:
    """(base URL of a running demo, without a slash at the end; the URL that signs a browser in)."""
    command = [sys.executable, "-m", "dashboard.cli", "demo", "--port", "0"]
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


def failed_job(base: str, backend: str, queue: str, state: str) -> tuple[str, str] | None:
    """(URL of the queue in that state, URL of its job with the most attempts); None if it has none."""
    path = f"queues/main/{backend}/{queue}"
    jobs = get(f"{base}/api/v1/{path}/jobs?state={state}&per_page=20")["jobs"]
    if not jobs:
        return None
    best = max(jobs, key=lambda job: job["attempts"] or 0)
    return f"{base}/{path}?state={state}", f"{base}/{path}/jobs/{quote(best['id'], safe='')}"


def take(browser: Browser, sign_in_url: str, url: str, options: dict[str, Any], path: Path) -> None:
    """Write the picture of one page after two refreshes, in a browser that `sign_in_url` signed in."""
    context = browser.new_context(**options, reduced_motion="reduce", timezone_id="UTC")
    page = context.new_page()
    page.goto(sign_in_url)
    response = page.goto(url)
    assert response is not None
    assert response.ok, f"{url}: {response.status}"
    page.wait_for_timeout(5000)
    page.screenshot(path=path)
    context.close()
    print(path.relative_to(DOCS.parent))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else RUN_S)
