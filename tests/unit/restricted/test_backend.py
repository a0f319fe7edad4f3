"""What a restricted backend passes on, and what it keeps closed."""

from __future__ import annotations

import inspect

from dashboard.auth import Identity
from dashboard.backends.actions import Action
from dashboard.backends.base import Backend
from dashboard.backends.registry import load_backends
from dashboard.restricted.actions import right_for
from dashboard.restricted.backend import RestrictedBackend, restrict_backend
from dashboard.rights.assignment import RightsAssignment
from dashboard.settings import GrantSettings, SourceSettings
from dashboard.sources.source import Source

# They return what is the same for everyone, or nothing about a queue: the methods of `Backend` itself.
NOT_PASSED_ON = {
    *("close", "maintain", "refresh_stats", "event_access", "describe_ambiguity", "describe_storage"),
    *("disambiguate", "includes_queue", "list_words", "named_queues"),
}


def test_each_method_of_the_interface_is_checked_or_closed() -> None:
    """A new method does nothing for someone with grants until it is checked in RestrictedBackend, or listed here."""
    methods = {name for name, _ in inspect.getmembers(Backend, callable) if not name.startswith("_")}
    assert methods - set(vars(RestrictedBackend)) == NOT_PASSED_ON


def test_every_action_needs_a_right() -> None:
    assert {right_for(action).value for action in Action} == {"retry", "delete", "pause"}


def test_it_looks_like_the_library() -> None:
    grants = (GrantSettings(users=("mia",), queues=("mail-*",), allow=("view", "retry")),)
    rights = RightsAssignment(grants).rights_of(Identity(name="mia"))
    source = Source("main", "redis://127.0.0.1:1/0")
    for kind in load_backends(()):
        inner = kind(source, SourceSettings(name="main", url="redis://127.0.0.1:1/0"))
        found = restrict_backend(inner, rights, dict)
        for name in ("name", "title", "states", "capabilities", "job_actions", "queue_actions", "pauses_whole_library"):
            assert getattr(found, name) == getattr(inner, name), name
        assert found.permits(Action.RETRY, "mail-out")
        assert not found.permits(Action.RETRY, "other")
        assert not found.permits(Action.DELETE, "mail-out")
