"""What a process monitors is found by the names of sources and libraries."""

from __future__ import annotations

import pytest

from dashboard.backends.monitored_sources import MonitoredSources, open_sources
from dashboard.errors import NotFound
from dashboard.settings import load
from dashboard.sources.source import Source

CLOSED = "redis://127.0.0.1:1"  # no server listens there


@pytest.fixture
def sources() -> MonitoredSources:
    entries = [
        {"name": "shop", "url": f"{CLOSED}/1", "backends": ["rq"]},
        {"name": "bank", "url": f"{CLOSED}/2", "backends": ["rq", "celery"]},
    ]
    return open_sources(load(environ={}, keywords={"sources": entries, "store_url": f"{CLOSED}/3"}))


def test_a_library_is_watched_on_its_own_sources_only(sources: MonitoredSources) -> None:
    assert sources.is_watched("bank", "celery")
    assert not sources.is_watched("shop", "celery")
    assert not sources.is_watched("farm", "rq")
    assert not sources.is_watched(None, None)
    assert sources.backend("bank", "celery").name == "celery"
    for source, backend in (("shop", "celery"), ("farm", "rq")):
        with pytest.raises(NotFound):
            sources.backend(source, backend)


def test_each_address_is_known_by_the_name_of_the_source(sources: MonitoredSources) -> None:
    assert sources.address_of("shop") == sources.sources["shop"].address
    assert sources.address_of("store") is None
    assert sources.own.address == f"{CLOSED}/3"


def test_time_is_that_of_the_source_or_else_of_the_store(
    sources: MonitoredSources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Source, "now_s", lambda source: {"shop": 1.0, "bank": 2.0, "store": 3.0}[source.name])
    assert [sources.now_s(name) for name in ("shop", "bank", "farm", None)] == [1.0, 2.0, 3.0, 3.0]
