"""Jobs of the demo's RQ workers: functions that take time and have no side effects.

Payments fail while the payment provider is down. Other jobs fail at most in their first attempt, and have a retry.
"""

from __future__ import annotations

import random
import time

from rq import get_current_job

from . import faults
from .incident import PROVIDER, is_provider_down

# How often `send_issue` is retried.
LETTER_RETRIES = 2


def capture_payment(order: str, customer: int, cents: int, currency: str) -> dict[str, object]:
    """Return the payment's receipt, after 0.05 to 0.2 s."""
    receipt = _post_to_provider("/v1/captures")
    return {"order": order, "customer": customer, "captured": f"{cents / 100:.2f} {currency}", "receipt": receipt}


def _post_to_provider(path: str) -> str:
    time.sleep(random.uniform(0.05, 0.2))
    if is_provider_down():
        raise faults.UpstreamError(502, PROVIDER)
    return f"https://{PROVIDER}{path}/{random.randint(10**8, 10**9)}"


def render_thumbnail(image: str, width: int = 320) -> str:
    """Return the path of the thumbnail, after 0.15 to 0.7 s."""
    time.sleep(random.uniform(0.15, 0.7))
    return f"cache/thumbnails/{width}/{image.rsplit('/', 1)[-1]}"


def send_issue(issue: int, recipient: str) -> dict[str, str]:
    """Return the mail server's response, after 0.05 to 0.3 s."""
    time.sleep(random.uniform(0.05, 0.3))
    if _is_first_attempt() and random.random() < 0.05:
        faults.mail_server_hangs_up(recipient)
    return {"recipient": recipient, "message_id": f"<issue-{issue}.{random.randint(10**6, 10**7)}@shop.example>"}


def _is_first_attempt() -> bool:
    job = get_current_job()
    return job is not None and job.retries_left == LETTER_RETRIES


def build_report(kind: str, month: str) -> dict[str, object]:
    """Return the size and path of the report, after 2 to 6 s; stores its progress in the job's meta."""
    steps = ("query orders", "convert currencies", "aggregate", "render")
    job = get_current_job()
    for number, step in enumerate(steps):
        if job is not None:
            job.meta["progress"] = {"step": step, "percent": round(100 * number / len(steps))}
            job.save_meta()
        time.sleep(random.uniform(0.5, 1.5))
    return {
        "path": f"reports/{month}/{kind}.pdf",
        "pages": random.randint(2, 60),
        "bytes": random.randint(10**5, 10**7),
    }


def mail_report(kind: str, month: str, recipient: str) -> str:
    """Return the recipient of the report, after 0.1 to 0.4 s; runs when the report's job has finished."""
    time.sleep(random.uniform(0.1, 0.4))
    return f"{kind} of {month} to {recipient}"


def expire_downloads(older_than_days: int) -> int:
    """Return how many files were removed; this job is scheduled ahead of time."""
    time.sleep(random.uniform(0.2, 0.6))
    return random.randint(0, 5 * older_than_days)
