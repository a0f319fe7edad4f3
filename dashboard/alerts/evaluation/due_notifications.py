"""The notifications that the state of an alert requires. Pure: the output depends on the input only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from ..rules.rule import Rule
from .state_machine import AlertPhase, AlertState

FLAP_WINDOW_S = 3600.0
FLAPS_FROM = 6  # events within the window
FLAPS_UNTIL = 2
Kind = Literal["firing", "resolved", "reminder", "flapping"]


@dataclass(frozen=True, slots=True)
class DueNotification:
    """A notification that is due: message `number` of the episode, to these channels."""

    kind: Kind
    episode: str
    number: int
    to: tuple[str, ...]
    started_at: float | None


def record_due_notifications(
    state: AlertState,
    now: float,
    *,
    rule: Rule | None,
    muted: bool,
    acked: bool,
    channels: Sequence[str],
) -> tuple[AlertState, tuple[DueNotification, ...]]:
    """The state with the due notifications recorded, and these notifications. `rule` None: it was deleted.

    A resolved notification is sent even while muted, but only to the channels that received the firing one. A channel
    that did not receive it, because it is new or was renamed, receives it while the alert lasts. A channel that no
    longer exists here still gets the resolved notification, because another process may have it.
    """
    quiet = muted or acked
    events = state.events
    if events and now - min(events) >= FLAP_WINDOW_S:
        events = tuple(at for at in events if now - at < FLAP_WINDOW_S)
    was_flapping = state.flapping
    flapping = len(events) > FLAPS_UNTIL if was_flapping else len(events) >= FLAPS_FROM
    if quiet and state.announced and flapping != was_flapping and (flapping or state.is_active):
        flapping = was_flapping  # reported when the alert is no longer muted
    if flapping != was_flapping or len(events) != len(state.events):
        state = replace(state, events=events, flapping=flapping)
    if flapping:
        return _notify_flapping(state, channels, was_flapping=was_flapping, quiet=quiet)
    if not state.is_active:
        return _notify_end(state, rule)
    if state.phase is not AlertPhase.FIRING or quiet or not channels:
        return state, ()
    if not state.announced:
        return _build_notification(_begin_notifying(state, channels), "firing", tuple(channels))
    if was_flapping:  # the true state, in the thread that was open when flapping began
        return _build_notification(state, "firing", state.announced_to)
    # The cheap comparison first: in a large incident almost all channels have been notified.
    if channels != state.announced_to and (
        untold := tuple(each for each in channels if each not in state.announced_to)
    ):
        due = DueNotification("firing", state.announced, 1, untold, state.announced_started_at)
        return replace(
            state, announced_to=(*state.announced_to, *untold), announced_count=max(state.announced_count, 1)
        ), (due,)
    if rule is not None and 0 < rule.repeat_every_s <= state.quiet_s:
        return _build_notification(state, "reminder", state.announced_to)
    return state, ()


def _notify_flapping(
    state: AlertState, channels: Sequence[str], *, was_flapping: bool, quiet: bool
) -> tuple[AlertState, tuple[DueNotification, ...]]:
    """As `record_due_notifications`, while the alert is flapping: only one notification, when that begins."""
    if state.announced:
        return (state, ()) if was_flapping else _build_notification(state, "flapping", state.announced_to)
    if state.phase is not AlertPhase.FIRING or quiet or not channels:
        return state, ()
    return _build_notification(_begin_notifying(state, channels), "flapping", tuple(channels))


def _begin_notifying(state: AlertState, channels: Sequence[str]) -> AlertState:
    """The state with its episode announced to `channels`: they get the reminders and the resolved notification."""
    return replace(
        state,
        announced=state.episode,
        announced_to=tuple(channels),
        announced_started_at=state.started_at,
        announced_count=0,
    )


def _notify_end(state: AlertState, rule: Rule | None) -> tuple[AlertState, tuple[DueNotification, ...]]:
    if not state.announced:
        return state, ()
    due_notifications: tuple[DueNotification, ...] = ()
    if rule is None or rule.notify_resolved:
        state, due_notifications = _build_notification(state, "resolved", state.announced_to)
    return replace(
        state, announced="", announced_to=(), announced_started_at=None, announced_count=0
    ), due_notifications


def _build_notification(
    state: AlertState, kind: Kind, to: tuple[str, ...]
) -> tuple[AlertState, tuple[DueNotification, ...]]:
    number = state.announced_count + 1
    due = DueNotification(kind, state.announced, number, to, state.announced_started_at)
    return replace(state, announced_count=number, quiet_s=0.0), (due,)
