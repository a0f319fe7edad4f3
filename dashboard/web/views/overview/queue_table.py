"""The queue table: the rows that a URL asks for, their order and their page. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ....model import QueueStats, State, states_at_least
from ....sampling.recent_history import QueueHistory, known_sum
from ..problems.problem import Problem, ProblemKind, ProblemLevel, level_of
from .overview_data import OverviewData

PER_PAGE = 50
MAX_TEXT = 200
MAX_PAGE = 1_000_000
GROUPS = ("library", "source")
HEAT = "heat"


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One queue with its history and problems."""

    queue: QueueStats
    history: QueueHistory | None
    problems: tuple[Problem, ...]

    @property
    def error_level(self) -> ProblemLevel:
        """The level of its error ratio."""
        return level_of(self.problems, ProblemKind.FAILING)

    @property
    def level(self) -> ProblemLevel:
        """The level of its worst problem."""
        return self.problems[0].level if self.problems else ProblemLevel.OK


def _state_rank(queue: QueueStats, problems: Sequence[Problem]) -> float:
    return (problems[0].level if problems else ProblemLevel.OK) + len(problems) / 10 + bool(queue.paused) / 2


# Sort keys of the numeric columns. None sorts last in both directions. First click: text ascending, numbers descending.
_FIGURES: dict[str, Callable[[QueueStats], float | None]] = {
    "waiting": lambda queue: queue.depth,
    "oldest": lambda queue: queue.latency_s,
    "active": lambda queue: queue.counts.active,
    "rate": lambda queue: queue.throughput_per_min,
    "errors": lambda queue: queue.error_ratio,
    "dead": lambda queue: queue.counts.dead,
}
_SORTS = frozenset({"name", "state", "trouble", *_FIGURES})
ASCENDING_FIRST = frozenset({"name"})


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTableQuery:
    """What the URL asks for. Unknown values fall back to the default."""

    q: str = ""
    library: str = ""
    source: str = ""
    group: str = ""
    sort: str = "trouble"
    up: bool = False
    page: int = 1
    view: str = ""

    @classmethod
    def of(cls, args: Mapping[str, str]) -> QueueTableQuery:
        """The query in the arguments of a URL."""
        sort = args.get("sort", "")
        sort = sort if sort in _SORTS else "trouble"
        direction = args.get("dir", "")
        page = args.get("page", "")
        return cls(
            q=args.get("q", "").strip()[:MAX_TEXT],
            library=args.get("library", "")[:MAX_TEXT],
            source=args.get("source", "")[:MAX_TEXT],
            group=args.get("group", "") if args.get("group", "") in GROUPS else "",
            sort=sort,
            up=direction == "up" if direction in ("up", "down") else sort in ASCENDING_FIRST,
            page=max(1, min(MAX_PAGE, int(page))) if page.isascii() and page.isdigit() and 0 < len(page) < 9 else 1,
            view=HEAT if args.get("view") == HEAT else "",
        )

    def args(self, **changes: object) -> dict[str, str | int]:
        """The URL arguments of this query with `changes`. Defaults are omitted; any change resets the page to 1."""
        changed = replace(self, **{"page": 1, **changes})  # type: ignore[arg-type]
        answer: dict[str, str | int] = {
            name: value for name in ("q", "library", "source", "group") if (value := getattr(changed, name))
        }
        if changed.sort != "trouble":
            answer["sort"] = changed.sort
            if changed.up != (changed.sort in ASCENDING_FIRST):
                answer["dir"] = "up" if changed.up else "down"
        if changed.page > 1:
            answer["page"] = changed.page
        if changed.view:
            answer["view"] = changed.view
        return answer

    def sorted_by(self, column: str) -> dict[str, str | int]:
        """The URL arguments of a column header: sort by the column, or reverse the order if already sorted by it."""
        return self.args(sort=column, up=not self.up if self.sort == column else column in ASCENDING_FIRST)

    @property
    def filters(self) -> QueueTableQuery:
        """This query with its filters alone, as the wall board shows it: worst first, on one page."""
        return QueueTableQuery(q=self.q, library=self.library, source=self.source)

    @property
    def key(self) -> tuple[str | bool | int, ...]:
        """What identifies the query in a cache."""
        return (self.q, self.library, self.source, self.group, self.sort, self.up, self.page, self.view)

    @property
    def narrowed(self) -> bool:
        """Whether a filter is set."""
        return bool(self.q or self.library or self.source)


@dataclass(frozen=True, slots=True)
class QueueGroup:
    """Rows under one heading; `title` is "" when the table is not grouped. The sums cover all pages."""

    title: str
    rows: tuple[QueueRow, ...]
    queues: int
    depth: float | None
    dead: float | None
    at_least: tuple[State, ...]


@dataclass(frozen=True, slots=True)
class QueueTable:
    """One page of the queue table."""

    groups: tuple[QueueGroup, ...]
    page: int
    pages: int
    first: int  # number of the first row shown, from 1
    last: int
    total: int  # rows that match
    most_waiting: int  # scale of the bars: the largest depth of all queues


def build_table(overview: OverviewData, query: QueueTableQuery) -> QueueTable:
    """The page of the table that `query` asks for; the last page for any beyond it. Only its rows are built."""
    queues = overview.queues
    found = _sort_queues(overview, query)
    if query.group:
        titles = [_group_of(queue, query.group) for queue in queues]
        found.sort(key=titles.__getitem__)  # stable: keeps the order within a group
    pages = max(1, -(-len(found) // PER_PAGE))
    page = min(query.page, pages)
    start = (page - 1) * PER_PAGE
    shown = [
        QueueRow(queues[n], overview.history.history_of(queues[n]), overview.problems_by_queue[n])
        for n in found[start : start + PER_PAGE]
    ]
    return QueueTable(
        groups=tuple(_build_groups(shown, [queues[n] for n in found] if query.group else (), len(found), query.group)),
        page=page,
        pages=pages,
        first=start + 1 if shown else 0,
        last=start + len(shown),
        total=len(found),
        most_waiting=overview.most_waiting,
    )


def _sort_queues(overview: OverviewData, query: QueueTableQuery) -> list[int]:
    """The matching queues in order, as indexes into the snapshot."""
    if query.sort == "trouble":
        found = filter_queues(overview, overview.by_severity, query)
        return found[::-1] if query.up else found
    found = filter_queues(overview, overview.by_name, query)
    if query.sort == "name":
        # Queues of the same name stay in the order of their libraries, in both directions.
        return found if query.up else sorted(found, key=overview.names.__getitem__, reverse=True)
    if query.sort == "state":
        figures: list[float | None] = [
            _state_rank(queue, problems)
            for queue, problems in zip(overview.queues, overview.problems_by_queue, strict=True)
        ]
    else:
        figures = list(map(_FIGURES[query.sort], overview.queues))
    known = [n for n in found if figures[n] is not None]
    known.sort(key=lambda n: figures[n] or 0, reverse=not query.up)
    return known + [n for n in found if figures[n] is None]


def filter_queues(overview: OverviewData, ordered: Sequence[int], query: QueueTableQuery) -> list[int]:
    """The queues of `ordered` that match the filters, in the same order; always a new list."""
    if not query.narrowed:
        return list(ordered)
    text, queues, names = query.q.casefold(), overview.queues, overview.names
    return [
        n
        for n in ordered
        if (not query.library or queues[n].backend == query.library)
        and (not query.source or queues[n].source == query.source)
        and text in names[n]
    ]


def _group_of(queue: QueueStats, group: str) -> str:
    return queue.backend if group == "library" else queue.source


def _build_groups(shown: list[QueueRow], queues: Sequence[QueueStats], total: int, group: str) -> Iterable[QueueGroup]:
    """The rows of the page under their headings; the sums cover `queues`."""
    if not group:
        yield QueueGroup("", tuple(shown), total, None, None, ())
        return
    for title in dict.fromkeys(_group_of(row.queue, group) for row in shown):
        members = [queue for queue in queues if _group_of(queue, group) == title]
        yield QueueGroup(
            title,
            tuple(row for row in shown if _group_of(row.queue, group) == title),
            len(members),
            known_sum(queue.depth for queue in members),
            known_sum(queue.counts.dead for queue in members),
            states_at_least(members),
        )
