"""Fixtures for the tests of deployments: Sentinels that a test may stop, and a webhook receiver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alerts.channels.fake_providers import HttpSink
from tests.deployment.sentinel_set import SentinelSet, sentinel_set


@pytest.fixture
def own_set(tmp_path: Path) -> Iterator[SentinelSet]:
    """A Sentinel set for one test, which may stop its processes."""
    with sentinel_set(tmp_path) as running:
        yield running


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    """A webhook receiver."""
    receiver = HttpSink()
    yield receiver
    receiver.close()
