"""Which jobs a piece of bulk work is about: a preview of them before it starts, and the list of them when it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dashboard.acts.bulk.work import Place, Spec
from dashboard.backends.acting import Pick
from dashboard.backends.base import Backend
from dashboard.collect.search import matching, parse
from dashboard.errors import NotFound
from dashboard.model import Job, JobQuery, QueueStats
from dashboard.sources import metered

BackendOf = Callable[[str, str], Backend]
# (fingerprint, at most so many) -> the jobs of an error group, each with its list; see triage.
MembersOf = Callable[[str, int], Iterable[tuple[Place, Job]]]
SAMPLES = 3
# Rows that a filter looks through for a preview; the work itself looks further.
PREVIEW_ROWS = 5_000
# Jobs that are listed at once, powers of two; as many as keep Redis from others for AIM_S at most.
LEAST_PAGE, FIRST_PAGE, MOST_PAGE = 16, 128, 512
AIM_S = 0.002


@dataclass(frozen=True, slots=True)
class Preview:
    """What bulk work would be about. `exact` False: `matched` of the first `scanned` of `total` jobs fit."""

    matched: int
    exact: bool
    scanned: int
    total: int | None
    samples: tuple[Job, ...]


def preview(spec: Spec, backend_of: BackendOf, members_of: MembersOf, most: int) -> Preview:
    """A look at the jobs, without a list of them. Raises as the backends do. Bounded by PREVIEW_ROWS a place."""
    if spec.fingerprint is not None:
        found = list(members_of(spec.fingerprint, most))
        return Preview(len(found), len(found) < most, len(found), None, tuple(job for _, job in found[:SAMPLES]))
    if spec.picks:
        return Preview(len(spec.picks), exact=True, scanned=len(spec.picks), total=None, samples=())
    matched, scanned, total, exact = 0, 0, 0, True
    samples: list[Job] = []
    for place in spec.places:
        backend = backend_of(place.ref.source, place.ref.backend)
        page = backend.jobs(place.ref, JobQuery(state=place.state, native=place.native, per_page=SAMPLES))
        total += page.total or 0
        exact = exact and page.total is not None
        if spec.q is None:
            matched += page.total or 0
            samples += page.jobs
            continue
        for job, looked in _matches(spec, place, backend, PREVIEW_ROWS):
            scanned = looked
            if job is not None:
                matched += 1
                samples.append(job)
        exact = exact and scanned < PREVIEW_ROWS
    return Preview(min(matched, most), exact, scanned, total, tuple(samples[:SAMPLES]))


@dataclass(frozen=True, slots=True)
class Listed:
    """A job of the work and the place it stands in; `scanned` rows were looked at until then."""

    place: Place
    pick: Pick
    scanned: int


def listed(spec: Spec, backend_of: BackendOf, members_of: MembersOf, most: int) -> Iterator[Listed]:
    """The jobs of the work, each once, `most` of them at most. Raises as the backends do.

    Cost: a round trip or two for each LEAST_PAGE to MOST_PAGE jobs, or for each window of rows where there is a filter.
    """
    if spec.fingerprint is not None:
        for n, (place, job) in enumerate(members_of(spec.fingerprint, most), 1):
            yield Listed(place, Pick(id=job.id, stamp=job.stamp), n)
        return
    if spec.picks:
        yield from (Listed(spec.places[0], pick, n) for n, pick in enumerate(spec.picks, 1))
        return
    scanned = 0
    for place in spec.places:
        backend = backend_of(place.ref.source, place.ref.backend)
        seen: set[str] = set()
        if spec.q is not None:
            for match, looked in _matches(spec, place, backend, most):
                if match is not None and match.id not in seen:
                    seen.add(match.id)
                    yield Listed(place, Pick(id=match.id, stamp=match.stamp), scanned + looked)
            continue
        for picks in _pages(place, backend):
            for pick in picks:
                scanned += 1
                # A list that grows at its head while it is read shows some jobs twice.
                if pick.id not in seen:
                    seen.add(pick.id)
                    yield Listed(place, pick, scanned)
            if len(seen) >= most:
                break


def _pages(place: Place, backend: Backend) -> Iterator[list[Pick]]:
    """The jobs of a place, page by page. A page may have fewer than were asked for, the list ends with an empty one."""
    at, size = 0, FIRST_PAGE
    while True:
        query = JobQuery(state=place.state, native=place.native, page=at // size + 1, per_page=size)
        try:
            with metered() as meter:
                picks = backend.picks(place.ref, query)
        except NotFound:
            if at == 0:
                raise
            return  # a queue that came to its end meanwhile
        if not picks:
            return
        yield picks
        at += size
        if meter.held_s > AIM_S:
            size = max(LEAST_PAGE, size // 2)
        elif meter.held_s < AIM_S / 2 and at % (2 * size) == 0:
            size = min(MOST_PAGE, 2 * size)


def _matches(spec: Spec, place: Place, backend: Backend, rows: int) -> Iterator[tuple[Job | None, int]]:
    ref = place.ref
    queue = QueueStats(source=ref.source, backend=ref.backend, name=ref.name, key=ref.key, shared=ref.shared)
    return matching(parse(spec.q or ""), queue, place.state, backend, rows)
