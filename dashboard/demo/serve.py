"""The demo's dashboard, as a separate process: `python -m dashboard.demo.serve REDIS_URL PORT FOLDER`."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from ..settings import Settings, SloSettings
from ..web.server import serve
from .incident import PAYMENTS_QUEUE
from .parent_watch import end_with_parent
from .processes import TOKEN_FILE

# One quick alert for the incident, in place of the slower default ones for the same cause. It resolves soon after the
# payments were retried.
ALERT_RULES: tuple[dict[str, Any], ...] = (
    {
        "id": "payments-failing",
        "name": "Payments are failing",
        "metric": "queue.dead",
        "backend": "rq",
        "queues": [PAYMENTS_QUEUE],
        "op": "ge",
        "critical": 10,
        "for_s": 4,
        "recover_for_s": 10,
        "new_instance_grace_s": 0,
        "group_wait_s": 0,
    },
    *({"id": rule, "queues_not": [PAYMENTS_QUEUE]} for rule in ("queue-errors", "queue-dead", "queue-dead-growth")),
)


WEEK_S = 7 * 86_400.0  # of sample data
# One that is met, and one that has been burning since the last deploy of the sample data made thumbnails slow.
SLOS = (
    SloSettings(
        id="payments",
        name="Payments start on time",
        backend="rq",
        queues=(PAYMENTS_QUEUE,),
        target=0.99,
        waited_within_s=10,
        window_s=WEEK_S,
    ),
    SloSettings(
        id="thumbnails",
        name="Thumbnails are fast",
        backend="rq",
        queues=("thumbnails",),
        target=0.99,
        ran_within_s=0.7,
        window_s=WEEK_S,
    ),
)


def main(redis_url: str, port: int, folder: str) -> int:
    """Serve until SIGTERM, or until the demo exits; return the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    end_with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
    # Created here, not loaded: the settings in the environment are for the user's own Redis.
    token = Path(folder, TOKEN_FILE).read_text()
    settings = Settings(
        redis_url=redis_url,
        spool_dir=f"{folder}/spool",
        auth="auto" if token else "none",
        rules=ALERT_RULES,
        slos=SLOS,
    )
    return serve(settings, host="127.0.0.1", port=port, announce=False, start_token=token)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
