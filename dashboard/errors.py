"""Every error that Queuedeck raises on purpose, by what the user can do about it."""

from __future__ import annotations

# For users, in place of an error that Queuedeck did not foresee.
UNEXPECTED_ERROR = "Unexpected error; the log has the details."


class QueuedeckError(Exception):
    """Base class of all errors. `code`: the error code in the JSON API. `hint`: what to do next."""

    code = "error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigurationError(QueuedeckError):
    """A setting is invalid: fix it and restart. The message names the setting, its origin and what was expected."""

    code = "configuration"


class BackendUnavailable(QueuedeckError):
    """A Redis does not respond, or not as it should: wait, or follow the hint.

    `reason`: one word for code and tests: refused, timeout, auth, tls, forbidden, loading, full, readonly, protocol,
    lost.
    """

    code = "unavailable"

    def __init__(self, message: str, *, source: str, reason: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.source = source
        self.reason = reason


class WrongType(BackendUnavailable):
    """A key of a queue has another type than its library uses for it; waiting does not help."""

    code = "wrong_type"

    def __init__(self, message: str, *, source: str) -> None:
        hint = "Something other than the library wrote to it. Check it with TYPE in redis-cli."
        super().__init__(message, source=source, reason="protocol", hint=hint)


class OutcomeUnknown(BackendUnavailable):
    """The connection to Redis was lost during a deletion, so it is unknown which jobs were deleted. `undo_batch` holds
    the backups from which they can be restored.
    """

    code = "outcome_unknown"

    def __init__(self, cause: BackendUnavailable, undo_batch: str) -> None:
        hint = (
            "Outcome unknown: the jobs may have been deleted. Check the list. Deleted jobs can be restored for 24 "
            f"hours with the batch {undo_batch}: by Restore, or POST /api/v1/undo/{undo_batch}."
        )
        super().__init__(cause.message, source=cause.source, reason=cause.reason, hint=hint)
        self.undo_batch = undo_batch


class UnreadableData(QueuedeckError):
    """The data of a queue or job could not be read because of an unexpected error; the log has the traceback."""

    code = "unreadable"


class NotMeasured(QueuedeckError):
    """A figure that was asked for is not known yet, or cannot be known; the message says why."""

    code = "not_known"


class NotFound(QueuedeckError, LookupError):
    """The queue or job does not exist, or no longer exists."""

    code = "not_found"


class Conflict(QueuedeckError):
    """The job is not in the state that the action expects."""

    code = "conflict"


class Unsupported(QueuedeckError):
    """The library does not support this; the message says why."""

    code = "unsupported"


class Forbidden(QueuedeckError):
    """The user, or the Redis user, is not allowed to do this."""

    code = "forbidden"


class RightMissing(Forbidden):
    """The user has the role for this, but not the right on the queue. The pages record it in the audit log."""


def join_hint(message: str, hint: str | None) -> str:
    """A message and its hint as two sentences."""
    if not hint:
        return message
    return f"{message if message.endswith(('.', '!', '?')) else message + '.'} {hint}"
