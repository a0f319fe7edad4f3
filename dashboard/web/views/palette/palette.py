"""Finds what the command palette offers: pages, queues, actions, alerts, error groups, rules and searches for jobs.

Everything comes from the memory of the process; nothing is changed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flask import url_for

from ....alerts.delivery.message import alert_title
from ....alerts.evaluation.state_machine import AlertLabels
from ....alerts.management.alert_reader import Alert
from ....alerts.rules.rule import Rule
from ....dead_letters.groups import ErrorGroup
from ....history.classes.ranking import ClassKey
from ....units import format_number
from ...formatting import class_url, one_line
from ..firing_banner import is_handled
from ..problems.alert_problems import status_text
from .entries import PaletteAnswer, PaletteEntry, PaletteGroup, PaletteUser, StaticEntry, list_commands, list_pages
from .matching import match_words
from .queue_entries import MAX_LINES, QueueEntries, Scored

MAX_WORDS = 8
MAX_FIRING = 5
MAX_RECENT = 5
# Recent choices come before others that match equally well.
RECENT_BONUS = 2
VERBS = ("pause", "resume", "retry", "silence", "create")


@dataclass(frozen=True, slots=True)
class PaletteSources:
    """What is known now. `groups` and `rules` are () while this process has not read them."""

    queues: QueueEntries
    user: PaletteUser
    alerts: tuple[Alert, ...] = ()
    groups: tuple[ErrorGroup, ...] = ()
    rules: tuple[Rule, ...] = ()
    denied: str = ""  # why the user has no actions; "" if there are


def search_palette(text: str, recent: Sequence[str], known: PaletteSources) -> PaletteAnswer:
    """The entries that match all words of `text`; without words, what is most likely wanted.

    `recent`: keys of recent choices, newest first. Cost: none; time is linear in what is known.
    """
    words = text.casefold().split()[:MAX_WORDS]
    if not words:
        groups = _without_words(recent, known)
        return PaletteAnswer(groups=groups, found=sum(len(group.entries) for group in groups))
    matches = known.queues.find(words)
    found = [
        ("Queues", matches.queues),
        ("Actions", matches.actions),
        ("Charts", matches.charts),
        ("Firing alerts", _match(words, _firing(known.alerts))),
        ("Pages", _match(words, list_pages(known.user))),
        ("Commands", _match(words, list_commands(known.user))),
        ("Error groups", _match(words, map(_group_entry, known.groups))),
        ("Rules", _match(words, map(_rule_entry, known.rules))),
    ]
    groups = _rank(found, frozenset(recent))
    return PaletteAnswer(
        groups=(*groups, PaletteGroup(title="Jobs", entries=_job_searches(text.strip()))),
        found=sum(len(group.entries) for group in groups),
        note=(known.denied or None) if _asks_to_act(words) else None,
    )


def _without_words(recent: Sequence[str], known: PaletteSources) -> tuple[PaletteGroup, ...]:
    groups = (
        PaletteGroup(title="Recent", entries=tuple(_recall(recent, known))),
        PaletteGroup(title="Firing alerts", entries=_worst_firing(known.alerts)),
        PaletteGroup(title="Pages", entries=tuple(each.entry for each in list_pages(known.user))),
        PaletteGroup(title="Commands", entries=tuple(each.entry for each in list_commands(known.user))),
    )
    return tuple(group for group in groups if group.entries)


def _recall(recent: Sequence[str], known: PaletteSources) -> list[PaletteEntry]:
    """The recent choices that still exist and that this user may use."""
    static = {each.entry.key: each.entry for each in (*list_pages(known.user), *list_commands(known.user))}
    found = []
    for key in dict.fromkeys(recent[: 2 * MAX_RECENT]):
        entry = static.get(key) or _recall_one(key, known)
        if entry is not None:
            found.append(entry)
    return found[:MAX_RECENT]


def _recall_one(key: str, known: PaletteSources) -> PaletteEntry | None:
    kind, _, name = key.partition("/")
    if kind == "group":
        return next((_group_entry(each).entry for each in known.groups if each.error.fingerprint == name), None)
    if kind == "rule":
        return next((_rule_entry(each).entry for each in known.rules if each.id == name), None)
    return known.queues.recall(key)


def _match(words: Sequence[str], entries: Iterable[StaticEntry]) -> list[Scored]:
    """The best entries for the words; a match of the label alone counts for more."""
    found = []
    for each in entries:
        score = match_words(words, each.entry.label)
        if score is None:
            score = match_words(words, each.text)
            score = None if score is None else score + 1
        if score is not None:
            found.append((score, each.entry))
    return sorted(found, key=lambda scored: scored[0])[:MAX_LINES]


def _rank(found: Iterable[tuple[str, list[Scored]]], recent: frozenset[str]) -> tuple[PaletteGroup, ...]:
    """The groups with entries, the one with the best entry first."""
    ranked = []
    for title, scored in found:
        lines = sorted(
            ((score - (RECENT_BONUS if entry.key in recent else 0), entry) for score, entry in scored),
            key=lambda line: line[0],
        )
        if lines:
            ranked.append((lines[0][0], PaletteGroup(title=title, entries=tuple(entry for _, entry in lines))))
    return tuple(group for _, group in sorted(ranked, key=lambda entry: entry[0]))


def _worst_firing(alerts: Iterable[Alert]) -> tuple[PaletteEntry, ...]:
    """The first MAX_FIRING firing alerts, and a link to all if there are more."""
    found = [each.entry for each in _firing(alerts)]
    if len(found) <= MAX_FIRING:
        return tuple(found)
    label = f"Show all {format_number(len(found))} firing alerts"
    return (*found[:MAX_FIRING], PaletteEntry(label=label, url=url_for("alerting.all_firing")))


def _firing(alerts: Iterable[Alert]) -> list[StaticEntry]:
    """The firing alerts, worst first, and last those that are acknowledged or silenced.

    An alert of a queue, a job class, a schedule or an error group leads there, others to their rule.
    """
    found = []
    for alert in sorted((alert for alert in alerts if alert.state.is_active), key=is_handled):
        state, labels = alert.state, alert.state.labels
        detail = ", ".join(filter(None, (state.severity.value, one_line(status_text(alert) or "", 60))))
        label = one_line(alert_title(state.rule_name, labels), 120)
        url = subject_url(labels) or url_for("rules.show", rule_id=state.rule_id)
        found.append(StaticEntry(PaletteEntry(label=label, detail=detail, url=url)))
    return found


def subject_url(labels: AlertLabels) -> str | None:
    """The page of the job class, the queue, the schedule, the error group or the SLO of an alert; None for others."""
    if labels.schedule is not None:
        return url_for("schedules.index", q=labels.title or labels.schedule)
    if labels.source and labels.backend and labels.queue:
        if labels.job_class:
            return class_url(ClassKey(labels.source, labels.backend, labels.queue, labels.job_class))
        return url_for("queues.show", source=labels.source, backend=labels.backend, name=labels.queue)
    if labels.slo:
        return url_for("slos.show", slo_id=labels.slo)
    return url_for("dead.show", fingerprint=labels.error) if labels.error else None


def _group_entry(group: ErrorGroup) -> StaticEntry:
    count = f"{format_number(group.count)}{'' if group.whole else '+'} {'job' if group.count == 1 else 'jobs'}"
    fingerprint = group.error.fingerprint
    url = url_for("dead.show", fingerprint=fingerprint)
    entry = PaletteEntry(key=f"group/{fingerprint}", label=one_line(group.title, 120), detail=count, url=url)
    return StaticEntry(entry, one_line(group.error.error_class or "", 100))


def _rule_entry(rule: Rule) -> StaticEntry:
    return StaticEntry(
        PaletteEntry(
            key=f"rule/{rule.id}",
            label=one_line(rule.name, 120),
            detail="rule" if rule.enabled else "rule, disabled",
            url=url_for("rules.show", rule_id=rule.id),
        ),
        f"{rule.id} {rule.metric}",
    )


def _job_searches(text: str) -> tuple[PaletteEntry, ...]:
    """Searches of all queues for what was typed: as text, and as the ID of a job, which mostly has a digit.

    A job with this ID opens at once; the search is done only when the entry is chosen.
    """
    shown = one_line(text, 60)
    phrase = PaletteEntry(label=f"Search jobs for “{shown}”", url=url_for("search.index", q=text))
    if any(char.isspace() for char in text) or '"' in text:
        return (phrase,)
    by_id = PaletteEntry(
        label=f"Open job {shown}", detail="by its ID, in any queue", url=url_for("search.index", q=f"id:{text}", open=1)
    )
    return (by_id, phrase) if any(char.isdigit() for char in text) else (phrase, by_id)


def _asks_to_act(words: Sequence[str]) -> bool:
    return any(verb.startswith(word) and len(word) > 2 for word in words for verb in VERBS)
