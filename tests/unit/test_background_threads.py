"""Threads that start with the first request can be stopped at any moment, also while they are being started."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dashboard.background_reads import BackgroundReads
from dashboard.dead_letters.top_errors import TopErrors
from tests.unit.test_services import services_of
from tests.waiting import CEILING_S

# Without a lock, a stop fails at once; with one, it waits for the start, which is held for so long.
HELD_S = 0.2


def reads(_folder: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    each = BackgroundReads("tested", lambda: None)
    return each.request, each.stop


def top_errors(_folder: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    each = TopErrors(lambda _source, _name: pytest.fail("nothing is read"))
    return each._start_thread, each.stop


def bulk_runner(folder: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    each = services_of(folder, checks=False).bulk_runner
    return each.start, each.stop


@pytest.mark.parametrize("build", [reads, top_errors, bulk_runner])
def test_a_stop_while_the_thread_is_being_started(
    build: Callable[[Path], tuple[Callable[[], None], Callable[[], None]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin, stop = build(tmp_path)
    faults: list[BaseException] = []
    stopping: list[threading.Thread] = []
    start = threading.Thread.start

    def stop_noting() -> None:
        try:
            stop()
        except BaseException as exc:
            faults.append(exc)

    def start_held(thread: threading.Thread) -> None:
        monkeypatch.setattr(threading.Thread, "start", start)
        stopping.append(threading.Thread(target=stop_noting))
        stopping[0].start()
        stopping[0].join(HELD_S)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_held)
    begin()
    stopping[0].join(CEILING_S)
    assert not stopping[0].is_alive()
    assert faults == []
