"""`queuedeck doctor`: what is found in each Redis, what is not permitted there, and what is risky."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from dashboard.backends.base import Backend
from dashboard.collect.watch import watch
from dashboard.doctor import access, libraries, server
from dashboard.doctor.findings import Finding, Level, exit_status, note
from dashboard.errors import BackendUnavailable
from dashboard.output import say
from dashboard.settings import Settings
from dashboard.sources import Source


def main(settings: Settings) -> int:
    """Print what is found, source by source; 0 fine, 1 with warnings, 2 with problems. Reads only."""
    every: list[Finding] = []
    for source, findings in diagnose(settings):
        say(f"{source.name} · {source.address}")
        for finding in findings:
            say(f"  {finding}")
        every.extend(findings)
    counts = Counter(finding.level for finding in every)
    say(f"{_count(counts[Level.PROBLEM], 'problem')}, {_count(counts[Level.WARNING], 'warning')}")
    return exit_status(every)


def diagnose(settings: Settings) -> Iterator[tuple[Source, list[Finding]]]:
    """(source, its findings) for each source in the order of the settings, and for the store where it is another."""
    watched = watch(settings)
    for number, (name, source) in enumerate(watched.sources.items()):
        is_store = number == 0 and settings.store_url is None
        yield source, examine(source, watched.backends[name], is_store=is_store)
        source.close()
    if settings.store_url is not None:
        store = Source("store", settings.store_url)
        yield store, examine(store, (), is_store=True)
        store.close()


def examine(source: Source, backends: tuple[Backend, ...], *, is_store: bool) -> list[Finding]:
    """Everything about one Redis; a server that cannot be asked is one finding."""
    findings: list[Finding] = []
    try:
        findings += server.examine(source)
        if backends:
            findings += access.examine(source)
        if is_store:
            findings += access.examine_store(source)
        found = [finding for backend in backends for finding in libraries.examine(backend)]
    except BackendUnavailable as exc:
        return [*findings, access.unreachable(exc)]
    findings += found
    if backends and all(finding.level is Level.NOTE for finding in found):
        findings.append(note("No queues here yet.", "Is this the Redis, and the database number, of your workers?"))
    return findings


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
