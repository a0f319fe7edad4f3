"""`queuedeck doctor`: diagnoses the queues, the permissions and the risky settings of each Redis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from ..backends.base import Backend
from ..backends.monitored_sources import open_sources
from ..console import say
from ..errors import BackendUnavailable, QueuedeckError
from ..settings import Settings
from ..sources.source import Source
from ..units import format_count
from . import acl, cluster, libraries, permissions, sentinels
from .findings import DoctorFinding, FindingLevel, exit_status, note_finding


def main(settings: Settings, further: Iterable[tuple[str, list[DoctorFinding]]] = ()) -> int:
    """Print the findings of each source, and further ones, each with its heading. Only reads.

    Returns 0 if all is OK, 1 with warnings, 2 with problems.
    """
    every: list[DoctorFinding] = []
    of_sources = ((f"{source.name} · {source.address}", findings) for source, findings in diagnose_sources(settings))
    for heading, findings in (*of_sources, *further):
        say(heading)
        for finding in findings:
            say(f"  {finding}")
        every.extend(findings)
    counts = Counter(finding.level for finding in every)
    problems, warnings = counts[FindingLevel.PROBLEM], counts[FindingLevel.WARNING]
    say(f"{format_count(problems, 'problem')}, {format_count(warnings, 'warning')}")
    return exit_status(every)


def print_acl(settings: Settings) -> int:
    """Print the ACL SETUSER commands for each server. Returns 0, or 2 if a server cannot be reached. Only reads.

    The commands for a server are for one user: the first creates it, the others grant it more.
    """
    status = 0
    watched = open_sources(settings)
    for name, source in watched.sources.items():
        say(f"# {source.name} · {source.address}")
        try:
            lines = list(_acl_lines(source, watched.backends[name], settings, is_store=source is watched.own))
        except QueuedeckError as exc:
            lines, status = [f"# {exc.message.rstrip('.')}. {exc.hint or ''}".rstrip()], 2
        for line in lines:
            say(line)
        source.close()
    if settings.store_url is not None:
        store = watched.own
        say(f"# store_url · {store.address}")
        try:
            say("# Queuedeck's own data.")
            say(acl.store_line(acl.read_version(store), settings.store_prefix, is_cluster=store.is_cluster))
        except QueuedeckError as exc:
            say(f"# {exc.message}")
            status = 2
        store.close()
    return status


def _acl_lines(source: Source, backends: tuple[Backend, ...], settings: Settings, *, is_store: bool) -> Iterator[str]:
    version = acl.read_version(source)
    if source.is_cluster:
        yield "# Run each command on every node, replicas too: nodes do not share their users."
    if version < (7, 0):
        yield "# Redis before 7 cannot grant read and write access separately: each command is granted on all keys."
    yield "# Read-only access to everything."
    yield acl.reading_line(version, is_cluster=source.is_cluster)
    if is_store:
        yield "# Or, instead, with Queuedeck's own data as well: for alerts, audit log, bulk operations and undo."
        yield acl.publishing_line(version, settings.store_prefix, is_cluster=source.is_cluster)
    if settings.read_only:
        return
    for backend in backends:
        refs, _ = libraries.find_queues(backend)
        if not refs:
            continue
        listening = acl.subscribe_grants(backend)
        if listening is not None:
            yield f"# Receive {backend.title} events."
            yield listening
        yield f"# Act on {backend.title} jobs, including undo."
        yield acl.acting_line(backend, refs, version)


def diagnose_sources(settings: Settings) -> Iterator[tuple[Source, list[DoctorFinding]]]:
    """Yield (source, its findings) for each source in the order of the settings, and for a separate store."""
    watched = open_sources(settings)
    for name, source in watched.sources.items():
        is_store = source is watched.own
        yield (
            source,
            examine_source(source, watched.backends[name], is_store=is_store, settings_digest=watched.settings_digest),
        )
        source.close()
    if settings.store_url is not None:
        store = watched.own
        yield store, examine_source(store, (), is_store=True, settings_digest=watched.settings_digest)
        store.close()


def examine_source(
    source: Source, backends: tuple[Backend, ...], *, is_store: bool, settings_digest: str = ""
) -> list[DoctorFinding]:
    """Return all findings about one Redis; a server that cannot be reached is one finding."""
    findings = sentinels.examine_sentinels(source)
    try:
        findings += cluster.examine_servers(source)
        if backends:
            findings += permissions.examine_permissions(source)
        if is_store:
            findings += permissions.examine_store(source, settings_digest)
        found = [finding for backend in backends for finding in libraries.examine_library(backend)]
    except BackendUnavailable as exc:
        return [*findings, permissions.unreachable_finding(exc)]
    findings += found
    if backends and all(finding.level is FindingLevel.NOTE for finding in found):
        findings.append(
            note_finding("No queues found.", "Is this the Redis and the database number that your workers use?")
        )
    return findings
