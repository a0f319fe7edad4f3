"""The sources and backends in the settings, created once per process."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from ..errors import ConfigurationError, NotFound
from ..redact import configure
from ..settings import RedactionSettings, Settings, SourceSettings
from ..settings.known_names import KnownNames, check_scopes
from ..settings.redaction import rules_of
from ..sources.opening import open_source
from ..sources.source import Source
from . import registry
from .base import Backend


@dataclass(frozen=True, slots=True)
class MonitoredSources:
    """What this process monitors: sources by name, and the backends of each in the order of the registry."""

    sources: dict[str, Source]
    backends: dict[str, tuple[Backend, ...]]
    own: Source  # where Queuedeck's own keys are
    settings_digest: str = ""  # see `digest_settings`

    def close(self) -> None:
        """Close all connections and backends."""
        for backend in (backend for group in self.backends.values() for backend in group):
            backend.close()
        for source in {id(source): source for source in (*self.sources.values(), self.own)}.values():
            source.close()

    def backend(self, source: str, name: str) -> Backend:
        """The backend `name` on `source`. Raises NotFound."""
        for backend in self.backends.get(source, ()):
            if backend.name == name:
                return backend
        if source not in self.sources:
            known = ", ".join(self.sources)
            raise NotFound(f"There is no source {source!r}.", hint=f"Known sources: {known}")
        raise NotFound(f"The library {name!r} is not monitored on {source!r}.")

    def is_watched(self, source: str | None, backend: str | None) -> bool:
        """Whether this dashboard watches that library on that source, so that it can link to its queues."""
        return any(each.name == backend for each in self.backends.get(source or "", ()))

    def address_of(self, source: str) -> str | None:
        """The address of the source of that name; None without one."""
        found = self.sources.get(source)
        return found.address if found else None

    def now_s(self, source: str | None = None) -> float:
        """Seconds since 1970 by the clock of that source, or by that of Queuedeck's own store; see Source.now_s."""
        return (self.own if source is None else self.sources.get(source, self.own)).now_s()

    @property
    def titles(self) -> LibraryTitles:
        """The libraries' display names, by backend name."""
        return LibraryTitles(
            {backend.name: backend.title for backends in self.backends.values() for backend in backends}
        )


class LibraryTitles(dict[str, str]):
    """Display names of libraries; a library that is not monitored here has its name in the settings."""

    def __missing__(self, name: str) -> str:
        return name


def digest_settings(settings: Settings) -> str:
    """Return a digest that is equal for processes with the same sources, libraries, queues, rules and redaction.

    It contains no secrets: of a URL only the server and the database count.
    """
    sources = [
        {
            **msgspec.to_builtins(source),
            "backends": sorted(source.backends or registry.backend_names()),
            **{name: _server_address(getattr(source, name)) for name in ("url", "broker_url", "result_url")},
        }
        for source in settings.effective_sources()
    ]
    parts: list[Any] = [sources, settings.rules, settings.dlq_queues]
    if settings.redaction != RedactionSettings():
        parts.append(settings.redaction)
    text = msgspec.json.encode(parts, order="sorted")
    return hashlib.sha256(text).hexdigest()[:16]


def _server_address(url: str | None) -> str | None:
    """Return the server and database of a URL, without user, password and options."""
    if url is None:
        return None
    parts = urlsplit(url)
    options = {name: value for name, value in parse_qsl(parts.query) if name == "db"}
    place = parts.netloc.rpartition("@")[2].lower()
    database = options.get("db") or (parts.path.strip("/") or "0" if parts.scheme != "unix" else "0")
    return f"{place}{parts.path if parts.scheme == 'unix' else ''}/{database}"


def known_names(settings: Settings) -> KnownNames:
    """The sources of these settings, and all libraries that are installed. Raises ConfigurationError."""
    return KnownNames(tuple(source.name for source in settings.effective_sources()), registry.backend_names())


def _load_backends(entry: SourceSettings) -> tuple[type[Backend], ...]:
    """The libraries to look for on a source: on a cluster, those that run on one. Raises ConfigurationError."""
    found = registry.load_backends(entry.backends)
    if not entry.is_cluster:
        return found
    able = tuple(kind for kind in found if kind.runs_on_cluster)
    unable = next((kind for kind in found if not kind.runs_on_cluster), None)
    if unable is not None and entry.backends:
        names = ", ".join(kind.name for kind in registry.load_backends(()) if kind.runs_on_cluster)
        raise ConfigurationError(
            f"sources: source {entry.name!r}: backends: {unable.title} does not run on Redis Cluster; expected {names}"
        )
    return able


def open_sources(settings: Settings) -> MonitoredSources:
    """Create the sources and backends in `settings`, without connecting, and let the process mask by their `redaction`.

    Raises ConfigurationError for an unknown library, for one that does not run on a cluster but is selected there, if a
    queue entry or an SLO names an unknown source or library, and if the process masks by another redaction already.
    """
    check_scopes(settings, known_names(settings))
    sources: dict[str, Source] = {}
    backends: dict[str, tuple[Backend, ...]] = {}
    for entry in settings.effective_sources():
        source = open_source(entry.name, entry.redis_url, settings.store_prefix)
        sources[entry.name] = source
        backends[entry.name] = tuple(kind(source, entry) for kind in _load_backends(entry))
    own = (
        open_source("store", settings.store_url, settings.store_prefix)
        if settings.store_url
        else next(iter(sources.values()))
    )
    for backend in (backend for group in backends.values() for backend in group):
        backend.own_source = own
    configure(rules_of(settings.redaction))
    return MonitoredSources(sources, backends, own, digest_settings(settings))
