"""The permissions of this user. Each command is tried on a key that does not exist: nothing is read or changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from redis.exceptions import NoPermissionError, ResponseError

from ..backends.payloads.decoding import printable
from ..errors import BackendUnavailable, Forbidden
from ..sampling.snapshot_store import SnapshotStore
from ..sources.source import Command, Source
from ..store.redis_store import PREFIX
from ..units import format_duration
from .acl import NAME as USER
from .cluster import refused_commands
from .findings import DoctorFinding, note_finding, ok_finding, problem_finding, warning_finding

NO_KEY = "queuedeck-doctor:no-such-key"
OWN_KEY = f"{PREFIX}:doctor"


@dataclass(frozen=True, slots=True)
class CommandNeed:
    """Commands that a feature needs, and what is missing without them."""

    purpose: str
    commands: tuple[Command, ...]
    without: str


ESSENTIAL = (
    CommandNeed(
        "finding queues",
        (("SCAN", 0, "COUNT", 1), ("SMEMBERS", NO_KEY), ("TYPE", NO_KEY), ("EXISTS", NO_KEY)),
        "no queues are found",
    ),
    CommandNeed(
        "counting jobs",
        (("LLEN", NO_KEY), ("ZCARD", NO_KEY), ("ZCOUNT", NO_KEY, 0, 0), ("SCARD", NO_KEY), ("PTTL", NO_KEY)),
        "metrics are missing",
    ),
    CommandNeed(
        "showing jobs",
        (
            ("LRANGE", NO_KEY, 0, 0),
            ("LINDEX", NO_KEY, 0),
            ("ZRANGE", NO_KEY, 0, 0),
            ("ZREVRANGE", NO_KEY, 0, 0),
            ("ZSCORE", NO_KEY, ""),
            ("HGET", NO_KEY, ""),
            ("HMGET", NO_KEY, ""),
            ("HSTRLEN", NO_KEY, ""),
            ("GET", NO_KEY),
            ("GETRANGE", NO_KEY, 0, 0),
            ("XRANGE", NO_KEY, "-", "+", "COUNT", 1),
            ("XREVRANGE", NO_KEY, "+", "-", "COUNT", 1),
        ),
        "lists and jobs are incomplete",
    ),
)
# If one of these is refused, Queuedeck uses a fallback or shows less, and says so.
CLIENTS = CommandNeed("counting workers", (("CLIENT", "LIST"),), "the workers of some libraries are unknown")
SCRIPTS = CommandNeed("reading by script", (("EVAL_RO", "return 1", 0),), "a sample takes more round trips")
SCRIPTS_BEFORE_7 = CommandNeed(SCRIPTS.purpose, (("EVAL", "return 1", 0),), SCRIPTS.without)
# All commands that publishing uses, on a key that does not exist, so that nothing is written.
_PUBLISH = """
redis.call('TIME')
redis.call('GET', KEYS[1])
redis.call('SET', KEYS[1], '', 'XX')
redis.call('PEXPIRE', KEYS[1], 1)
return redis.call('DEL', KEYS[1])
"""


def examine_permissions(source: Source) -> list[DoctorFinding]:
    """Return what Queuedeck needs and this user cannot do. Raises BackendUnavailable. Cost: 7 round trips."""
    findings = [finding for need in ESSENTIAL if (finding := _essential_finding(source, need))]
    if not findings:
        findings.append(ok_finding("This user can find, count and show jobs."))
    if any(_is_key_refused(reply) for reply in source.run_batch([("LLEN", NO_KEY)])):
        findings.append(note_finding("This user cannot read every key: queues outside its key patterns are not shown."))
    known = _is_known_command(source, SCRIPTS.commands[0])
    for need in (CLIENTS, SCRIPTS if known else SCRIPTS_BEFORE_7):
        if refused := _refused_commands(source, need.commands):
            findings.append(note_finding(f"This user cannot run {', '.join(refused)}", why=need.without))
    return findings


def examine_store(source: Source, settings_digest: str = "") -> list[DoctorFinding]:
    """Return whether our own data can be written here, and whether a Queuedeck with other settings writes here too.

    `settings_digest` is that of this process. Raises BackendUnavailable. Cost: 3 round trips, 1 more if many queues are
    published.
    """
    return [*_examine_writing(source), *_examine_others(source, settings_digest)]


def _examine_others(source: Source, settings_digest: str) -> list[DoctorFinding]:
    store = SnapshotStore(source)
    try:
        snapshot, _ = store.read_published(with_history=False)
    except Forbidden:
        return []
    if not settings_digest or snapshot is None or snapshot.settings_digest in ("", settings_digest):
        return []
    age = format_duration(max(0.0, store.now_s() - snapshot.sampled_at))
    return [
        warning_finding(
            f"{printable(snapshot.sampler, 80)} sampled here {age} ago with other settings: other sources, "
            f"libraries, rules or redaction, under the same {store.prefix}:*.",
            "Give one of the two another store_prefix, or stop one: only one of them evaluates alerts.",
        )
    ]


def _examine_writing(source: Source) -> list[DoctorFinding]:
    store = SnapshotStore(source)
    try:
        source.execute("EVAL", _PUBLISH, 1, OWN_KEY)
        refused = store.refused_writes(by_trying=False)
    except Forbidden as exc:
        return [_unpublished_finding(str(exc.__cause__), store)]
    except ResponseError as exc:
        unavailable = source.unavailable_error(exc)
        if unavailable.reason in ("full", "readonly"):
            return [problem_finding(f"{unavailable.message}: snapshots cannot be published.", unavailable.hint or "")]
        return [_unpublished_finding(str(exc), store)]
    if refused:
        missing = store.not_writable(refused)
        return [
            problem_finding(
                f"{missing.message}: no snapshots are published and no alerts are sent.", missing.hint or ""
            )
        ]
    return [ok_finding(f"Snapshots can be published under {store.prefix}:*, and alerts can be sent.")]


def unreachable_finding(exc: BackendUnavailable) -> DoctorFinding:
    """Return the finding about a server that cannot be reached."""
    return problem_finding(f"{exc.message.rstrip('.')}.", exc.hint or "")


def _essential_finding(source: Source, need: CommandNeed) -> DoctorFinding | None:
    refused = _refused_commands(source, need.commands)
    if not refused:
        return None
    names = ", ".join(refused)
    grants = " ".join(f"+{name.lower().replace(' ', '|')}" for name in refused)
    return problem_finding(
        f"This user cannot run {names}, needed for {need.purpose}",
        f"Grant {grants}.",
        why=need.without,
        command=f"ACL SETUSER {USER} {grants}",
    )


def _refused_commands(source: Source, commands: Sequence[Command]) -> list[str]:
    """Return the names of the `commands` that the user cannot run, on any node of a cluster; a key that it cannot read
    does not count.
    """
    found = {
        _command_name(command): None
        for refusals in refused_commands(source, commands)
        for command, refusal in zip(commands, refusals, strict=True)
        if refusal is not None and not _is_key_refused(refusal)
    }
    return list(found)


def _is_known_command(source: Source, command: Command) -> bool:
    reply = source.run_batch([command])[0]
    return not (isinstance(reply, ResponseError) and "unknown command" in str(reply).lower())


def _command_name(command: Command) -> str:
    words = command[:2] if command[0] == "CLIENT" else command[:1]
    return " ".join(str(word) for word in words)


def _is_key_refused(reply: object) -> bool:
    """Redis 6 and 7: "… to access one of the keys used as arguments"; 7.2: "No permissions to access a key"."""
    return isinstance(reply, NoPermissionError) and " access " in str(reply)


def _unpublished_finding(reason: str, store: SnapshotStore) -> DoctorFinding:
    return note_finding(
        f"Snapshots cannot be published under {store.prefix}:* ({reason}): each dashboard process samples on its own.",
    )
