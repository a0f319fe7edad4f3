"""The available backends: one line for each of ours, the entry point group `queuedeck.backends` for third parties."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from ..errors import ConfigurationError
from .base import Backend

_OURS = {
    "bullmq": ".bullmq.backend:BullMQ",
    "celery": ".celery.backend:Celery",
    "rq": ".rq.backend:RQ",
    "sidekiq": ".sidekiq.backend:Sidekiq",
}
GROUP = "queuedeck.backends"


def backend_names() -> tuple[str, ...]:
    """The names of all backends, ours first, each group in alphabetical order."""
    return (*sorted(_OURS), *sorted(_third_party_backends()))


@cache
def load_backend(name: str) -> type[Backend]:
    """The class of a backend, imported at first use. Raises ConfigurationError if unknown or unusable."""
    if name in _OURS:
        module, _, attribute = _OURS[name].partition(":")
        backend: type[Backend] = getattr(import_module(module, __package__), attribute)
        return backend
    entry = _third_party_backends().get(name)
    if entry is None:
        raise ConfigurationError(f"unknown library {name!r}; known libraries: {', '.join(backend_names())}")
    return _load_third_party(entry)


def _load_third_party(entry: EntryPoint) -> type[Backend]:
    origin = f"the backend {entry.name!r} ({entry.value})"
    try:
        backend = entry.load()
    except Exception as exc:
        raise ConfigurationError(f"{origin} cannot be imported: {type(exc).__name__}: {exc}") from exc
    if not (isinstance(backend, type) and issubclass(backend, Backend)):
        raise ConfigurationError(f"{origin} is not a subclass of dashboard.backends.base.Backend")
    missing = [name for name in ("name", "title", "states", "capabilities") if not hasattr(backend, name)]
    missing += sorted(getattr(backend, "__abstractmethods__", ()))
    if missing:
        raise ConfigurationError(f"{origin} lacks {', '.join(missing)}")
    if backend.name != entry.name:
        raise ConfigurationError(f"{origin} calls itself {backend.name!r}; both names must be the same")
    return backend


def load_backends(selected: Iterable[str]) -> tuple[type[Backend], ...]:
    """The classes of the `selected` names, or of all when none is selected."""
    return tuple(load_backend(name) for name in (tuple(selected) or backend_names()))


@cache
def _third_party_backends() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        if entry.name in _OURS or entry.name in found:
            raise ConfigurationError(f"two backends are named {entry.name!r}; one of them is {entry.value}")
        found[entry.name] = entry
    return found
