"""Jobs of the demo's RQ workers: functions that take time, sometimes fail, and have no side effects."""

from __future__ import annotations

import random
import time

from rq import get_current_job

from . import faults
from .catalogue import BROKEN_IMAGE, DEAD_MAILBOX


def render_thumbnail(image: str, width: int = 320) -> str:
    """Return the path of the thumbnail, after 0.15 to 0.7 s."""
    _decode_image(image)
    time.sleep(random.uniform(0.15, 0.7))
    if random.random() < 0.003:
        faults.disk_full(f"cache/thumbnails/{width}")
    return f"cache/thumbnails/{width}/{image.rsplit('/', 1)[-1]}"


def _decode_image(image: str) -> None:
    if image == BROKEN_IMAGE or random.random() < 0.003:
        faults.image_broken(image)


def send_issue(issue: int, recipient: str) -> dict[str, str]:
    """Return the mail server's response, after 0.05 to 0.3 s."""
    time.sleep(random.uniform(0.05, 0.3))
    _deliver_mail(recipient)
    return {"recipient": recipient, "message_id": f"<issue-{issue}.{random.randint(10**6, 10**7)}@shop.example>"}


def _deliver_mail(recipient: str) -> None:
    if recipient == DEAD_MAILBOX:
        faults.mailbox_unknown(recipient)
    if random.random() < 0.05:
        faults.mail_server_hangs_up(recipient)


def build_report(kind: str, month: str) -> dict[str, object]:
    """Return the size and path of the report, after 2 to 6 s; stores its progress in the job's meta."""
    steps = ("query orders", "convert currencies", "aggregate", "render")
    job = get_current_job()
    for number, step in enumerate(steps):
        if job is not None:
            job.meta["progress"] = {"step": step, "percent": round(100 * number / len(steps))}
            job.save_meta()
        if step == "convert currencies":
            _convert_currencies(kind)
        time.sleep(random.uniform(0.5, 1.5))
    return {
        "path": f"reports/{month}/{kind}.pdf",
        "pages": random.randint(2, 60),
        "bytes": random.randint(10**5, 10**7),
    }


def _convert_currencies(kind: str) -> None:
    if random.random() < 0.07:
        faults.exchange_rates_are_a_page()
    if kind == "refunds" and random.random() < 0.2:
        faults.amount_unreadable()


def mail_report(kind: str, month: str, recipient: str) -> str:
    """Return the recipient of the report, after 0.1 to 0.4 s; runs when the report's job has finished."""
    time.sleep(random.uniform(0.1, 0.4))
    return f"{kind} of {month} to {recipient}"


def expire_downloads(older_than_days: int) -> int:
    """Return how many files were removed; this job is scheduled ahead of time."""
    time.sleep(random.uniform(0.2, 0.6))
    return random.randint(0, 5 * older_than_days)
