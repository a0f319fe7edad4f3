"""A store, and a leader that records in it."""

from __future__ import annotations

import pytest

from dashboard.sources.source import Source
from dashboard.store.redis_store import Store
from tests.history.leader import Leader


@pytest.fixture
def store(source: Source) -> Store:
    return Store(source)


@pytest.fixture
def leader(store: Store) -> Leader:
    return Leader(store, "one")
