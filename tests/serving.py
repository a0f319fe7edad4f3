"""Starting the dashboard as its users do, in a process of its own, and asking it."""

from __future__ import annotations

import json
import re
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import waiting
from tests.processes import Child, child
from tests.waiting import CEILING_S

# What `queuedeck serve` and gunicorn announce once they listen.
_ADDRESS = re.compile(r"(?:Open|Listening at:) (http://127\.0\.0\.1:\d+)")


_NO_COOKIES = urllib.request.build_opener()


@dataclass
class Served:
    """A server that answers. `url` has no slash at its end."""

    url: str
    process: Child


def get_json(url: str, timeout_s: float = CEILING_S, browser: urllib.request.OpenerDirector | None = None) -> Any:
    """The JSON that `url` answers, whatever the status; asked for with the cookies of `browser` if there is one."""
    try:
        with (browser or _NO_COOKIES).open(url, timeout=timeout_s) as response:
            return json.load(response)
    except urllib.error.HTTPError as exc:
        with exc:
            return json.load(exc)


def post_json(url: str, body: Mapping[str, Any]) -> Any:
    """The JSON that `url` answers to a POST with the JSON `body`, sent as a page of the dashboard would."""
    headers = {"Content-Type": "application/json", "Sec-Fetch-Site": "same-origin"}
    with _NO_COOKIES.open(
        urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=CEILING_S
    ) as response:
        return json.load(response)


@contextmanager
def running(command: Sequence[str | Path], port: int = 0, *, gently: bool = False, **environ: str) -> Iterator[Served]:
    """`command` (arguments of Python) as a process that answers /healthz.

    `command` binds port 0 and the announcement in its log names the real one, or it binds `port`. It is killed at the
    end, or asked to end where that is done `gently`. Its spool files are its own, and it lets in whoever sits at this
    machine unless `environ` says otherwise.
    """
    with (
        tempfile.TemporaryDirectory(prefix="queuedeck-spool-") as spool,
        child(
            [sys.executable, *command],
            name="server",
            gently=gently,
            environ={
                "QUEUEDECK_AUTH": "none",
                "QUEUEDECK_SPOOL_DIR": f"{spool}/spool",
                "PYTHONUNBUFFERED": "1",
                **environ,
            },
        ) as process,
    ):

        def address() -> str | None:
            assert process.is_alive, f"the server ended with {process.process.returncode}:\n{process.read_log()}"
            found = _ADDRESS.search(process.read_log())
            return found[1] if found else None

        url = f"http://127.0.0.1:{port}" if port else str(waiting.wait_until(address, what="the address of the server"))

        def is_healthy() -> bool:
            assert process.is_alive, f"the server ended with {process.process.returncode}:\n{process.read_log()}"
            return bool(get_json(f"{url}/healthz") == {"status": "ok"})

        waiting.wait_until(is_healthy, what=f"{url}/healthz")
        yield Served(url, process)


@contextmanager
def serving(*arguments: str | Path, port: int = 0, gently: bool = False, **environ: str) -> Iterator[Served]:
    """`queuedeck serve` with these arguments, on a port that it chooses unless one is given."""
    command = ["-m", "dashboard.cli", "serve", *arguments, "--port", str(port)]
    with running(command, port, gently=gently, **environ) as served:
        yield served
