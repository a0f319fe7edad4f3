"""Which right each action needs."""

from __future__ import annotations

from ..backends.actions import Action
from ..rights.right import Right

_RIGHTS: dict[Action, Right] = {
    **dict.fromkeys(
        (Action.RETRY, Action.PROMOTE, Action.DUPLICATE, Action.EDIT, Action.MOVE, Action.TRIGGER), Right.RETRY
    ),
    **dict.fromkeys((Action.DELETE, Action.KILL, Action.CANCEL, Action.STOP, Action.UNDO), Right.DELETE),
    **dict.fromkeys((Action.PURGE, Action.OBLITERATE, Action.REMOVE_SCHEDULE), Right.DELETE),
    **dict.fromkeys((Action.PAUSE, Action.RESUME, Action.PAUSE_SCHEDULE, Action.RESUME_SCHEDULE), Right.PAUSE),
    **dict.fromkeys((Action.QUIET, Action.STOP_WORKER), Right.PAUSE),
}
assert set(_RIGHTS) == set(Action)


def right_for(action: Action) -> Right:
    """The right that an action needs on its queue."""
    return _RIGHTS[action]
