"""The context of an app starts services once per process, and never uses those of the process it was forked from."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from dashboard.settings import load
from dashboard.web.context import AppContext
from tests.waiting import wait_until


@pytest.fixture
def context() -> Iterator[AppContext]:
    context = AppContext(load(environ={}, keywords={"redis_url": "redis://127.0.0.1:1/0", "checker": "off"}))
    yield context
    context.stop()


def test_all_threads_of_a_process_share_its_services(context: AppContext) -> None:
    found = []
    threads = [threading.Thread(target=lambda: found.append(context.services)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(services) for services in found}) == 1
    assert context.caches is context.caches


def test_a_fork_has_services_and_caches_of_its_own(context: AppContext, monkeypatch: pytest.MonkeyPatch) -> None:
    services, caches = context.services, context.caches
    with monkeypatch.context() as fork:
        fork.setattr(os, "getpid", lambda: -1)
        assert context.services is not services
        assert context.caches is not caches
        context.stop()
    services.stop()


def test_after_a_stop_the_next_use_starts_again(context: AppContext) -> None:
    services = context.services
    context.stop()
    assert context.services is not services


def test_a_start_in_the_background_that_comes_after_the_stop_does_not_happen(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[threading.Thread] = []
    start = threading.Thread.start
    with monkeypatch.context() as later:
        later.setattr(threading.Thread, "start", lambda thread: begun.append(thread))
        context.start_in_background()
    context.stop()
    (thread,) = begun
    start(thread)
    thread.join()
    assert context._process is None


def test_a_start_in_the_background_happens_once(context: AppContext) -> None:
    context.start_in_background()
    wait_until(lambda: context._process is not None, what="the start")
    process = context._process
    context.start_in_background()
    assert context._process is process
