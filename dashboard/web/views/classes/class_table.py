"""The rows of the class list that a URL asks for, their order and their page. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from ....errors import Unsupported
from ....history.classes.ranking import ClassRanking, ClassRow, rank_of
from ....history.classes.windows import CLASS_RANGES, DEFAULT_CLASS_RANGE

PER_PAGE = 50
MAX_TEXT = 200
MAX_PAGE = 1_000_000
BY_CLASS = "class"
ALL_QUEUES = "*"  # the name of the entry for all queues of a library
# Sort keys of the columns of numbers; None sorts last in both directions.
_FIGURES: Mapping[str, Callable[[ClassRow], float | None]] = {
    "rate": lambda row: row.figures.per_min,
    "failed": lambda row: row.figures.failed,
    "errors": lambda row: row.figures.error_ratio,
    "p50": lambda row: row.figures.p50_s,
    "p95": lambda row: row.figures.p95_s,
    "trend": lambda row: row.change.slower_ratio,
    "since": lambda row: row.since_change.slower_ratio,
    "share": lambda row: row.runtime_share,
}
REGRESSIONS = "regressions"
SORTS = (REGRESSIONS, "name", *_FIGURES)
ASCENDING_FIRST = frozenset({"name"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassQuery:
    """What the URL asks for. `since_s`: a moment in seconds since 1970 to compare with."""

    range_name: str = DEFAULT_CLASS_RANGE
    since_s: float | None = None
    q: str = ""
    library: str = ""
    source: str = ""
    queue: str = ""
    group: str = ""
    sort: str = REGRESSIONS
    up: bool = False
    page: int = 1

    @classmethod
    def of(cls, args: Mapping[str, str], since_s: float | None, now_s: float) -> ClassQuery:
        """The query in the arguments of a URL; unknown orders and pages are the default.

        A moment in the future means now, one before 1970 its beginning. Raises Unsupported for an unknown range.
        """
        range_name, sort = args.get("range") or DEFAULT_CLASS_RANGE, args.get("sort", "")
        if range_name not in CLASS_RANGES:
            raise Unsupported(f"range={range_name[:20]!r}: expected one of {', '.join(CLASS_RANGES)}.")
        sort = sort if sort in SORTS else REGRESSIONS
        direction, page = args.get("dir", ""), args.get("page", "")
        return cls(
            range_name=range_name,
            since_s=None if since_s is None else min(max(0.0, since_s), now_s),
            q=args.get("q", "").strip()[:MAX_TEXT],
            library=(args.get("library") or args.get("backend") or "")[:MAX_TEXT],
            source=args.get("source", "")[:MAX_TEXT],
            queue=args.get("queue", ""),
            group=BY_CLASS if args.get("group") == BY_CLASS else "",
            sort=sort,
            up=direction == "up" if direction in ("up", "down") else sort in ASCENDING_FIRST,
            page=max(1, min(MAX_PAGE, int(page))) if page.isascii() and page.isdigit() and len(page) < 9 else 1,
        )

    def args(self, **changes: object) -> dict[str, str | int]:
        """The URL arguments of this query with `changes`. Defaults are omitted; any change resets the page to 1."""
        changed = replace(self, **{"page": 1, **changes})  # type: ignore[arg-type]
        found: dict[str, str | int] = {
            name: value for name in ("q", "library", "source", "queue", "group") if (value := getattr(changed, name))
        }
        if changed.range_name != DEFAULT_CLASS_RANGE:
            found["range"] = changed.range_name
        if changed.since_s is not None:
            found["since"] = f"{changed.since_s:.0f}"
        if changed.sort != REGRESSIONS:
            found["sort"] = changed.sort
            if changed.up != (changed.sort in ASCENDING_FIRST):
                found["dir"] = "up" if changed.up else "down"
        if changed.page > 1:
            found["page"] = changed.page
        return found

    def sorted_by(self, column: str) -> dict[str, str | int]:
        """The URL arguments of a column header: sort by the column, or reverse the order if already sorted by it."""
        return self.args(sort=column, up=not self.up if self.sort == column else column in ASCENDING_FIRST)

    @property
    def is_narrowed(self) -> bool:
        """Whether a filter is set."""
        return bool(self.q or self.library or self.source or self.queue)


@dataclass(frozen=True, slots=True)
class ClassTable:
    """One page of the list. `total`: rows that match; `worse`: how many of them became slower or fail more."""

    rows: tuple[ClassRow, ...]
    page: int
    pages: int
    first: int  # number of the first row shown, from 1
    last: int
    total: int
    worse: int


def build_class_table(ranking: ClassRanking, query: ClassQuery, per_page: int = PER_PAGE) -> ClassTable:
    """The page that `query` asks for; the last page for any beyond it."""
    found = sort_classes(filter_classes(ranking.rows, query), query)
    pages = max(1, -(-len(found) // per_page))
    page = min(query.page, pages)
    start = (page - 1) * per_page
    rows = tuple(found[start : start + per_page])
    return ClassTable(
        rows=rows,
        page=page,
        pages=pages,
        first=start + 1 if rows else 0,
        last=start + len(rows),
        total=len(found),
        worse=sum(row.severity > 0 for row in found),
    )


def filter_classes(rows: Iterable[ClassRow], query: ClassQuery) -> list[ClassRow]:
    """The rows that match the filters: `q` is a part of the name of the class, or of one of its queues.

    Classes that a library counts for all its queues together match any queue.
    """
    text = query.q.casefold()
    return [
        row
        for row in rows
        if (not query.library or row.key.backend == query.library)
        and (not query.source or row.key.source == query.source)
        and (not query.queue or query.queue in row.queues or ALL_QUEUES in row.queues)
        and (not text or any(text in part.casefold() for part in (row.key.job_class, *row.queues)))
    ]


def sort_classes(rows: list[ClassRow], query: ClassQuery) -> list[ClassRow]:
    """The rows, which are in the order of a ranking, in that of the query."""
    if query.sort == REGRESSIONS:
        return rows[::-1] if query.up else rows
    if query.sort == "name":
        return sorted(rows, key=lambda row: (row.key.job_class.casefold(), rank_of(row)), reverse=not query.up)
    figure = _FIGURES[query.sort]
    known = [row for row in rows if figure(row) is not None]
    known.sort(key=lambda row: figure(row) or 0.0, reverse=not query.up)
    return known + [row for row in rows if figure(row) is None]
