"""The chain of the audit log: what was changed in Redis behind the back of Queuedeck is found."""

from __future__ import annotations

import hashlib
import itertools
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from dashboard.actions import audit_chain, audit_verification
from dashboard.actions.audit_chain import AUDIT, HEAD, AuditChain, signing_key
from dashboard.actions.audit_log import Actor, AuditLog, build_event
from dashboard.actions.audit_verification import AuditVerification, verify_log
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source
from dashboard.store.redis_store import Store
from tests.cases import failures_of

SECRET = "s" * 40
KEYS = (signing_key(SECRET),)
ANNA = Actor(name="anna", role="operator")
Entries = list[tuple[bytes, dict[bytes, bytes]]]


def write(log: AuditLog, count: int, detail: str = "event") -> None:
    for number in range(count):
        log.record_event(build_event(ANNA, "retry", detail=f"{detail} {number}"))


def verify(source: Source, keys: tuple[bytes, ...] = KEYS, unsigned_before: int = 1) -> AuditVerification:
    return verify_log(Store(source), keys, unsigned_before)


def kinds(found: AuditVerification) -> list[str]:
    return [fault.kind for fault in found.faults]


def store(client: redis.Redis, entries: Entries) -> None:
    """Replace the stream by these entries, as one who may write to Redis can."""
    client.delete(AUDIT)
    for number, (_, fields) in enumerate(entries, 1):
        client.xadd(AUDIT, fields, id=f"{number}000-0")  # type: ignore[arg-type]


def chain_again(client: redis.Redis, entries: Entries) -> None:
    """Replace the stream by these entries in this order with correct numbers and hashes, and the head: all that can be
    computed without the secret.
    """
    digest, number = "-", 0
    stored: Entries = []
    for number, (entry_id, fields) in enumerate(entries, 1):
        text = f"{number} {digest} ".encode() + fields[b"seal"] + b"\n" + fields[b"event"]
        before, digest = digest, hashlib.sha1(text, usedforsecurity=False).hexdigest()
        stored.append((entry_id, {**fields, b"link": f"{number} {before} {digest}".encode()}))
    store(client, stored)
    client.set(HEAD, f"{number} {digest} 1")


def edited(entries: Entries) -> Entries:
    fields = entries[3][1]
    return [
        *entries[:3],
        (entries[3][0], {**fields, b"event": fields[b"event"].replace(b"anna", b"eve_")}),
        *entries[4:],
    ]


def swapped(entries: Entries) -> Entries:
    return [*entries[:3], (entries[3][0], entries[4][1]), (entries[4][0], entries[3][1]), *entries[5:]]


def copied(entries: Entries) -> Entries:
    return [*entries, entries[2]]


def foreign(entries: Entries) -> Entries:
    return [*entries[:3], (b"", {b"event": entries[2][1][b"event"]}), *entries[3:]]


# What is done to ten events -> the fault without knowledge of the chain, and with all hashes computed again.
CHANGES: list[tuple[Callable[[Entries], Entries], str, str]] = [
    (edited, "edited", "forged"),
    (swapped, "removed", "removed"),
    (copied, "reordered", "inserted"),
    (lambda entries: entries[:3] + entries[4:], "removed", "removed"),
    (lambda entries: entries[:-1], "removed", ""),  # see the next test
    (lambda entries: entries[1:], "removed", "removed"),
    (lambda _entries: [], "removed", ""),
]


@pytest.mark.parametrize("name", ["signed", "unsigned"])
def test_every_change_of_the_stored_events_is_found(source: Source, redis_client: redis.Redis, name: str) -> None:
    chain = AuditChain(SECRET if name == "signed" else None)
    keys = KEYS if name == "signed" else ()
    write(AuditLog(source, chain), 10)
    assert verify(source, keys).is_whole
    whole: Entries = redis_client.xrange(AUDIT)  # type: ignore[assignment]
    head = redis_client.get(HEAD)
    assert head is not None

    def check(change: Callable[[Entries], Entries], plain: str, computed: str) -> None:
        redis_client.set(HEAD, head)
        store(redis_client, change(whole))
        assert kinds(verify(source, keys))[:1] == [plain]
        if name == "signed" and computed:
            chain_again(redis_client, change(whole))
            assert kinds(verify(source, keys))[:1] == [computed]

    cases: list[tuple[Any, ...]] = [*CHANGES, (foreign, "inserted", "")]
    assert failures_of(check, cases) == {}
    redis_client.set(HEAD, head)
    store(redis_client, whole)
    assert verify(source, keys).is_whole


def test_the_end_cannot_be_removed_unnoticed_while_a_process_that_wrote_it_runs(
    source: Source, redis_client: redis.Redis
) -> None:
    """Even if the head is changed as well: the next event of that process is signed with what it had seen."""
    log = AuditLog(source, AuditChain(SECRET))
    for left in (5, 0):
        redis_client.delete(AUDIT, HEAD)
        log = AuditLog(source, AuditChain(SECRET))
        write(log, 10)
        chain_again(redis_client, redis_client.xrange(AUDIT)[:left])  # type: ignore[arg-type]
        if not left:
            redis_client.delete(HEAD)
        assert verify(source).is_whole
        write(log, 1)
        assert kinds(verify(source)) == ["removed"], left


def test_a_log_without_its_head_is_broken(source: Source, redis_client: redis.Redis) -> None:
    log = AuditLog(source, AuditChain(SECRET))
    write(log, 3)
    redis_client.delete(HEAD)
    assert kinds(verify(source)) == ["removed"]
    write(log, 2)
    assert kinds(verify(source)) == ["restarted"]


def test_events_of_several_processes_are_in_one_chain(source: Source, redis_client: redis.Redis) -> None:
    logs = [AuditLog(source, AuditChain(SECRET)) for _ in range(3)]
    order = [0, 1, 2, 2, 1, 0, 0, 1, 2, 1]
    for number in order:
        write(logs[number], 1, f"process {number}")
    found = verify(source)
    assert (found.is_whole, found.first, found.last, found.signed) == (True, 1, len(order), len(order))
    with measure_cost() as meter:
        write(logs[0], 1)
    assert (meter.round_trips, meter.commands) == (1, 1)


def test_keys_are_replaced_and_unsigned_events_are_counted(source: Source) -> None:
    old, new = AuditLog(source, AuditChain("o" * 40)), AuditLog(source, AuditChain(SECRET))
    write(AuditLog(source), 2)
    write(old, 2)
    write(new, 1)
    both = (signing_key(SECRET), signing_key("o" * 40))
    found = verify(source, both)
    assert (kinds(found), found.signed, found.faults[0].number) == (["unsigned"], 3, 1)
    found = verify(source, both, 3)
    assert (found.is_whole, found.signed) == (True, 3)
    assert kinds(verify(source, KEYS, 3)) == ["forged", "forged"]
    assert (verify(source, ()).is_whole, verify(source, ()).signed) == (True, None)
    write(AuditLog(source), 1)
    assert kinds(verify(source, both, 3)) == ["unsigned"]
    # A signature is for the keys of one store prefix.
    assert kinds(verify(source, (signing_key(SECRET, "{other}"),), 5)) == ["forged", "forged", "forged", "unsigned"]


def test_a_log_whose_signatures_were_removed_is_not_whole(source: Source, redis_client: redis.Redis) -> None:
    write(AuditLog(source, AuditChain(SECRET)), 10)
    entries = [(entry, fields[b"event"].replace(b"anna", b"eve_")) for entry, fields in redis_client.xrange(AUDIT)]
    fields = [
        (entry, {b"event": event, b"seal": b"%032d 0 - -" % number, b"link": b"- - -"})
        for number, (entry, event) in enumerate(entries)
    ]
    chain_again(redis_client, fields)
    for _ in range(2):
        assert kinds(verify(source)) == ["unsigned"]
        write(AuditLog(source, AuditChain(SECRET)), 5)  # of a process that knows none of them
    redis_client.delete(AUDIT, HEAD)
    for number, (_, event) in enumerate(entries, 1):
        redis_client.xadd(AUDIT, {"event": event}, id=f"{number}000-0")
    for _ in range(2):
        assert kinds(verify(source)) == ["unsigned"]
        write(AuditLog(source, AuditChain(SECRET)), 5)
    assert verify(source, KEYS, 2).is_whole


def test_an_event_that_is_added_again_later_is_found(source: Source, redis_client: redis.Redis) -> None:
    """When the original has been trimmed."""
    write(AuditLog(source, AuditChain(SECRET)), 1)
    (_, fields) = redis_client.xrange(AUDIT)[0]
    later = int(time.time() * 1000) + 2 * 86_400_000
    redis_client.delete(AUDIT)
    redis_client.xadd(AUDIT, fields, id=f"{later}-0")
    assert kinds(verify(source)) == ["inserted"]


def test_what_the_settings_trim_is_not_missing(source: Source, redis_client: redis.Redis) -> None:
    redis_client.config_set("stream-node-max-entries", 10)
    try:
        log = AuditLog(source, AuditChain(SECRET, max_events=25))
        write(log, 70)
        found = verify(source)
        assert (found.is_whole, found.last) == (True, 70)
        assert 25 <= found.events <= 35
        redis_client.xtrim(AUDIT, maxlen=20, approximate=False)
        assert kinds(verify(source)) == ["removed"]
        write(log, 30)
        assert kinds(verify(source)) == ["removed"]  # trimming does not hide it
    finally:
        redis_client.config_set("stream-node-max-entries", 100)


def test_old_events_are_trimmed_by_their_age(source: Source, redis_client: redis.Redis) -> None:
    """The time of an entry is that of Redis. Entries from before the chain began are counted, and trimmed first."""
    for number in range(150):
        redis_client.xadd(AUDIT, {"event": "{}"}, id=f"{1_000_000 + number}-0")
    kept = AuditLog(source, AuditChain(SECRET))
    write(kept, 1)
    assert (verify(source, KEYS, 2).is_whole, verify(source).unchained) == (True, 150)
    log = AuditLog(source, AuditChain(SECRET, max_age_s=86_400.0))
    left = []
    for _ in range(3):
        write(log, 1)
        found = verify(source, KEYS, 2)
        assert found.is_whole, found.faults
        left.append((found.unchained, found.events - found.unchained))
    assert left == [(50, 2), (0, 3), (0, 4)]
    aged: Entries = redis_client.xrange(AUDIT)  # type: ignore[assignment]
    store(redis_client, aged)
    write(log, 1)
    found = verify(source, KEYS, 2)
    assert (found.is_whole, found.first, found.last, found.events) == (True, 5, 5, 1)


def test_events_that_are_trimmed_while_the_log_is_read_are_not_missing(
    source: Source, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_verification, "READ_AT_ONCE", 4)
    log = AuditLog(source, AuditChain(SECRET, max_events=5))
    redis_client.config_set("stream-node-max-entries", 4)
    try:
        write(AuditLog(source, AuditChain(SECRET)), 40)
        own = Store(source)
        read, calls = own.read_keys, itertools.count()

        def read_keys(*commands: Any) -> Any:
            replies = read(*commands)
            if next(calls) == 2:
                write(log, 1)
            return replies

        monkeypatch.setattr(own, "read_keys", read_keys)
        found = verify_log(own, KEYS)
        assert (found.is_whole, found.last) == (True, 41)
        assert found.events < 20
    finally:
        redis_client.config_set("stream-node-max-entries", 100)


def test_a_hostile_log_is_broken_and_does_no_harm(
    source: Source, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(AuditLog(source, AuditChain(SECRET)), 3)
    draw = random.Random(7)
    parts = [
        b"",
        b"\xff\xfe\0",
        b"9" * 400,
        b"1 2 3",
        b"-1 - -",
        b"1 " + b"0" * 40 + b" " + b"f" * 40,
        b"\n",
        b"{}",
        b"x " * 5,
    ]
    for _ in range(120):
        names = draw.choice(
            [(b"event", b"seal", b"link"), (b"event",), (b"link", b"event", b"seal"), (b"event", b"event")]
        )
        pairs = [part for name in names for part in (name, draw.choice(parts))]
        redis_client.execute_command("XADD", AUDIT, "*", *pairs)
    found = verify(source)
    assert not found.is_whole
    assert len(found.faults) == audit_verification.MAX_FAULTS < found.fault_count
    monkeypatch.setattr(audit_verification, "MAX_ENTRIES", 50)
    assert verify(source).events < 1_000
    for value in (b"", b"1 2", b"1 " + b"f" * 40 + b" 99999999999999999999", b"\xff", b"9" * 5_000):
        redis_client.set(HEAD, value)
        assert not verify(source).is_whole
    redis_client.delete(AUDIT)
    redis_client.set(AUDIT, "text")
    redis_client.delete(HEAD)
    assert verify(source).events == 0


def test_a_head_that_is_not_one_starts_a_new_chain(source: Source, redis_client: redis.Redis) -> None:
    for value in ("", "nothing", "9" * 400, f"1 {'g' * 40} 1", f"{'9' * 16} {'0' * 40} 1"):
        redis_client.delete(AUDIT)
        redis_client.set(HEAD, value)
        log = AuditLog(source)
        write(log, 2)
        assert verify(source, ()).is_whole, value
    redis_client.delete(AUDIT, HEAD)
    redis_client.lpush(HEAD, "a list")
    write(AuditLog(source), 2)
    assert verify(source, ()).is_whole


def test_an_event_that_cannot_be_stored_leaves_the_chain_whole(
    source: Source, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    log = AuditLog(source, AuditChain(SECRET))
    write(log, 3)
    redis_client.execute_command("ACL", "SETUSER", "default", "-xadd")
    write(log, 1)
    assert "an action could not be stored in the audit stream" in caplog.text
    redis_client.execute_command("ACL", "SETUSER", "default", "+xadd")
    write(log, 2)
    found = verify(source)
    assert (found.is_whole, found.last) == (True, 5)


def test_the_secret_is_not_in_redis(source: Source, redis_client: redis.Redis) -> None:
    write(AuditLog(source, AuditChain(SECRET)), 1)
    ((_, fields),) = redis_client.xrange(AUDIT)
    stored = b"".join(fields.values())
    assert SECRET.encode() not in stored
    assert signing_key(SECRET).hex().encode() not in stored
    assert audit_chain.read_link([part for pair in fields.items() for part in pair]) is not None
