"""Events of the audit log by person, action, place, result and time."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from msgspec.structs import replace

from dashboard.actions.audit_chain import AUDIT, HEAD, RECORD, AuditChain
from dashboard.actions.audit_filter import NOT_DONE, AuditFilter
from dashboard.actions.audit_log import Actor, AuditEvent, AuditLog, build_event, encode_event
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source

ANNA, BOB = (Actor(name=name, role="operator") for name in ("Anna", "bob"))


@pytest.fixture
def audit_log(source: Source, redis_client: redis.Redis) -> AuditLog:
    return AuditLog(source)


def write(audit_log: AuditLog, *events: AuditEvent) -> None:
    """Store events, oldest first, in one round trip."""
    script = f"{RECORD} for n = 1, #ARGV do record(KEYS[1], KEYS[2], ARGV[n]) end"
    for start in range(0, len(events), 1_000):
        chunk = events[start : start + 1_000]
        audit_log._store.run_script(
            script, (AUDIT, HEAD), *(AuditChain().pack_event(encode_event(event)) for event in chunk)
        )


def retry(actor: Actor = ANNA, **fields: Any) -> AuditEvent:
    fields.setdefault("outcomes", {"done": 1})
    return build_event(actor, "retry", count=1, **fields)


FILTERS: list[tuple[dict[str, Any], str]] = [
    ({}, "abcde"),
    ({"who": "anna"}, "abde"),
    ({"who": "AN*"}, "abde"),
    ({"action": "edit rule"}, "e"),
    ({"source": "second"}, "c"),
    ({"queue": "mail"}, "a"),
    ({"queue": "mail*"}, "ab"),
    ({"outcome": "done"}, "abe"),
    ({"outcome": "gone"}, "b"),
    ({"outcome": NOT_DONE}, "bcd"),
    ({"bulk_id": "b1"}, "d"),
    ({"since_s": 200.0, "until_s": 300.0}, "bc"),
    ({"who": "anna", "outcome": NOT_DONE}, "bd"),
]


@pytest.mark.parametrize(("wanted", "found"), FILTERS, ids=lambda value: str(value)[:40])
def test_a_filter_matches(audit_log: AuditLog, redis_client: redis.Redis, wanted: dict[str, Any], found: str) -> None:
    events = (
        retry(source="main", queue="mail", detail="a"),
        retry(source="main", queue="mails", outcomes={"done": 1, "gone": 2}, detail="b"),
        retry(BOB, source="second", queue="cash", outcomes={"refused": 1}, detail="c"),
        retry(bulk_id="b1", outcomes={}, detail="d"),
        replace(build_event(ANNA, "edit rule", ids=["deep"]), detail="e"),
    )
    for number, event in enumerate(events, 1):
        body = encode_event(replace(event, at=100.0 * number))
        redis_client.xadd(AUDIT, {"event": body}, id=f"{number * 100_000}-0")
    page = audit_log.list_page(AuditFilter(**wanted))
    assert "".join(sorted(event.detail or "" for event in page.events)) == found
    assert page.next_before is None
    assert page.scanned == len(events)


def test_pages_of_a_filter_hold_each_event_once(audit_log: AuditLog) -> None:
    """Matches are far apart: a request reads until its page is full or the log ends."""
    write(audit_log, *(retry(BOB if n % 50 == 0 else ANNA, detail=str(n)) for n in range(2_500)))
    seen: list[str | None] = []
    before: str | None = None
    for _ in range(3):
        page = audit_log.list_page(AuditFilter(who="bob"), count=20, before=before)
        seen += [event.detail for event in page.events]
        before = page.next_before
    assert before is None
    assert seen == [str(n) for n in range(2_450, -1, -50)]


def test_an_unreadable_event_does_not_end_the_pages(audit_log: AuditLog, redis_client: redis.Redis) -> None:
    write(audit_log, *(retry(detail=str(n)) for n in range(5)))
    for _ in range(5):
        redis_client.xadd(AUDIT, {"event": "{"})
    write(audit_log, *(retry(detail=str(n)) for n in range(5, 8)))
    first = audit_log.list_page(AuditFilter(), count=5)
    assert [event.detail for event in first.events] == ["7", "6", "5", "4", "3"]
    second = audit_log.list_page(AuditFilter(), count=5, before=first.next_before)
    assert [event.detail for event in second.events] == ["2", "1", "0"]
    assert second.next_before is None


def test_times_limit_what_is_read(audit_log: AuditLog, redis_client: redis.Redis) -> None:
    """The ids of entries are times: old and new ones are not read at all."""
    for at in (1_000_000, 2_000_000, 3_000_000):
        body = encode_event(replace(retry(detail=str(at)), at=float(at)))
        redis_client.xadd(AUDIT, {"event": body}, id=f"{at * 1000}-0")
    page = audit_log.list_page(AuditFilter(since_s=1_500_000.0, until_s=2_500_000.0))
    assert [event.detail for event in page.events] == ["2000000"]
    assert page.scanned == 1
    later = audit_log.list_page(AuditFilter(until_s=2_500_000.0), before="3000000000-0")
    assert [event.detail for event in later.events] == ["2000000", "1000000"]


def test_the_cost_of_a_filter_is_bounded(audit_log: AuditLog) -> None:
    write(audit_log, *(retry(detail=str(n)) for n in range(2_500)))
    with measure_cost() as meter:
        audit_log.list_page(AuditFilter())
    assert meter.round_trips == 1
    with measure_cost() as meter:
        assert audit_log.list_page(AuditFilter(who="carla")).scanned == 2_500
    assert meter.round_trips == 3
