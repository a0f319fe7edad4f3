"""Explanations of Redis errors: a reason, one line that names the server, and what to do."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

Explanation: TypeAlias = tuple[str, str, str]  # reason, message, hint


class CommandMissing(NoPermissionError):
    """The server does not have a command: it was renamed or disabled, or the server is too old.

    Treated like a missing permission: whatever works without the command still works.
    """

    def __init__(self, command: str) -> None:
        super().__init__(f"unknown command '{command}': it was renamed or disabled on this server")


class ExplainedError(RedisConnectionError):
    """An error that knows its reason and what to do. Its text is one line."""

    def __init__(self, reason: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.explanation: Explanation = (reason, message, hint)


class NoPrimaryError(ExplainedError):
    """The Sentinels name no primary, or a server that is a replica."""


class SlotMovingError(ResponseError):
    """A command was not executed, because its keys are being moved to another node of the cluster."""

    def __init__(self, slot: int) -> None:
        super().__init__(f"hash slot {slot} is being moved to another node of the cluster")


class PrimaryDownError(NoPrimaryError):
    """All Sentinels that answer consider the primary down."""


def refusal_word(reply: Any) -> str:
    """ "ok", or the error code with which Redis refused a write: OOM, MISCONF, READONLY, NOREPLICAS, NOPERM, …"""
    if not isinstance(reply, ResponseError):
        return "ok"
    for kind, word in ((OutOfMemoryError, "OOM"), (ReadOnlyError, "READONLY"), (NoPermissionError, "NOPERM")):
        if isinstance(reply, kind):
            return word
    return (error_line(reply).split() or ["ERR"])[0][:20]


def is_auth(reply: Any) -> bool:
    return isinstance(reply, ResponseError) and str(reply).startswith(("NOAUTH", "WRONGPASS"))


# Error codes that refuse all writes. In errors from scripts, Redis 6 puts its own text before the code.
REFUSING = re.compile(
    r"(?:(?:ERR )?(?:Error running script.{0,120}?)?@user_script: ?\d+: -?|-)?"
    r"(?:OOM|READONLY|MISCONF|NOREPLICAS|MASTERDOWN|CLUSTERDOWN|LOADING)\b"
)
_URL = re.compile(r"(rediss?(?:\+sentinel|\+cluster)?|unix)://(\S++)")


def error_line(exc: BaseException) -> str:
    """Return the text of an error in one line, without the user and password of a URL in it."""
    text = " ".join(str(exc).split()) or type(exc).__name__
    return _URL.sub(_without_user, text)[:200]


def _without_user(url: re.Match[str]) -> str:
    _, user, rest = url[2].rpartition("@")
    return f"{url[1]}://{'…@' if user else ''}{rest}"


# As a plain reply and, with text in front, from within a script.
_ELSEWHERE = re.compile(
    r"(?:(?:ERR )?(?:Error running script.{0,120}?)?@user_script: ?\d+: -?)?"
    r"(?:MASTERDOWN|CLUSTERDOWN|MOVED|ASK|CROSSSLOT) "
)
UNKNOWN_COMMAND = re.compile(r"(?:ERR )?unknown command '?`?(\w+)", re.IGNORECASE)
SENTINEL = "this is a Sentinel"


def is_about_the_server(exc: ResponseError) -> bool:
    """Whether the error concerns the server and not the command: its data is elsewhere or currently unavailable."""
    known = isinstance(exc, MovedError | AskError | ClusterDownError | ClusterCrossSlotError | MasterDownError)
    return known or _ELSEWHERE.match(str(exc)) is not None


# Within a script the message depends on the version of Redis: the second before 7, the third since.
_NOT_PERMITTED = re.compile(r"noperm\b|the user executing the script|no permissions to", re.IGNORECASE)
_FULL = re.compile(r"\bOOM\b|maxmemory")
_READ_ONLY = re.compile(r"\bREADONLY\b|read only replica")


def is_forbidden(exc: Exception) -> bool:
    """Whether the ACL refused the command, or a script needs a command that the server does not have."""
    said = str(exc)
    return isinstance(exc, NoPermissionError) or lacks_permission(said) or "unknown redis command" in said.lower()


def lacks_permission(error: str) -> bool:
    """Whether the text of an error says that the ACL refused the command."""
    return _NOT_PERMITTED.search(error) is not None


def explain_refused_command(error: str, library: str) -> str:
    """Why Redis refused a command on a queue of `library`, in one line for users; `error` is shown as it is."""
    if lacks_permission(error):
        return f"the Redis user is not permitted to do this: {error}"
    if "WRONGTYPE" in error:
        return f"a key of this queue has the wrong type; something other than {library} wrote to it"
    if _FULL.search(error):
        return "Redis is out of memory and refuses writes"
    if _READ_ONLY.search(error):
        return "this Redis is a read-only replica"
    if "CROSSSLOT" in error:
        return (
            f"its keys are in several hash slots of the Redis Cluster. {library} needs them in one: put a part of the "
            "prefix or of the name of the queue in braces, such as {bull}"
        )
    return f"Redis refused the command: {error}"


def explain_failure(exc: Exception, address: str) -> Explanation:
    """(reason, message, hint) for an error of the server at `address`."""
    if isinstance(exc, ExplainedError):
        return exc.explanation
    text = error_line(exc)
    if isinstance(exc, SlotMovingError):
        return "readonly", f"{address}: {text}", "Nothing was changed. Try again when the cluster has moved it."
    if isinstance(exc, ResponseError) and is_about_the_server(exc):
        return _explain_elsewhere(exc, address)
    return (
        _explain_missing_command(text, address)
        or _explain_sign_in(exc, text, address)
        or _explain_refusal(exc, text, address)
        or _explain_connection(exc, text, address)
        or ("protocol", f"{address}: {text}", "Check that a Redis server is listening there.")
    )


def _explain_missing_command(text: str, address: str) -> Explanation | None:
    if text == SENTINEL:
        return (
            "protocol",
            f"{address} is a Sentinel: it monitors Redis servers and holds no queues",
            "Use redis+sentinel:// with the Sentinels and the name of the service, or the Redis that holds the queues.",
        )
    unknown = UNKNOWN_COMMAND.match(text)
    if unknown is not None:
        return (
            "forbidden",
            f"{address} does not have the command {unknown.group(1).upper()}: it was renamed or disabled",
            "Enable it, or set store_url to another Redis. If this is a Sentinel, use the Redis that it monitors.",
        )
    return None


def _explain_sign_in(exc: Exception, text: str, address: str) -> Explanation | None:
    low = text.lower()
    if isinstance(exc, AuthenticationWrongNumberOfArgsError) or "wrong number of arguments for 'auth'" in low:
        return (
            "auth",
            f"{address} does not accept a user name (Redis older than 6)",
            "Leave the user name out of the URL.",
        )
    if "noauth" in low or "authentication required" in low:
        return "auth", f"{address} requires a password", "Add it to the URL: redis://:PASSWORD@host:port/0"
    if (
        isinstance(exc, AuthenticationError)
        or "wrongpass" in low
        or "invalid password" in low
        or "invalid username" in low
    ):
        return "auth", f"{address} rejected the user name or password", "Check user and password in the URL."
    return None


def _explain_refusal(exc: Exception, text: str, address: str) -> Explanation | None:
    """For a server that responds but does not execute the command."""
    low = text.lower()
    if is_forbidden(exc):
        return "forbidden", f"{address} does not allow this user's commands: {text}", "Check the ACL of this user."
    if isinstance(exc, BusyLoadingError) or "loading" in low:
        return "loading", f"{address} is loading its data set", "Retry when loading has finished."
    if isinstance(exc, OutOfMemoryError) or "used memory > 'maxmemory'" in low:
        return "full", f"{address} is out of memory and refuses writes", "Raise maxmemory or free memory."
    if isinstance(exc, ReadOnlyError) or "readonly" in low:
        return "readonly", f"{address} is a read-only replica", "Point the URL at the primary."
    return None


def _explain_connection(exc: Exception, text: str, address: str) -> Explanation | None:
    low = text.lower()
    if "ssl" in low or "tls" in low or "certificate" in low or "wrong version number" in low:
        return (
            "tls",
            f"{address}: TLS failed: {text}",
            "Use rediss:// only if the server uses TLS, and check its certificate.",
        )
    if isinstance(exc, RedisTimeoutError) or "timed out" in low or "timeout" in low:
        hint = "Check that it is running and that nothing is blocking it."
        if address.startswith("rediss:"):  # a Redis without TLS takes the handshake for an incomplete command and waits
            hint = "Check that it is running and uses TLS; if it does not, use redis://."
        return "timeout", f"{address} did not respond in time", hint
    if "refused" in low:
        return "refused", f"Connection refused by {address}", "Start Redis, or check host and port in the URL."
    if "unreachable" in low or "no route" in low:
        return "refused", f"There is no route to {address}", "Check the host in the URL, the network and firewalls."
    if "name or service not known" in low or "resolution" in low or "nodename" in low or "no address" in low:
        return "refused", f"Cannot resolve the host name of {address}", "Check the host in the URL."
    if "out of range" in low or "invalid db" in low:
        return "protocol", f"{address} has no such database", "Check the number at the end of the URL."
    if "closed" in low or "reset" in low or "broken pipe" in low or "eof" in low:
        return (
            "lost",
            f"{address} closed the connection",
            "It may be restarting. If it expects TLS, use rediss://.",
        )
    if "protocol error" in low:
        return "protocol", f"{address} is not a Redis server", "Check host and port in the URL."
    if "max number of clients" in low:
        return "refused", f"{address} has reached maxclients", "Raise maxclients or close idle clients."
    return None


def explain_forbidden(exc: Exception, address: str) -> tuple[str, str]:
    """(message, hint) for a command that the ACL of the server at `address` refuses, or that the server lacks."""
    if isinstance(exc, CommandMissing):
        return explain_failure(exc, address)[1:]
    if "unknown redis command" in str(exc).lower():
        return (
            f"{address} lacks a command that a script needs: it was renamed or disabled on this server",
            "Enable it, or set store_url to another Redis. Run `queuedeck doctor` to see what is missing.",
        )
    return (
        f"The Redis user is not allowed to do this on {address}: {error_line(exc)}",
        "Grant the command to this user with ACL SETUSER, or continue without it.",
    )


def _explain_elsewhere(exc: ResponseError, address: str) -> Explanation:
    """As `explain_failure`, for a server that does not hold the data or does not serve it."""
    said = str(exc)
    if isinstance(exc, MasterDownError) or "MASTERDOWN" in said:
        return (
            "readonly",
            f"{address} is a replica that lost its primary; it serves no data until the primary is back",
            "Point the URL at the primary, or at a replica with replica-serve-stale-data yes.",
        )
    if isinstance(exc, ClusterDownError) or "CLUSTERDOWN" in said:
        return (
            "refused",
            f"{address} belongs to a Redis Cluster that is down",
            "A failover takes some seconds. If it lasts, look for slots without a node in CLUSTER NODES.",
        )
    return (
        "protocol",
        f"{address} is one node of a Redis Cluster and holds only part of the data",
        "Use redis+cluster:// with the host and port of some nodes, or cluster = [...] in place of url.",
    )
