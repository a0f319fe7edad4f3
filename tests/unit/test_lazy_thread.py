"""A thread that starts when it is first needed can be waited for at any moment, also while it is being started."""

from __future__ import annotations

import threading

import pytest

from dashboard.lazy_thread import LazyThread
from tests.waiting import CEILING_S

# Without a lock, waiting fails at once; with one, it lasts as long as the start, which is held for so long.
HELD_S = 0.2


def test_it_runs_once() -> None:
    runs: list[str] = []
    lazy = LazyThread("lazy", lambda: runs.append(threading.current_thread().name))
    lazy.join(0)
    assert not lazy.has_started
    for _ in range(3):
        lazy.start()
    lazy.join(CEILING_S)
    assert lazy.has_started
    assert runs == ["lazy"]


def test_it_does_not_wait_for_itself() -> None:
    lazy = LazyThread("lazy", lambda: lazy.join(CEILING_S))
    lazy.start()
    lazy.join(CEILING_S)
    assert "lazy" not in {thread.name for thread in threading.enumerate()}


def test_it_is_waited_for_while_it_is_being_started(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[bool] = []
    lazy = LazyThread("lazy", lambda: runs.append(True))
    faults: list[BaseException] = []
    start = threading.Thread.start

    def join_noting() -> None:
        try:
            lazy.join(CEILING_S)
        except BaseException as exc:
            faults.append(exc)

    waiting = threading.Thread(target=join_noting)

    def start_held(thread: threading.Thread) -> None:
        monkeypatch.setattr(threading.Thread, "start", start)
        waiting.start()
        waiting.join(HELD_S)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_held)
    lazy.start()
    waiting.join(CEILING_S)
    assert (waiting.is_alive(), faults, runs) == (False, [], [True])
