"""Programs of the tests in Python that start without importing their packages again.

For each set of packages, a server process imports them once and forks a child for every program. The child behaves
like a fresh interpreter: it has its own arguments, environment, folder, streams, session and exit status. It is killed
when the server exits, and the server exits when the test process closes its socket or dies. Only `tests.processes` uses
this.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from dashboard.demo.embedded import die_with_parent

_CHECKER = (
    *("dashboard.checker_process", "dashboard.backends.monitored_sources", "dashboard.backends.registry"),
    # Which a process imports at its first sample.
    *(f"dashboard.backends.{library}.backend" for library in ("bullmq", "celery", "rq", "sidekiq")),
    "apscheduler.triggers.interval",
)
_CELERY = (
    *("celery.bin.celery", "celery.bin.worker", "celery.apps.worker", "celery.worker.consumer"),
    *("celery.concurrency.thread", "celery.concurrency.solo", "celery.concurrency.prefork", "celery.app.control"),
    *("kombu.transport.redis", "celery.backends.redis", "celery.worker.control", "celery.worker.strategy"),
)
_SERVER = (*_CHECKER, "dashboard.web.server", "dashboard.web.request_buffering", "gunicorn.arbiter")
# What a program imports in any case, by its module and, where it has several, its command.
PRELOADED: dict[tuple[str, ...], tuple[str, ...]] = {
    ("celery",): _CELERY,
    ("tests.workloads.celery_drive",): _CELERY,
    ("tests.workloads.rq_worker",): ("rq", "rq.worker", "rq.scheduler", "tests.workloads.rq_jobs"),
    ("dashboard.cli", "checker"): _CHECKER,
    ("dashboard.cli", "doctor"): _SERVER,
    ("dashboard.cli", "serve"): _SERVER,
    ("gunicorn", "wsgi:app"): _SERVER,
    ("tests.workloads.limited_server",): _SERVER,
}
# In the environment: a folder for the templates that the processes of one run have compiled.
TEMPLATES = "TEST_TEMPLATES"
# Settings of an interpreter that a fork can still take on.
_TAKEN_ON = {"PYTHONPATH", "PYTHONUNBUFFERED"}


def preloaded_for(command: Sequence[str], environ: Mapping[str, str]) -> tuple[str, ...] | None:
    """The modules of the server that can start this command; None where it has to be started as usual.

    That is where there are no pidfds, where coverage is measured, or where the interpreter itself shall be another.
    """
    if not hasattr(os, "pidfd_open") or any(name.startswith("COVERAGE_PROCESS") for name in os.environ):
        return None
    others = {name for name, value in environ.items() if name.startswith("PYTHON") and os.environ.get(name) != value}
    if list(command[:2]) != [sys.executable, "-m"] or others - _TAKEN_ON:
        return None
    return PRELOADED.get((command[2],)) or PRELOADED.get(tuple(command[2:4]))


class Forked:
    """A process that a server forked, to be used like subprocess.Popen."""

    def __init__(self, pid: int, status: int, stdin: IO[bytes] | None, stdout: IO[bytes] | None) -> None:
        self.pid = pid
        self.stdin, self.stdout = stdin, stdout
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._read(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status once it ends. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        found = self._read(timeout)
        if found is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return found

    def send_signal(self, number: int) -> None:
        """Send it a signal; nothing when it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _read(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            told = os.read(self._status, 16)
            os.close(self._status)
            self.returncode = int(told) if told else -signal.SIGKILL  # the server is gone, and all of its with it
        return self.returncode


def fork(
    modules: tuple[str, ...],
    command: Sequence[str],
    *,
    cwd: Path,
    environ: Mapping[str, str],
    stderr: int,
    pipes: bool,
) -> Forked:
    """`command` as a fork of the server of these modules; without `pipes`, its stdout goes where stderr goes."""
    status, status_end = os.pipe()
    given, taken = [], []
    if pipes:
        (in_end, stdin), (stdout, out_end) = os.pipe(), os.pipe()
        given, taken = [in_end, out_end], [os.fdopen(stdin, "wb", 0), os.fdopen(stdout, "rb", 0)]
    else:
        given = [os.open(os.devnull, os.O_RDONLY), os.dup(stderr)]
    asked = {"module": command[2], "arguments": command[3:], "cwd": str(cwd), "environ": dict(environ)}
    fds = [*given, stderr, status_end]
    with _LOCK:
        control = _server(modules)
        body = json.dumps(asked).encode()
        socket.send_fds(control, [len(body).to_bytes(8, "big")], fds)
        control.sendall(body)
        pid = int.from_bytes(_exactly(control, 8), "big")
    for fd in (*given, status_end):
        os.close(fd)
    return Forked(pid, status, *(taken or (None, None)))


_LOCK = threading.Lock()


@functools.cache
def _server(modules: tuple[str, ...]) -> socket.socket:
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.forking", str(theirs.fileno()), *modules],
        cwd=Path(__file__).resolve().parent.parent,
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    theirs.close()
    atexit.register(_end, process, ours)
    return ours


def _end(process: subprocess.Popen[bytes], control: socket.socket) -> None:
    control.close()
    process.wait()


def _exactly(control: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        more = control.recv(size - len(got))
        if not more:
            raise EOFError("the server of forks is gone")
        got += more
    return got


# The server.


def serve(control: socket.socket) -> dict[str, Any] | None:
    """In a fork, the request to run; in the server, None when the test process closed the socket."""
    ends: dict[int, tuple[int, int]] = {}  # pidfd -> (pid, where to tell its status)
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not control:
                    selector.unregister(key.fd)
                    _tell(key.fd, *ends.pop(key.fd))
                    continue
                head, fds, _, _ = socket.recv_fds(control, 8, 4)
                if not head:
                    return None
                asked: dict[str, Any] = json.loads(_exactly(control, int.from_bytes(head, "big")))
                *streams, status = fds
                arm = die_with_parent()
                pid = os.fork()
                if not pid:
                    os.setsid()
                    if arm is not None:
                        arm()
                    selector.close()
                    control.close()
                    for pidfd, (_, end) in ends.items():
                        os.close(pidfd)
                        os.close(end)
                    os.close(status)
                    _become(asked, streams)
                    return asked
                control.sendall(pid.to_bytes(8, "big"))
                for fd in streams:
                    os.close(fd)
                pidfd = os.pidfd_open(pid)
                ends[pidfd] = (pid, status)
                selector.register(pidfd, selectors.EVENT_READ)


def _tell(pidfd: int, pid: int, end: int) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # the test process has closed its end
        os.write(end, str(code).encode())
    os.close(end)
    os.close(pidfd)


def _become(asked: dict[str, Any], streams: Sequence[int]) -> None:
    for target, fd in enumerate(streams):
        os.dup2(fd, target)
        os.close(fd)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environ"])
    paths = [asked["cwd"], *asked["environ"].get("PYTHONPATH", "").split(os.pathsep)]
    sys.path[:] = [*dict.fromkeys(path for path in (*paths, *sys.path[1:]) if path)]
    sys.argv[1:] = asked["arguments"]
    if asked["environ"].get("PYTHONUNBUFFERED"):
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(write_through=True)  # type: ignore[union-attr]
    time.tzset()


def _share_templates(folder: str | None) -> None:
    """Take templates that another process of this run compiled: compiling them is most of the work of a first page."""
    if folder is not None:
        from flask import Flask
        from jinja2 import FileSystemBytecodeCache

        Flask.jinja_options = {**Flask.jinja_options, "bytecode_cache": FileSystemBytecodeCache(folder)}


def main(control: str, *modules: str) -> None:
    """Import the modules, fork on each request, and run the requested program in the fork."""
    for module in modules:
        importlib.import_module(module)
    gc.freeze()
    asked = serve(socket.socket(fileno=int(control)))
    if asked is not None:
        if "flask" in sys.modules:
            _share_templates(asked["environ"].get(TEMPLATES))
        runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
