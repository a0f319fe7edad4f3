"""The services of a process are built without a connection or a thread; which threads start is up to the process."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from dashboard.alerts.runtime import AlertRuntime
from dashboard.errors import ConfigurationError
from dashboard.services import Services, build_services
from dashboard.settings import load
from dashboard.sources.metering import measure_cost

CLOSED = "redis://127.0.0.1:1/0"  # no server listens there


def services_of(folder: Path, *, checks: bool, **keywords: Any) -> Services:
    values = {"redis_url": CLOSED, "spool_dir": str(folder / "spool"), **keywords}
    return build_services(load(environ={}, keywords=values), checks=checks)


@pytest.mark.parametrize("checks", [False, True])
def test_building_opens_no_connection_and_starts_no_thread(tmp_path: Path, checks: bool) -> None:
    before = threading.enumerate()
    with measure_cost() as meter:
        services = services_of(tmp_path, checks=checks)
    assert meter.commands == 0
    assert set(threading.enumerate()) <= set(before)  # those of earlier tests may end meanwhile
    assert (services.checker is not None) == checks
    services.stop()


def test_all_parts_share_the_store_and_the_sources(tmp_path: Path) -> None:
    services = services_of(tmp_path, checks=False, store_url=f"{CLOSED[:-1]}3")
    assert services.store.source is services.sources.own
    assert services.sources.own not in services.sources.sources.values()
    assert services.action_service.audit_log._store.source is services.sources.own
    assert services.dead_letter_service.annotation_store._store is services.store
    services.stop()


def test_a_process_without_a_checker_runs_bulk_operations_if_asked(tmp_path: Path) -> None:
    services = services_of(tmp_path, checks=False, checker="off")
    before = set(threading.enumerate())
    services.start(runs_bulk=True)
    assert [thread.name for thread in set(threading.enumerate()) - before] == ["queuedeck-bulk"]
    services.stop()
    assert set(threading.enumerate()) <= before


def test_the_checker_has_its_alerts_unless_they_are_off(tmp_path: Path) -> None:
    for alerts, kind in (("on", AlertRuntime), ("off", type(None))):
        checker = services_of(tmp_path, checks=True, alerts=alerts).checker
        assert checker is not None
        assert isinstance(checker.alerts, kind)


def test_a_wrong_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="channel"):
        services_of(tmp_path, checks=False, channels=[{"id": "ops", "kind": "pigeon"}])


@pytest.mark.parametrize(
    ("keywords", "problem"),
    [
        ({"alerts": "off"}, "Alerts are disabled"),
        ({"checker": "off"}, 'checker = "off" in this dashboard, and no other checker is running'),
        ({}, None),
    ],
)
def test_a_process_says_why_it_does_not_check(tmp_path: Path, keywords: dict[str, str], problem: str | None) -> None:
    services = services_of(tmp_path, checks=False, **keywords)
    found = services.checker_problem
    assert (found.message if found else None) == problem
    services.stop()
