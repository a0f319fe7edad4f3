"""Builds the Message that channels send from a claim of the outbox. Pure.

Text comes from fixed fields. Text that job producers can choose (queue names) is made printable and truncated here, and
escaped by each channel.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal
from urllib.parse import quote, urlencode

from msgspec.structs import replace

from ...clock import instant
from ...globs import GLOB_LIMIT
from ...redact import mask_text
from ...units import format_duration
from ..evaluation.state_machine import AlertLabels
from ..notification import LOCAL, Notification
from ..rules.metrics import METRICS, describe_value, format_threshold
from ..rules.rule import OPERATOR_WORDS
from .channels.base import Message, MessageLine

ALL_QUEUES = "*"  # the queue of the entry for figures over all queues of a library
MAX_LABEL = 200
MAX_DETAIL = 300
MAX_URL = 2000  # characters; channels do not link to longer ones

# The tab of the queue's page that has the jobs which a rule is about.
TABS = {
    "queue.depth": "waiting",
    "queue.latency_s": "waiting",
    "queue.no_progress_s": "waiting",
    "queue.consumers": "waiting",
    "queue.paused_s": "waiting",
    "queue.error_ratio": "dead",
    "queue.dead": "dead",
    "queue.dead_growth_per_h": "dead",
    "queue.active_age_s": "active",
    "queue.stalled": "active",
    "queue.overdue_s": "scheduled",
}

MessageKind = Literal["firing", "resolved", "reminder", "flapping", "test", "approval", "both"]
_KINDS: dict[str, MessageKind] = {
    "firing": "firing",
    "resolved": "resolved",
    "reminder": "reminder",
    "flapping": "flapping",
    "test": "test",
    "approval": "approval",
    "both": "both",
}


class PageLinks:
    """Absolute URLs of pages, built only from the configured public URL; None without one."""

    def __init__(self, public_url: str | None) -> None:
        self._base = public_url.rstrip("/") if public_url else None

    def subject_url(self, labels: AlertLabels, metric: str = "") -> str | None:
        """The page of a queue, with the jobs that `metric` is about, or of a job class; a schedule; the queues of a
        library; an error group; an SLO; otherwise all alerts."""
        if labels.error is not None:
            return self._absolute_url(f"/dead/{_quote_segment(labels.error)}")
        if labels.slo is not None:
            return self._absolute_url(f"/slos/{_quote_segment(labels.slo)}")
        if labels.schedule is not None:
            begin = (labels.title or labels.schedule).removesuffix("…")  # the page searches for it
            return self._absolute_url(f"/schedules?{urlencode({'q': begin})}")
        if labels.source and labels.backend:
            path = f"/?source={_quote_segment(labels.source)}&library={_quote_segment(labels.backend)}#queues"
            if labels.queue:
                parts = (labels.source, labels.backend, labels.queue)
                path = "/queues/" + "/".join(map(_quote_segment, parts))
                path += f"?state={TABS[metric]}" if metric in TABS else ""
                if labels.job_class:
                    path = "/classes/" + "/".join(map(_quote_segment, (*parts, labels.job_class)))
            url = self._absolute_url(path)
            if url is not None and len(url) <= MAX_URL:
                return url
        return self._absolute_url("/alerts")

    def page_url(self, path: str | None) -> str | None:
        """The page at a path; None without one."""
        return None if path is None else self._absolute_url(path)

    def acknowledge_url(self, notification: Notification) -> str | None:
        """The page that acknowledges an incident; None for one announced while the store was down, which no page can
        show."""
        if notification.episode.startswith(LOCAL):
            return None
        return self._absolute_url(
            f"/alerts/{notification.fingerprint}/ack?{urlencode({'episode': notification.episode})}"
        )

    def silence_url(self, notification: Notification) -> str | None:
        """The silence form, prefilled for the subject of the notification, or only for the rule of an error group;
        None for a channel, which no silence can name."""
        if notification.labels.channel is not None:
            return None
        named = notification.labels.as_dict().items()
        labels = {name: glob_of(value) for name, value in named if name in ("source", "backend", "queue")}
        return self._absolute_url(f"/silences/new?{urlencode({'rule': notification.rule_id, **labels})}")

    def _absolute_url(self, path: str) -> str | None:
        return None if self._base is None else self._base + path


def build_message(
    message_id: str,
    kind: str,
    notifications: Sequence[Notification],
    links: PageLinks,
    channel: str,
    threads: Mapping[str, str] | None = None,
    unnamed: Collection[str] = (),
) -> Message:
    """One message for `notifications` (at least one), in pairs of beginning and end for `both`.

    `threads` = by episode, the id of the message in which it was first sent here; default: the id of its own message.
    `unnamed` = episodes, not all of them, that are only counted, because the channel never got their names.
    """
    begins = [each for each in notifications if each.kind != "resolved"] if kind == "both" else list(notifications)
    ends = {each.fingerprint: each for each in notifications if each.kind == "resolved"}
    ordered = sorted(begins, key=lambda each: (each.episode in unnamed, *_worst_first(each)))
    worst = ordered[0]
    one = len(ordered) == 1
    source = worst.labels.source if len({each.labels.source for each in ordered}) == 1 else None
    first = (threads or {}).get(worst.episode, f"{worst.episode}:firing:1:{channel}")
    # All of them: each channel shows as many as fit, and the number of the others.
    lines = [_build_line(each, ends.get(each.fingerprint) if kind == "both" else None, links) for each in ordered]
    going_on = kind in ("firing", "reminder", "flapping")
    return Message(
        id=message_id,
        kind=_KINDS.get(kind, "firing"),
        severity="critical" if worst.severity == "critical" else "warning",
        episode=worst.episode,
        rule_id=worst.rule_id,
        rule_name=worst.rule_name,
        title=_build_title(worst, len(ordered)),
        lines=tuple(lines),
        runbook_url=worst.runbook_url,
        owner=_common_text([each.owner for each in ordered]),
        note=_common_text([each.note for each in ordered]),
        ack_url=links.acknowledge_url(worst) if going_on else None,
        silence_url=links.silence_url(worst) if going_on else None,
        source=clean_text(source) if source is not None else None,
        queue=clean_text(worst.labels.queue) if one and worst.labels.queue is not None else None,
        where=_describe_place(worst.labels if one else AlertLabels(source=source)),
        started_at=instant(min((each.started_at for each in ordered if each.started_at is not None), default=None)),
        ended_at=instant(max((at for each in ordered if (at := _ended_at(each, ends)) is not None), default=None)),
        spark=worst.spark if one else (),
        spark_of=_describe_spark(worst) if one and worst.spark else None,
        top_errors=tuple(clean_text(mask_text(text)) for text in worst.top_errors) if one else (),
        most_named=sum(each.episode not in unnamed for each in ordered) if unnamed else None,
        references=first if worst.number > 1 else None,
    )


def clean_text(text: str) -> str:
    """`text` with unprintable characters replaced, truncated to MAX_LABEL."""
    shown = "".join(character if character.isprintable() else "�" for character in text[: MAX_LABEL + 1])
    return shown if len(text) <= MAX_LABEL else shown[: MAX_LABEL - 1] + "…"


def glob_of(name: str) -> str:
    """A glob that the silence form accepts and that matches the name: `?` for special characters, `*` for a long
    tail."""
    typed = ["?" if sign in "[]\\*" or not sign.isprintable() else sign for sign in name[:GLOB_LIMIT]]
    if len(name) > GLOB_LIMIT:
        typed[-1] = "*"
    for end in (0, -1):
        if typed and typed[end] == " ":
            typed[end] = "?"
    return "".join(typed)


def describe_labels(labels: AlertLabels) -> str:
    """The subject of an alert as text; "" if it has none, as an alert about all queues or about the checker."""
    if labels.schedule is not None:
        where = describe_labels(replace(labels, schedule=None, title=None))
        return f"{clean_text(labels.title or labels.schedule)} {'in' if labels.queue is not None else 'of'} {where}"
    if labels.queue is not None:
        library, source = clean_text(labels.backend or ""), clean_text(labels.source or "")
        inside = source if labels.queue == ALL_QUEUES else f"{library}, {source}"
        return (
            f"{_describe_queue(labels)} ({inside})"
            if labels.job_class is None
            else (f"{clean_text(labels.job_class)} in {_describe_queue(labels)} ({inside})")
        )
    if labels.backend is not None:
        return f"{clean_text(labels.backend)} on {clean_text(labels.source or '')}"
    if labels.source is not None:
        return f"Redis {clean_text(labels.source)}"
    if labels.error is not None or labels.slo is not None:
        return clean_text(labels.title or labels.error or labels.slo or "")
    return f"channel {labels.channel}" if labels.channel is not None else ""


def _describe_queue(labels: AlertLabels) -> str:
    if labels.queue == ALL_QUEUES:
        return f"all {clean_text(labels.backend or '')} queues"
    return clean_text(labels.queue or "")


def alert_title(rule_name: str, labels: AlertLabels) -> str:
    """The name of the rule and, if it has one, the subject of the alert. "Redis" is not said twice."""
    is_source = labels.source is not None and labels.backend is None and labels.queue is None
    if is_source and rule_name.startswith("Redis "):
        return f"{rule_name}: {clean_text(labels.source or '')}"
    subject = describe_labels(labels)
    return f"{rule_name}: {subject}" if subject else rule_name


def _common_text(texts: Sequence[str | None]) -> str | None:
    """What is the same for all alerts of a message; None otherwise."""
    return texts[0] if len(set(texts)) == 1 else None


def _describe_place(labels: AlertLabels) -> str | None:
    """The source and the queue as text, as far as they are known: main / mails, or main / all rq queues."""
    source = clean_text(labels.source or "")
    return " / ".join(part for part in (source, _describe_queue(labels)) if part) or None


def _build_title(worst: Notification, count: int) -> str:
    if count == 1:
        return alert_title(worst.rule_name, worst.labels)
    return f"{worst.rule_name} ({count} {subjects_word(worst.labels)})"


def subjects_word(labels: AlertLabels) -> str:
    """What several alerts with labels like these are about: queues, job classes, schedules, or simply alerts."""
    if labels.job_class is not None:
        return "job classes"
    if labels.schedule is not None:
        return "schedules"
    if labels.slo is not None:
        return "SLOs"
    return "queues" if labels.queue is not None else "alerts"


def _ended_at(notification: Notification, ends: Mapping[str, Notification]) -> float | None:
    return ends.get(notification.fingerprint, notification).ended_at


def _worst_first(notification: Notification) -> tuple[bool, float]:
    upwards = notification.op in ("gt", "ge")
    value = 0.0 if notification.value is None else notification.value
    return notification.value is None, -value if upwards else value


def _build_line(notification: Notification, end: Notification | None, links: PageLinks) -> MessageLine:
    worst_shown = notification.kind == "resolved" or end is not None
    figure = (notification if end is None else end).peak if worst_shown else notification.value
    value = describe_value(notification.metric, figure, notification.reducer)
    if value is not None and worst_shown:
        value = f"at worst {value}"
    detail = None
    if notification.detail and notification.kind != "resolved":  # it describes the fault, not its end
        detail = mask_text(notification.detail)[:MAX_DETAIL]
    subject = describe_labels(notification.labels)
    return MessageLine(
        label=subject or detail or notification.rule_name,
        value_text=value,
        last_known_text=None if value is not None or worst_shown else _last_known_text(notification),
        threshold_text=_threshold_text(notification),
        since_text=_since_text(notification, end),
        detail_text=detail if subject else None,
        url=links.page_url(notification.page) or links.subject_url(notification.labels, notification.metric),
        owner=notification.owner,
        runbook_url=notification.runbook_url,
        episode=notification.episode,
    )


def _last_known_text(notification: Notification) -> str | None:
    if not notification.unknown_s:
        return None
    unknown = f"value unknown for {format_duration(notification.unknown_s)}"
    last = describe_value(notification.metric, notification.last_value, notification.reducer)
    return unknown if last is None else f"{unknown}, last known: {last}"


def _describe_spark(notification: Notification) -> str | None:
    """What the sparkline shows, where that is not the value of the alert: see last_hour_series."""
    if notification.metric.startswith("redis.memory"):
        return "used memory"
    if notification.reducer == "last":
        return None
    return {"queue.depth": "waiting jobs", "queue.dead": "dead letters", "queue.error_ratio": "error ratio"}.get(
        notification.metric
    )


def _threshold_text(notification: Notification) -> str | None:
    metric = METRICS.get(notification.metric)
    if notification.threshold is None or (metric is not None and metric.unit == "flag"):
        return None
    threshold = format_threshold(notification.metric, notification.threshold, notification.reducer)
    return f"{OPERATOR_WORDS.get(notification.op, 'beyond')} {threshold}"


def _since_text(notification: Notification, end: Notification | None) -> str | None:
    began = instant(notification.started_at)
    if began is None or notification.started_at is None:
        return None
    ended_at = (end or notification).ended_at
    since = f"{began:%Y-%m-%d %H:%M:%S} UTC"
    if ended_at is None:
        return since
    reason = (end or notification).reason
    lasted = f"{since}, lasted {format_duration(ended_at - notification.started_at)}"
    return f"{lasted}, not recovered ({reason})" if reason else lasted


def _quote_segment(text: str) -> str:
    return quote(text.encode("utf-8", "surrogateescape"), safe="")
