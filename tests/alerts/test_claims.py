"""A message is queued once per id, and only the process with its claim can fail it."""

from __future__ import annotations

import pytest
import redis

from dashboard.alerts import keys
from dashboard.alerts.delivery.notification_claim import DeliveryAttempt, NotificationClaim
from dashboard.alerts.delivery.outbox import Outbox
from dashboard.alerts.delivery.outbox_claims import OutboxClaims
from dashboard.alerts.notification import Notification, QueuedNotification
from dashboard.alerts.rules.rule import Severity
from dashboard.alerts.store import AlertStore
from dashboard.sources.source import Source
from dashboard.store.redis_store import LEAD, PREFIX, Store

LEADER, BORN = "here:1", "data-1"


@pytest.fixture
def outbox(source: Source) -> Outbox:
    return Outbox(Store(source))


@pytest.fixture
def claims(source: Source) -> OutboxClaims:
    return OutboxClaims(Store(source))


def queued(kind: str = "firing", number: int = 1) -> QueuedNotification:
    notification = Notification(
        kind=kind,
        number=number,
        episode="e1",
        fingerprint="fp1",
        rule_id="deep",
        rule_name="Deep",
        metric="queue.depth",
        severity=Severity.CRITICAL,
        at=1.0,
    )
    return QueuedNotification(notification=notification, channel="ops", due_at=1.0)


def attempt(claim: NotificationClaim, outcome: str) -> DeliveryAttempt:
    return DeliveryAttempt(
        id=claim.id,
        channel="ops",
        kind="firing",
        rule_id="deep",
        rule_name="Deep",
        severity="critical",
        at=1.0,
        outcome=outcome,
    )


def claim(claims: OutboxClaims, token: str) -> NotificationClaim:
    found = claims.claim_next("ops", token, groups=False, spacing_s=0)
    assert found is not None
    return found


def message(client: redis.Redis, name: str) -> dict[bytes, bytes]:
    return client.hgetall(f"{PREFIX}:msg:{name}")


@pytest.mark.parametrize("outcome", ["dead", "skipped"])
def test_a_process_that_lost_its_claim_cannot_fail_or_skip_the_message(
    outbox: Outbox, claims: OutboxClaims, redis_client: redis.Redis, outcome: str
) -> None:
    assert outbox.enqueue(queued())
    slow = claim(claims, "slow")
    redis_client.zadd(keys.due_key("ops"), {slow.id: 0})  # the claim has expired
    quick = claim(claims, "quick")
    assert quick.id == slow.id
    before = message(redis_client, slow.id)
    assert not claims.close_claim(slow, outcome, attempt(slow, outcome))
    assert message(redis_client, slow.id) == before
    assert before[b"state"] == b"sending"
    assert redis_client.zcard(keys.DEAD) == 0
    assert redis_client.zcard(keys.UNSENT) == 1
    assert claims.close_claim(quick, "sent", attempt(quick, "sent"))
    assert message(redis_client, quick.id)[b"state"] == b"sent"


def test_a_process_that_sent_after_losing_its_claim_closes_it(
    outbox: Outbox, claims: OutboxClaims, redis_client: redis.Redis
) -> None:
    assert outbox.enqueue(queued())
    slow = claim(claims, "slow")
    redis_client.zadd(keys.due_key("ops"), {slow.id: 0})
    quick = claim(claims, "quick")
    assert claims.close_claim(slow, "sent", attempt(slow, "sent"))
    assert not claims.close_claim(quick, "dead", attempt(quick, "dead"))
    assert message(redis_client, slow.id)[b"state"] == b"sent"


@pytest.mark.parametrize("state", ["queued", "sending", "sent", "dead"])
def test_a_message_with_a_known_id_is_not_queued_again(
    claims: OutboxClaims, source: Source, redis_client: redis.Redis, state: str
) -> None:
    """A leader that does not know whether its commit arrived repeats it; another leader may commit the same."""
    store = AlertStore(Store(source))
    redis_client.set(LEAD, LEADER)
    redis_client.set(keys.BORN, BORN)
    store.commit_states(LEADER, BORN, {}, [], [queued()])
    if state != "queued":
        taken = claim(claims, "here")
        if state != "sending":
            assert claims.close_claim(taken, state, attempt(taken, state))
    every = sorted(key for key in redis_client.scan_iter(f"{PREFIX}:*"))
    before = {key: redis_client.dump(key) for key in every}
    store.commit_states(LEADER, BORN, {}, [], [queued()])
    assert {key: redis_client.dump(key) for key in sorted(redis_client.scan_iter(f"{PREFIX}:*"))} == before
    store.commit_states(LEADER, BORN, {}, [], [queued("resolved", 2)])
    assert redis_client.zcard(keys.UNSENT) == (2 if state in ("queued", "sending") else 1)
