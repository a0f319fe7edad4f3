"""`queuedeck` with other limits on slow clients: `python -m tests.workloads.limited_server SEND_S=0.2,LEAVE_S=1 serve`.

`FILES` is how many files the process may open; the others are the limits of `request_buffering`.
"""

from __future__ import annotations

import resource
import sys

from dashboard.cli import main
from dashboard.web import request_buffering


def apply_limits(text: str) -> None:
    """Set the limits of a text such as `SEND_S=0.2,FILES=160`."""
    for limit in text.split(","):
        name, _, number = limit.partition("=")
        if name == "FILES":
            resource.setrlimit(resource.RLIMIT_NOFILE, (int(number), int(number)))
        else:
            assert hasattr(request_buffering, name), name
            setattr(request_buffering, name, float(number))


if __name__ == "__main__":
    apply_limits(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
