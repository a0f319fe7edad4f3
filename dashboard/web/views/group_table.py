"""The list of error groups: the rows that a URL asks for, their order and their page. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from ...backends.actions import Action
from ...dead_letters.annotations import Annotation
from ...dead_letters.groups import SLOTS, ErrorGroup, GroupMember
from ...dead_letters.lists import BackendOf
from ...dead_letters.service import GroupList
from ...marks.mark_reader import MarkBefore, find_mark_before
from ...model import Mark, Snapshot, State
from .offered_actions import read_only, why_none
from .sparkline import line

PER_PAGE = 50
MAX_TEXT = 200
MAX_PAGE = 1000
SPARK_SIZE = (72, 20)
# Groups with these statuses are listed on a tab of their own.
QUIET = frozenset({"ignored", "resolved"})
SHOWN = ("open", "quiet")
# Actions on the jobs of a group, in button order. Dead jobs are retried or deleted; jobs in a dead-letter queue are
# moved to their origin queue or deleted.
ACTIONS = (Action.RETRY, Action.MOVE, Action.DELETE)


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One group with its annotation. Times in seconds since 1970. `final`: no more jobs of it are still being read."""

    group: ErrorGroup
    annotation: Annotation
    statuses: tuple[str, ...]
    final: bool
    mark_before: MarkBefore | None = None  # the last mark before `first_at`

    @property
    def first_at(self) -> float | None:
        """The earliest known death: of a job that still exists, or when the group was first seen."""
        known = [at for at in (self.group.first_at, self.annotation.first_at) if at is not None]
        return min(known) if known else None

    @property
    def regressed_since(self) -> float | None:
        """When the group regressed; None unless it has this status."""
        return self.annotation.regressed_since(self.group) if "regressed" in self.statuses else None

    @property
    def pattern(self) -> str | None:
        """The message without what varies from job to job; None if that is the newest message itself."""
        message, pattern = self.group.newest_message, self.group.error.message
        return None if message is None or not pattern or " ".join(message.split()) == pattern else pattern

    @property
    def quiet(self) -> bool:
        """Whether the group is ignored or resolved."""
        return bool(QUIET & set(self.statuses))

    @property
    def path(self) -> str:
        """The deaths of the last hour, for a sparkline."""
        return line(self.group.trend, SLOTS, *SPARK_SIZE) if self.group.recent else ""

    @property
    def libraries(self) -> tuple[str, ...]:
        """The libraries whose jobs are in the group, most jobs first."""
        return tuple(dict.fromkeys(queue.ref.backend for queue in self.group.queues))


def _urgency(row: GroupRow) -> tuple[float, ...]:
    """Sort key: acknowledged groups after the others, then by number of jobs, then by recent deaths."""
    return ("acknowledged" in row.statuses and "regressed" not in row.statuses, -row.group.count, -row.group.recent)


_KEYS: dict[str, Callable[[GroupRow], tuple[float | str, ...]]] = {
    "worst": _urgency,
    "jobs": lambda row: (-row.group.count,),
    "recent": lambda row: (-row.group.recent, -row.group.count),
    "last": lambda row: (-(row.group.last_at or 0.0),),
    "first": lambda row: (-(row.first_at or 0.0),),
    "error": lambda row: ((row.group.error.error_class or row.group.error.message).casefold(),),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupQuery:
    """What the URL asks for. Unknown values fall back to the default."""

    q: str = ""
    library: str = ""
    source: str = ""
    queue: str = ""
    show: str = "open"
    sort: str = "worst"
    page: int = 1

    @classmethod
    def of(cls, args: Mapping[str, str]) -> GroupQuery:
        """The query in the arguments of a URL."""
        page, sort, show = args.get("page", ""), args.get("sort", ""), args.get("show", "")
        return cls(
            q=args.get("q", "")[:MAX_TEXT].strip(),
            library=args.get("library", "")[:MAX_TEXT],
            source=args.get("source", "")[:MAX_TEXT],
            queue=args.get("queue", "")[:MAX_TEXT],
            show=show if show in SHOWN else "open",
            sort=sort if sort in _KEYS else "worst",
            page=page_number(page),
        )

    def args(self, **changes: str | int) -> dict[str, str | int]:
        """The URL arguments of this query with `changes`. Defaults are omitted; any change resets the page to 1."""
        changed = replace(self, **{"page": 1, **changes})  # type: ignore[arg-type]
        answer: dict[str, str | int] = {
            name: value for name in ("q", "library", "source", "queue") if (value := getattr(changed, name))
        }
        if changed.show != "open":
            answer["show"] = changed.show
        if changed.sort != "worst":
            answer["sort"] = changed.sort
        if changed.page > 1:
            answer["page"] = changed.page
        return answer

    @property
    def narrowed(self) -> bool:
        """Whether a filter is set; the tab of `show` does not count."""
        return bool(self.q or self.library or self.source or self.queue)

    def fits(self, row: GroupRow) -> bool:
        """Whether the group matches the filters, whatever its status."""
        queues = [
            queue
            for queue in row.group.queues
            if (not self.library or queue.ref.backend == self.library)
            and (not self.source or queue.ref.source == self.source)
            and (not self.queue or queue.name == self.queue)
        ]
        error, annotation = row.group.error, row.annotation
        texts = (error.error_class, error.message, error.fingerprint, annotation.owner, annotation.note, *error.frames)
        part = self.q.casefold()
        messages = (member.dead_letter.message for member in row.group.members)
        return bool(queues) and (not part or any(part in text.casefold() for text in chain(texts, messages) if text))


@dataclass(frozen=True, slots=True)
class MemberPage:
    """One page of the jobs of a group, newest first."""

    members: tuple[GroupMember, ...]
    page: int
    pages: int
    first: int
    last: int


def member_page(group: ErrorGroup, page: int, per_page: int = PER_PAGE) -> MemberPage:
    """Page `page`, from 1, of the jobs of a group; the last page for any beyond it."""
    pages = max(1, -(-len(group.members) // per_page))
    page = min(max(1, page), pages)
    start = (page - 1) * per_page
    members = group.members[start : start + per_page]
    return MemberPage(members, page, pages, start + 1, start + len(members))


def page_number(text: str) -> int:
    """The page number in a URL; 1 when it is invalid."""
    return min(int(text), MAX_PAGE) if text.isascii() and text.isdigit() and 0 < len(text) < 8 else 1


def count_offered(group: ErrorGroup, backend_of: BackendOf, snapshot: Snapshot | None) -> dict[Action, int]:
    """The actions on the jobs of a group, and how many jobs each applies to. Queues that are read-only, or on which the
    right is missing, are left out.

    Only jobs in a dead-letter queue are moved: a dead job of a library is retried where it is.
    """
    counts = dict.fromkeys(ACTIONS, 0)
    for queue in group.queues:
        writable = read_only(snapshot, queue.ref) is None
        backend = backend_of(queue.ref.source, queue.ref.backend)
        offered = backend.offered_actions(queue.state, shared=queue.ref.shared) if writable else ()
        for action in (each for each in offered if backend.permits(each, queue.ref.name)):
            if action in counts and (action is not Action.MOVE or queue.state is State.WAITING):
                counts[action] += queue.count
    return {action: count for action, count in counts.items() if count}


def why_none_offered(group: ErrorGroup, backend_of: BackendOf, snapshot: Snapshot | None) -> list[str]:
    """Why there are no actions on the jobs of a group: the reasons of its queues, each once."""
    reasons = (
        read_only(snapshot, queue.ref)
        or why_none(
            backend_of(queue.ref.source, queue.ref.backend), queue.ref, Action.RETRY, Action.DELETE, state=queue.state
        )
        for queue in group.queues
    )
    return list(dict.fromkeys(reasons))


@dataclass(frozen=True, slots=True)
class GroupTable:
    """One page of the list; `open` and `quiet` count the matching groups of each kind."""

    rows: tuple[GroupRow, ...]
    page: int
    pages: int
    first: int
    last: int
    open: int
    quiet: int
    total: int  # rows on all pages
    of: int  # all groups, matching or not


def rows_of(group_list: GroupList, now: float, marks: Sequence[Mark]) -> list[GroupRow]:
    """A row for each group of `group_list`, with its annotation and the last of `marks` (newest first) before it."""
    return [row_of(group, group_list, now, marks) for group in group_list.grouped.groups]


def row_of(group: ErrorGroup, group_list: GroupList, now: float, marks: Sequence[Mark]) -> GroupRow:
    """The row of one group, as in `rows_of`."""
    annotation = group_list.annotations.of(group.error.fingerprint)
    statuses, final = annotation.statuses(group, now), group_list.grouped.is_final(group)
    row = GroupRow(group, annotation, statuses, final)
    sources = {queue.ref.source for queue in group.queues}
    return replace(row, mark_before=find_mark_before(marks, row.first_at, sources))


def build_table(rows: Iterable[GroupRow], query: GroupQuery) -> GroupTable:
    """The page of the list that `query` asks for; the last page for any beyond it."""
    everything = list(rows)
    fitting = [row for row in everything if query.fits(row)]
    quiet = [row for row in fitting if row.quiet]
    listed = quiet if query.show == "quiet" else [row for row in fitting if not row.quiet]
    listed.sort(key=_KEYS[query.sort])
    pages = max(1, -(-len(listed) // PER_PAGE))
    page = min(query.page, pages)
    start = (page - 1) * PER_PAGE
    rows_on_page = listed[start : start + PER_PAGE]
    return GroupTable(
        rows=tuple(rows_on_page),
        page=page,
        pages=pages,
        first=start + 1 if rows_on_page else 0,
        last=start + len(rows_on_page),
        open=len(fitting) - len(quiet),
        quiet=len(quiet),
        total=len(listed),
        of=len(everything),
    )
