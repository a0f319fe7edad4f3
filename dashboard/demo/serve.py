"""The demo's dashboard, as a separate process: `python -m dashboard.demo.serve REDIS_URL PORT FOLDER`."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

from ..settings import Settings
from ..web.server import serve
from .parent_watch import end_with_parent
from .processes import TOKEN_FILE


def main(redis_url: str, port: int, folder: str) -> int:
    """Serve until SIGTERM, or until the demo exits; return the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    end_with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
    # Created here, not loaded: the settings in the environment are for the user's own Redis.
    token = Path(folder, TOKEN_FILE).read_text()
    settings = Settings(redis_url=redis_url, spool_dir=f"{folder}/spool", auth="auto" if token else "none")
    return serve(settings, host="127.0.0.1", port=port, announce=False, start_token=token)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
