"""Starting the dashboard as its users do, in a process of its own, and waiting for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dashboard.demo.embedded import die_with_parent

ROOT = Path(__file__).resolve().parent.parent


def get_json(url: str, timeout_s: float = 30.0) -> Any:
    """The JSON that `url` answers, whatever the status."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:
            return json.load(response)
    except urllib.error.HTTPError as exc:
        with exc:
            return json.load(exc)


def wait_until(condition: Callable[[], Any], *, within_s: float = 60.0, what: str = "it") -> Any:
    """The first true answer of `condition`, asked again and again; a refused connection counts as not yet."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            answer = condition()
        except OSError:
            answer = None
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what} did not happen within {within_s:.0f} s"
        time.sleep(0.05)


@contextmanager
def running(command: Sequence[str], port: int, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """`command` (arguments of Python) as a process that answers /healthz on `port`; ended by SIGTERM at the end."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=die_with_parent(),
    )
    try:

        def healthy() -> bool:
            assert process.poll() is None, (process.stdout.read() if process.stdout else b"").decode()
            return bool(get_json(f"http://127.0.0.1:{port}/healthz") == {"status": "ok"})

        wait_until(healthy, within_s=60, what="the server answering")
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
