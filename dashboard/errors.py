"""Every error Queuedeck raises on purpose, sorted by what its reader can do about it."""

from __future__ import annotations


class QueuedeckError(Exception):
    """Base of the tree; `code` is the word that the JSON API answers, `hint` says what to do next."""

    code = "error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigurationError(QueuedeckError):
    """A setting is wrong: fix it and restart. The message names the setting, its origin and what was expected."""

    code = "configuration"


class BackendUnavailable(QueuedeckError):
    """A Redis does not answer, or not as it should: wait, or follow the hint.

    `reason` is one word for code and tests: refused, timeout, auth, tls, forbidden, loading, full, readonly,
    protocol, lost.
    """

    code = "unavailable"

    def __init__(self, message: str, *, source: str, reason: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.source = source
        self.reason = reason


class WrongType(BackendUnavailable):
    """A key of a queue holds another type of data than its library writes there; waiting does not help."""

    code = "wrong_type"

    def __init__(self, message: str, *, source: str) -> None:
        hint = "Something other than the library wrote to it. Look at it with TYPE in redis-cli."
        super().__init__(message, source=source, reason="protocol", hint=hint)


class OutcomeUnknown(BackendUnavailable):
    """Redis was lost while it deleted jobs, so nobody knows which are gone. `batch` holds all that can be put back."""

    code = "outcome_unknown"

    def __init__(self, cause: BackendUnavailable, batch: str) -> None:
        hint = (
            "Outcome unknown: the jobs may be deleted. Look at the list; those that are gone can be put back for "
            f"24 hours with the batch {batch}: by Undo, or POST /api/v1/undo/{batch}."
        )
        super().__init__(cause.message, source=cause.source, reason=cause.reason, hint=hint)
        self.batch = batch


class UnreadableData(QueuedeckError):
    """What a queue or job holds could not be read, in a way that was not foreseen; the log has the traceback."""

    code = "unreadable"


class NotFound(QueuedeckError, LookupError):
    """The queue or job is not there (any more)."""

    code = "not_found"


class Conflict(QueuedeckError):
    """The job is not in the state that the action expects."""

    code = "conflict"


class Unsupported(QueuedeckError):
    """This library cannot do that, ever; the message says why."""

    code = "unsupported"


class Forbidden(QueuedeckError):
    """The person, or the Redis user, may not do that."""

    code = "forbidden"
