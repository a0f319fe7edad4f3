"""The sources and backends that the settings name, made once per process."""

from __future__ import annotations

from dataclasses import dataclass

from dashboard.backends import registry
from dashboard.backends.base import Backend
from dashboard.errors import NotFound
from dashboard.settings import Settings
from dashboard.sources import Source


@dataclass(frozen=True, slots=True)
class Watch:
    """What this Queuedeck looks at: sources by name, and the backends of each in the order of the registry."""

    sources: dict[str, Source]
    backends: dict[str, tuple[Backend, ...]]
    own: Source | None = None  # where Queuedeck's own keys are

    def close(self) -> None:
        """Close all connections and what the backends run."""
        for backend in (backend for group in self.backends.values() for backend in group):
            backend.close()
        for source in {id(source): source for source in (*self.sources.values(), self.own) if source}.values():
            source.close()

    def backend(self, source: str, name: str) -> Backend:
        """The backend `name` on `source`. Raises NotFound."""
        for backend in self.backends.get(source, ()):
            if backend.name == name:
                return backend
        if source not in self.sources:
            known = ", ".join(self.sources)
            raise NotFound(f"There is no source {source!r}.", hint=f"The sources are: {known}")
        raise NotFound(f"{name!r} is not a library that is watched on {source!r}.")

    @property
    def titles(self) -> dict[str, str]:
        """The libraries' names for people, by backend name."""
        return {backend.name: backend.title for backends in self.backends.values() for backend in backends}


def watch(settings: Settings) -> Watch:
    """The Watch that `settings` describe; opens no connection. Raises ConfigurationError for an unknown library."""
    sources: dict[str, Source] = {}
    backends: dict[str, tuple[Backend, ...]] = {}
    for entry in settings.effective_sources():
        source = Source(entry.name, entry.url)
        sources[entry.name] = source
        backends[entry.name] = tuple(kind(source, entry) for kind in registry.wanted(entry.backends))
    own = Source("store", settings.store_url) if settings.store_url else next(iter(sources.values()))
    for backend in (backend for group in backends.values() for backend in group):
        backend.own = own
    return Watch(sources, backends, own)
