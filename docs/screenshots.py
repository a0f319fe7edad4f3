"""Take the pictures of the README from the real demo: `.venv/bin/python docs/screenshots.py [SECONDS]`.

Starts `queuedeck demo`, lets it run for a minute (or SECONDS) and writes docs/PAGE-LOOK.png for the pages overview,
queue and job, light, dark and on a phone. Stacks show where the checkout lies: take them from one whose place may be
seen.
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
    """Write the pictures; raises when the demo does not start or no job has failed yet."""
    with demo() as (base, let_in):
        time.sleep(seconds)
        queue = next(found for wanted in WANTED if (found := failed_job(base, *wanted)))
        pages = {"overview": f"{base}/", "queue": queue[0], "job": queue[1]}
        with sync_playwright() as playwright:
            # As root, as in containers, Chromium starts only without its sandbox.
            arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
            for look, options in LOOKS.items():
                for page, url in pages.items():
                    take(browser, let_in, url, options, DOCS / f"{page}-{look}.png")
            browser.close()


@contextmanager
def demo() -> Iterator[tuple[str, str]]:
    """(address of a running demo without a slash at the end, the address that lets a browser in)."""
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
    """Return when the overview has queues; raises RuntimeError when that takes too long."""
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
    """What `url` returns: decoded JSON by default."""
    with CLIENT.open(url, timeout=5) as response:
        return json.load(response) if as_json else response.read()


def failed_job(base: str, backend: str, queue: str, state: str) -> tuple[str, str] | None:
    """(page of the queue at that state, page of its job with the longest story); None when it has none."""
    path = f"queues/main/{backend}/{queue}"
    jobs = get(f"{base}/api/v1/{path}/jobs?state={state}&per_page=20")["jobs"]
    if not jobs:
        return None
    best = max(jobs, key=lambda job: job["attempts"] or 0)
    return f"{base}/{path}?state={state}", f"{base}/{path}/jobs/{quote(best['id'], safe='')}"


def take(browser: Browser, let_in: str, url: str, options: dict[str, Any], path: Path) -> None:
    """Write the picture of one page as it looks after two refreshes, to a browser that `let_in` lets in."""
    context = browser.new_context(**options, reduced_motion="reduce", timezone_id="UTC")
    page = context.new_page()
    page.goto(let_in)
    response = page.goto(url)
    assert response is not None
    assert response.ok, f"{url}: {response.status}"
    page.wait_for_timeout(5000)
    page.screenshot(path=path)
    context.close()
    print(path.relative_to(DOCS.parent))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else RUN_S)
