"""`queuedeck audit verify`: whether the stored audit log is whole."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from .actions.audit_chain import signing_key
from .actions.audit_verification import AuditFault, AuditVerification, verify_log
from .backends.monitored_sources import open_sources
from .console import say
from .errors import QueuedeckError
from .settings import Settings
from .store.redis_store import Store
from .units import format_count


class ExitStatus(IntEnum):
    """Exit status of the command."""

    WHOLE = 0
    BROKEN = 1
    UNREADABLE = 2


def verify(settings: Settings, *, as_json: bool, unsigned_before: int = 1) -> int:
    """Print the result and return the exit status: 0 whole, 1 broken, 2 the log cannot be read. Only reads.

    `unsigned_before`: see ChainCheck.
    """
    sources = open_sources(settings)
    keys = [
        signing_key(key, settings.store_prefix) for key in (settings.secret_key, *settings.secret_key_fallbacks) if key
    ]
    try:
        found = verify_log(Store(sources.own), keys, unsigned_before)
    except QueuedeckError as exc:
        if as_json:
            error = {"code": exc.code, "message": exc.message, "hint": exc.hint}
            say(msgspec.json.encode({"status": "unreadable", "error": error}).decode())
        else:
            say(f"The audit log cannot be read: {exc.message.rstrip('.')}. {exc.hint or ''}".rstrip())
        return int(ExitStatus.UNREADABLE)
    finally:
        sources.close()
    if as_json:
        document = {"status": "whole" if found.is_whole else "broken", **msgspec.to_builtins(found)}
        say(msgspec.json.encode(document).decode())
    else:
        for line in _describe(found):
            say(line)
    return int(ExitStatus.WHOLE if found.is_whole else ExitStatus.BROKEN)


def _describe(found: AuditVerification) -> list[str]:
    """The result as lines of text, the verdict first."""
    events = format_count(found.events, "event")
    if found.is_whole:
        lines = [f"The audit log is whole: {events}."]
    else:
        lines = [f"The audit log is BROKEN: {format_count(found.fault_count, 'fault')} in {events}."]
    lines += [f"  {_describe_fault(fault)}" for fault in found.faults]
    if found.fault_count > len(found.faults):
        lines.append(f"  and {found.fault_count - len(found.faults):,} more")
    if found.last is not None:
        lines.append(f"Events {found.first} to {found.last}; the hash of the last one is {found.digest}.")
    if found.unchained:
        lines.append(f"{format_count(found.unchained, 'event')} from before the chain began could not be checked.")
    chained = found.events - found.unchained
    if found.signed is None:
        lines.append("Signatures were not checked: secret_key is not set.")
    elif found.signed < chained:
        lines.append(f"{found.signed:,} of {format_count(chained, 'event')} have a correct signature.")
    elif chained:
        lines.append("All signatures are correct.")
    return lines


def _describe_fault(fault: AuditFault) -> str:
    entry = f" ({fault.entry})" if fault.entry else ""
    place = f"event {fault.number}{entry}: " if fault.number is not None else f"entry{entry}: " if entry else ""
    return f"{place}{fault.kind}: {fault.text}"
