"""Refs of queues, and of the entry for all queues of a key prefix."""

from __future__ import annotations

from dashboard.backends.shared_entries import build_refs, prefix_repeated_names
from dashboard.backends.sidekiq.backend import Sidekiq
from dashboard.backends.sidekiq.keys import NamespaceLocation, location_of
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source

URL = "redis://127.0.0.1:1/0"
PLACES = [NamespaceLocation(space, queue) for space in ("", "app:") for queue in (None, "mails", "logs", "mails")]


def build_backend(*queues: str) -> Sidekiq:
    return Sidekiq(Source("main", URL), SourceSettings(name="main", url=URL, queues=queues))


def test_each_place_has_one_ref_and_excluded_queues_have_none() -> None:
    refs = build_refs(build_backend("ma*"), PLACES)
    assert [(ref.key, ref.name, ref.shared) for ref in refs] == [
        ("*", "*", True),
        ("queue:mails", "mails", False),
        ("app:*", "*", True),
        ("app:queue:mails", "mails", False),
    ]
    assert {(ref.source, ref.backend) for ref in refs} == {("main", "sidekiq")}


def test_only_repeated_names_get_a_prefix() -> None:
    refs = build_refs(build_backend(), PLACES[:6])
    named = prefix_repeated_names(refs, lambda ref: location_of(ref).namespace)
    assert [ref.name for ref in named] == ["*", "mails", "logs", "app:*", "app:mails"]
    assert [ref.key for ref in named] == [ref.key for ref in refs]
