"""Queues in the command palette, their charts, and the actions on them, which lead to a question or a preview."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import nsmallest
from operator import itemgetter
from typing import NamedTuple

from flask import url_for

from ....backends.actions import Action
from ....backends.base import Backend
from ....model import QueueStats, State
from ....units import format_number
from ...formatting import charts_url, one_line, queue_title, queue_url
from ...urls import quote_segment, read_segment
from ..flash import VERBS, bulk_verb
from ..offered_actions import list_verbs, queue_verbs
from .entries import PaletteEntry
from .matching import match_word

MAX_LINES = 8
# Of so many queues, the best ones, actions are offered although only a queue was named.
MAX_QUEUES_WITH_ACTIONS = 2
SHORTEST_VERB = 3
# A queue that matches only by its library or Redis comes after those whose name matches.
PLACE_PENALTY = 6
_WORDS = {
    Action.PAUSE: "pause queue stop",
    Action.RESUME: "resume queue start unpause continue",
    Action.RETRY: "retry all dead jobs letters again",
}
_CHART_WORDS = "charts history past trend graphs"
Scored = tuple[int, PaletteEntry]


class QueueMatches(NamedTuple):
    """What matches, best first, and how well."""

    queues: list[Scored]
    charts: list[Scored]
    actions: list[Scored]


class QueueEntries:
    """Finds queues and actions on them. `may_act`: whether the user may act on queues."""

    def __init__(
        self,
        queues: Sequence[QueueStats],
        titles: Mapping[str, str],
        backend_of: Callable[[str, str], Backend],
        *,
        may_act: bool,
    ) -> None:
        self._queues = queues
        self._titles = titles
        self._backend_of = backend_of
        self._may_act = may_act
        self._several_sources = len({queue.source for queue in queues}) > 1

    def find(self, words: Sequence[str]) -> QueueMatches:
        """At most MAX_LINES queues that match all `words`, so many of their charts, and so many actions on them.

        Time: linear in the queues.
        """
        drawn: list[tuple[int, str, QueueStats]] = []
        named: list[tuple[int, str, QueueStats]] = []
        acted: list[tuple[int, str, QueueStats, Action]] = []
        for queue in self._queues:
            score, rest = self._match_queue(queue, words)
            if not rest:
                named.append((score, queue.name, queue))
                continue
            if _names_charts(rest):
                drawn.append((score, queue.name, queue))
            if self._may_act:
                for action, text in _WORDS.items():
                    if _names_action(rest, text) and action in self._offered(queue):
                        acted.append((score, queue.name, queue, action))
        best = nsmallest(MAX_LINES, named, key=itemgetter(0, 1))
        for score, name, queue in best[:MAX_QUEUES_WITH_ACTIONS]:
            drawn.append((score + PLACE_PENALTY, name, queue))
            if self._may_act:
                acted += [(score + PLACE_PENALTY, name, queue, action) for action in self._offered(queue)]
        return QueueMatches(
            [(score, self.queue_entry(queue)) for score, _, queue in best],
            [
                (score, self._chart_entry(queue))
                for score, _, queue in nsmallest(MAX_LINES, drawn, key=itemgetter(0, 1))
            ],
            [
                (score, self._action_entry(queue, action))
                for score, _, queue, action in nsmallest(MAX_LINES, acted, key=itemgetter(0, 1))
            ],
        )

    def recall(self, key: str) -> PaletteEntry | None:
        """The entry that was remembered under `key`; None if there is none any more, or not for this user."""
        kind, _, place = key.partition("/")
        parts = tuple(read_segment(part) for part in place.split("/"))
        queue = next((each for each in self._queues if (each.source, each.backend, each.name) == parts), None)
        if queue is None:
            return None
        if kind == "queue":
            return self.queue_entry(queue)
        if kind == "charts":
            return self._chart_entry(queue)
        offered = (action for action in self._offered(queue) if self._may_act and action.value == kind)
        return next((self._action_entry(queue, action) for action in offered), None)

    def queue_entry(self, queue: QueueStats) -> PaletteEntry:
        """The link to the page of a queue."""
        facts = [self._titles.get(queue.backend, queue.backend)]
        if self._several_sources:
            facts.append(one_line(queue.source, 40))
        if queue.depth is not None:
            facts.append(f"{format_number(queue.depth)}{'+' if State.WAITING in queue.at_least else ''} waiting")
        if queue.counts.dead:
            facts.append(f"{_dead_count(queue)} dead")
        if queue.paused:
            facts.append("paused")
        return PaletteEntry(
            key=_key("queue", queue), label=self._title(queue), detail=" · ".join(facts), url=queue_url(queue)
        )

    def _chart_entry(self, queue: QueueStats) -> PaletteEntry:
        label = f"Charts of {self._title(queue)}"
        detail = self.queue_entry(queue).detail
        return PaletteEntry(key=_key("charts", queue), label=label, detail=detail, url=charts_url(queue))

    def _match_queue(self, queue: QueueStats, words: Sequence[str]) -> tuple[int, list[str]]:
        """How well the words match that match the queue, and those that do not."""
        score, rest = 0, []
        places = (queue.backend, queue.source.casefold(), self._titles.get(queue.backend, "").casefold())
        name = queue.name if not queue.shared else self._title(queue)
        for word in words:
            match = match_word(word, name)
            if match is not None:
                score += match
            elif word in places:
                score += PLACE_PENALTY
            else:
                rest.append(word)
        return score, rest

    def _offered(self, queue: QueueStats) -> Iterator[Action]:
        backend = self._backend_of(queue.source, queue.backend)
        yield from (action for action in queue_verbs(backend, queue) if action in (Action.PAUSE, Action.RESUME))
        if queue.counts.dead and Action.RETRY in list_verbs(backend, queue, State.DEAD, None):
            yield Action.RETRY

    def _action_entry(self, queue: QueueStats, action: Action) -> PaletteEntry:
        title = self._title(queue)
        detail = self.queue_entry(queue).detail
        key = _key(action.value, queue)
        if action is Action.RETRY:
            label = f"{bulk_verb(action, f'all {_dead_count(queue)} dead jobs')} of {title}…"
            name = quote_segment(queue.name)
            url = url_for(
                "bulk_edit.new",
                source=queue.source,
                backend=queue.backend,
                queue=name,
                state=State.DEAD.value,
                action=action.value,
            )
            return PaletteEntry(key=key, label=label, detail=detail, url=url)
        question = "confirmations.pause" if action is Action.PAUSE else "confirmations.resume"
        url = url_for(question, source=queue.source, backend=queue.backend, name=queue.name)
        return PaletteEntry(key=key, label=f"{VERBS[action]} queue {title}…", detail=detail, url=url, asks=True)

    def _title(self, queue: QueueStats) -> str:
        return queue_title(queue, self._titles.get(queue.backend, queue.backend))


def _names_action(words: Sequence[str], text: str) -> bool:
    """Whether each of the words begins one in `text`; shorter ones would find every action."""
    return all(len(word) >= SHORTEST_VERB and any(each.startswith(word) for each in text.split()) for word in words)


def _names_charts(words: Sequence[str]) -> bool:
    named = [word for word in words if word != "of"]
    return bool(named) and _names_action(named, _CHART_WORDS)


def _dead_count(queue: QueueStats) -> str:
    return format_number(queue.counts.dead) + ("+" if State.DEAD in queue.at_least else "")


def _key(kind: str, queue: QueueStats) -> str:
    return "/".join((kind, *(quote_segment(part) for part in (queue.source, queue.backend, queue.name))))
