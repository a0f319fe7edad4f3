"""The context of one app for its views: its settings, the services of the process, and what pages cache."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass

from flask import current_app, g, has_app_context

from ..alerts.runtime import check_alert_settings
from ..backends.monitored_sources import open_sources
from ..errors import NotFound, QueuedeckError
from ..model import QueueStats, Snapshot
from ..redact import masked_logger
from ..restricted.services import restrict_services
from ..rights.assignment import RightsAssignment
from ..rights.rights import Rights
from ..sampling.snapshot_reader import CurrentSnapshot
from ..services import Services, build_services
from ..settings import Settings
from ..units import format_percent
from .access.oidc_setup import open_provider
from .access.token_store import TokenStore
from .page_caches import PageCaches
from .views.problems.problem_list import AlertFacts
from .views.queues.context import QueueContext, build_context

log = masked_logger(__name__)

EXTENSION = "queuedeck"
MAX_VIEWS = 32  # each keeps some MB once its pages have been opened


@dataclass(frozen=True, slots=True)
class View:
    """The services and caches of a process for everyone, or for those who have the same rights."""

    services: Services
    caches: PageCaches


class RestrictedViews:
    """The views of those who may see only some queues, by their rights: at most MAX_VIEWS. Thread-safe."""

    def __init__(self, whole: Services) -> None:
        self._whole = whole
        self._views: OrderedDict[str, View] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._views)

    def of(self, rights: Rights) -> View:
        """The view for these rights; those that were not used for longest are dropped. Cost: none."""
        with self._lock:
            found = self._views.get(rights.digest)
            if found is None:
                services = restrict_services(self._whole, rights)
                found = self._views[rights.digest] = View(services, PageCaches(services))
            self._views.move_to_end(rights.digest)
            while len(self._views) > MAX_VIEWS:
                self._views.popitem(last=False)
            return found


@dataclass(frozen=True, slots=True)
class _Process:
    """What must not be shared over a fork."""

    pid: int
    whole: View
    token_store: TokenStore | None
    restricted: RestrictedViews


class AppContext:
    """The context of one app. Opens no connection and starts no thread before its first use in a process."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigurationError."""
        self.settings = settings
        self.rights = RightsAssignment(settings.grants)
        self.oidc_provider = open_provider(settings)
        open_sources(settings)  # a wrong setting must fail at start, not at the first request
        check_alert_settings(settings)
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._starting: int | None = None  # id of the process in which the start was begun
        self._stopped = False

    @property
    def services(self) -> Services:
        """The services of this process, started at their first use; in a request, as its user may see them."""
        return self._current_view().services

    @property
    def caches(self) -> PageCaches:
        """The caches of this process; in a request, for those who have the same rights as its user."""
        return self._current_view().caches

    def _current_view(self) -> View:
        process = self._current_process()
        rights: Rights | None = g.get("rights") if has_app_context() else None
        return process.whole if rights is None or not rights.is_restricted else process.restricted.of(rights)

    @property
    def token_store(self) -> TokenStore | None:
        """The API tokens that were created on the page; None without a secret_key."""
        return self._current_process().token_store

    def find_queue_stats(self, source: str, backend: str, name: str) -> QueueStats:
        """The queue of that name in the newest snapshot. Raises NotFound."""
        self.services.sources.backend(source, backend)
        snapshot = self.services.snapshots.current().snapshot
        found = find_queue(snapshot, source, backend, name) if snapshot else None
        if found is None:
            raise NotFound("Queue not found.", hint=_where_it_may_be(snapshot, source))
        return found

    def start(self) -> None:
        """Take part in sampling from now on (with `checker = "auto"`), instead of from the first reading on."""
        self._current_process()

    def start_in_background(self) -> None:
        """Call start on a separate thread, for a request that must not wait; does nothing if already begun."""
        if self._starting == os.getpid():
            return
        self._starting, self._stopped = os.getpid(), False  # a process this one was forked from may have stopped
        threading.Thread(target=self._start_or_log, name="queuedeck-start", daemon=True).start()

    def _start_or_log(self) -> None:
        try:
            with self._lock:
                if not self._stopped:  # since the start was begun
                    self._start_once()
        except QueuedeckError as exc:
            log.warning("sampling cannot start: %s", exc.message)

    def stop(self) -> None:
        """Stop sampling and close all connections of this process. A start in the background that has not happened yet
        never will."""
        with self._lock:
            process, self._process = self._process, None
            self._stopped = True
        if process is not None and process.pid == os.getpid():
            process.whole.services.stop()

    def _current_process(self) -> _Process:
        process = self._process
        if process is not None and process.pid == os.getpid():
            return process
        with self._lock:
            return self._start_once()

    def _start_once(self) -> _Process:
        if self._process is None or self._process.pid != os.getpid():
            self._process = _start_process(self.settings)
        return self._process


def _start_process(settings: Settings) -> _Process:
    checks = settings.checker == "auto"
    services = build_services(settings, checks=checks)
    services.start(runs_bulk=checks and not settings.read_only)
    tokens = TokenStore(services.store, settings) if settings.secret_key is not None else None
    return _Process(os.getpid(), View(services, PageCaches(services)), tokens, RestrictedViews(services))


def find_queue(snapshot: Snapshot, source: str, backend: str, name: str) -> QueueStats | None:
    """The queue named `name`, or `<prefix>:<name>` where several prefixes are in use; None if there is none."""
    found = snapshot.find(source, backend, name)
    if found is not None:
        return found
    for queue in snapshot.queues:
        if queue.key == name and queue.backend == backend and queue.source == source:
            return queue
    return None


def _where_it_may_be(snapshot: Snapshot | None, source: str) -> str:
    found = next((one for one in snapshot.sources if one.name == source), None) if snapshot else None
    if found is not None and found.reachable and not found.discovered:
        if found.problems:
            return f"Some queues of this Redis cannot be read. {found.problems[0]}"
        done = f", {format_percent(found.search_progress)} done" if found.search_progress else ""
        return f"Still scanning this Redis for queues{done}; reload in a moment."
    return "It may have been deleted. New queues appear within a few seconds."


def app_context() -> AppContext:
    """The AppContext of the app that serves the current request."""
    found: AppContext = current_app.extensions[EXTENSION]
    return found


def app_services() -> Services:
    """The services of the app that serves the current request."""
    return app_context().services


def read_context(current: CurrentSnapshot, queue: QueueStats, facts: AlertFacts) -> QueueContext:
    """What surrounds a queue of the sample: who owns it, what watches and silences it, its errors. Cost: none."""
    services = app_services()
    return build_context(
        queue,
        current.snapshot.queues if current.snapshot else (),
        services.queue_directory.find(queue.source, queue.backend, queue.name),
        facts,
        services.dead_letter_service.cached_groups(),
    )
