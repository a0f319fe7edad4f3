"""The queue table: which rows a URL asks for, in which order, on which page. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from dashboard.collect.history import History, QueueHistory, known_sum
from dashboard.model import QueueStats, State, states_at_least
from dashboard.web.trouble import Level, Trouble, dead_growth, of_queue

PER_PAGE = 50
MAX_TEXT = 200
MAX_PAGE = 1_000_000
GROUPS = ("library", "source")


@dataclass(frozen=True, slots=True)
class Row:
    """One queue with what the table shows beside its figures."""

    queue: QueueStats
    history: QueueHistory | None
    troubles: tuple[Trouble, ...]

    @property
    def level(self) -> Level:
        """The worst of its troubles."""
        return self.troubles[0].level if self.troubles else Level.OK


# What a column sorts by; a None sorts last in both directions. Text goes up first, figures down.
_KEYS: dict[str, Callable[[Row], float | str | None]] = {
    "name": lambda row: row.queue.name.casefold(),
    "waiting": lambda row: row.queue.depth,
    "oldest": lambda row: row.queue.latency_s,
    "active": lambda row: row.queue.counts.active,
    "rate": lambda row: row.queue.throughput_per_min,
    "errors": lambda row: row.queue.error_ratio,
    "dead": lambda row: row.queue.counts.dead,
    "state": lambda row: row.level + len(row.troubles) / 10 + bool(row.queue.paused) / 2,
    "trouble": lambda _row: None,
}
ASCENDING_FIRST = frozenset({"name"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TableQuery:
    """What the URL asks for. Words that mean nothing here fall back to the default."""

    q: str = ""
    library: str = ""
    source: str = ""
    group: str = ""
    sort: str = "trouble"
    up: bool = False
    page: int = 1

    @classmethod
    def of(cls, args: Mapping[str, str]) -> TableQuery:
        """The query in a URL's arguments."""
        sort = args.get("sort", "")
        sort = sort if sort in _KEYS else "trouble"
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
        )

    def args(self, **changes: object) -> dict[str, str | int]:
        """The URL arguments of this query with `changes`; defaults are left out, and any change goes to page 1."""
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
        return answer

    def sorted_by(self, column: str) -> dict[str, str | int]:
        """The URL arguments of a click on a column's head: sort by it, the other way round the second time."""
        return self.args(sort=column, up=not self.up if self.sort == column else column in ASCENDING_FIRST)

    @property
    def key(self) -> tuple[str | bool | int, ...]:
        """What tells two queries apart."""
        return (self.q, self.library, self.source, self.group, self.sort, self.up, self.page)

    @property
    def narrowed(self) -> bool:
        """Whether it leaves queues out."""
        return bool(self.q or self.library or self.source)


@dataclass(frozen=True, slots=True)
class Group:
    """Rows under one heading; `title` is "" when the table is not grouped. The sums are over all pages."""

    title: str
    rows: tuple[Row, ...]
    queues: int
    depth: float | None
    dead: float | None
    at_least: tuple[State, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """One page of the queue table."""

    groups: tuple[Group, ...]
    page: int
    pages: int
    first: int  # number of the first row shown, from 1
    last: int
    total: int  # rows that match
    of: int  # queues there are
    most_waiting: int  # scale of the bars: the largest of all queues


def table(queues: Iterable[QueueStats], history: History, query: TableQuery) -> Table:
    """The page of the table that `query` asks for; a page beyond the last is the last."""
    everything = tuple(queues)
    text = query.q.casefold()
    rows = [
        Row(queue, history.of(queue), tuple(of_queue(queue, dead_growth(queue, history))))
        for queue in everything
        if (not query.library or queue.backend == query.library)
        and (not query.source or queue.source == query.source)
        and text in queue.name.casefold()
    ]
    rows = _ordered(rows, query)
    if query.group:
        rows.sort(key=lambda row: _group_of(row, query.group))  # stable: the order within a group stays
    pages = max(1, -(-len(rows) // PER_PAGE))
    page = min(query.page, pages)
    start = (page - 1) * PER_PAGE
    shown = rows[start : start + PER_PAGE]
    return Table(
        groups=tuple(_groups(shown, rows, query.group)),
        page=page,
        pages=pages,
        first=start + 1 if shown else 0,
        last=start + len(shown),
        total=len(rows),
        of=len(everything),
        most_waiting=max((queue.depth or 0 for queue in everything), default=0),
    )


def _ordered(rows: list[Row], query: TableQuery) -> list[Row]:
    by_name = sorted(rows, key=lambda row: (row.queue.name.casefold(), row.queue.backend, row.queue.source))
    if query.sort == "trouble":
        ordered = sorted(by_name, key=_trouble_key)
        return ordered[::-1] if query.up else ordered
    key = _KEYS[query.sort]
    known = [row for row in by_name if key(row) is not None]
    unknown = [row for row in by_name if key(row) is None]
    known.sort(key=lambda row: key(row) or 0 if query.sort != "name" else str(key(row)), reverse=not query.up)
    return known + unknown


def _trouble_key(row: Row) -> tuple[int, float, int]:
    """Worst first; among the healthy the fullest first."""
    weight = row.troubles[0].weight if row.troubles else 0.0
    return (-row.level, -weight, -(row.queue.depth or 0))


def _group_of(row: Row, group: str) -> str:
    return row.queue.backend if group == "library" else row.queue.source


def _groups(shown: list[Row], rows: list[Row], group: str) -> Iterable[Group]:
    if not group:
        yield Group("", tuple(shown), len(rows), None, None, ())
        return
    for title in dict.fromkeys(_group_of(row, group) for row in shown):
        members = [row.queue for row in rows if _group_of(row, group) == title]
        yield Group(
            title,
            tuple(row for row in shown if _group_of(row, group) == title),
            len(members),
            known_sum(queue.depth for queue in members),
            known_sum(queue.counts.dead for queue in members),
            states_at_least(members),
        )
