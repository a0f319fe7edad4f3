"""Annotations of error groups: statuses, texts of users, bounds, foreign values. On all versions of Redis."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import msgspec
import pytest
import redis

from dashboard.clock import now_s
from dashboard.dead_letters import annotations as keys
from dashboard.dead_letters.annotations import QUIET_S, STATUS_S, Annotation, AnnotationStore
from dashboard.dead_letters.fingerprint import normalize_error
from dashboard.dead_letters.groups import ErrorGroup, GroupMember
from dashboard.dead_letters.index import DeadLetter
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import QueueRef, State
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source
from dashboard.store.redis_store import Store


@pytest.fixture
def annotation_store(any_server: EmbeddedRedis, any_redis: redis.Redis) -> Iterator[AnnotationStore]:
    source = Source("main", any_server.url)
    yield AnnotationStore(Store(source))
    source.close()


def group(
    message: str = "a",
    *,
    first: float | None = None,
    last: float | None = None,
    count: int = 1,
    whole: bool = True,
    deaths: tuple[float, ...] = (),
) -> ErrorGroup:
    error = normalize_error("E", message)
    ref = QueueRef(source="main", backend="rq", key="rq:queue:mail", name="mail")
    return ErrorGroup(
        error=error,
        count=count,
        first_at=first,
        last_at=last,
        trend=(0,) * 12,
        queues=(),
        members=tuple(
            GroupMember(ref, State.DEAD, DeadLetter(error, str(at), None, "mail", None, at, None, message))
            for at in deaths
        ),
        whole=whole,
    )


def statuses(annotation_store: AnnotationStore, found: ErrorGroup) -> tuple[str, ...]:
    annotations = annotation_store.sync_groups([found])
    assert annotations.problem is None
    return annotations.of(found.error.fingerprint).statuses(found, now_s())


def acknowledged_by(name: str, annotation_store: AnnotationStore) -> dict[str, str | float | None]:
    return {"ack_by": name, "ack_at": annotation_store.now_s()}


def test_an_unseen_group_is_new_until_it_is_acknowledged_or_resolved(annotation_store: AnnotationStore) -> None:
    now = now_s()
    found = group(first=now - 90_000, last=now - 5)
    assert statuses(annotation_store, found) == ("new",)
    assert statuses(annotation_store, found) == ("new",)
    assert annotation_store.update_annotation(found.error.fingerprint, acknowledged_by("anna", annotation_store))
    assert statuses(annotation_store, found) == ("acknowledged",)
    assert annotation_store.read_annotation(found.error.fingerprint).ack_by == "anna"


def test_the_status_new_ends_after_a_day() -> None:
    seen = Annotation(first_at=1000.0, newest_at=1000.0)
    assert seen.statuses(None, 1000.0 + STATUS_S - 1) == ("new",)
    assert seen.statuses(None, 1000.0 + STATUS_S + 1) == ()


def test_a_group_that_was_quiet_regresses_which_ends_its_acknowledgement(annotation_store: AnnotationStore) -> None:
    now = annotation_store.now_s()
    statuses(annotation_store, group(first=now - 9000, last=now - 2 * QUIET_S, whole=False))
    annotation_store.update_annotation(group().error.fingerprint, acknowledged_by("anna", annotation_store))
    again = group(first=now - 9000, last=now, whole=False)
    assert statuses(annotation_store, again) == ("regressed",)
    annotation_store.update_annotation(again.error.fingerprint, acknowledged_by("ben", annotation_store))
    assert statuses(annotation_store, again) == ("acknowledged",)


def test_a_continuing_group_does_not_regress(annotation_store: AnnotationStore) -> None:
    now = now_s()
    statuses(annotation_store, group(first=now - 9000, last=now - 600))
    assert statuses(annotation_store, group(first=now - 9000, last=now)) == ("new",)
    # If the list was not read to its end, it is unknown whether the older jobs still exist.
    assert statuses(annotation_store, group(first=now - 1, last=now, whole=False)) == ("new",)


def test_a_group_whose_jobs_were_all_retried_regresses_with_the_next_death(annotation_store: AnnotationStore) -> None:
    now = now_s()
    statuses(annotation_store, group(first=now - 60, last=now - 50))
    assert statuses(annotation_store, group(first=now - 5, last=now - 5)) == ("regressed",)


def test_a_resolved_group_regresses_with_the_next_death(annotation_store: AnnotationStore) -> None:
    now = now_s()
    found = group(first=now - 60, last=now - 50)
    statuses(annotation_store, found)
    annotation_store.update_annotation(found.error.fingerprint, {"resolved_by": "anna", "resolved_at": now})
    assert statuses(annotation_store, found) == ("resolved",)
    assert statuses(annotation_store, group(first=now - 60, last=now + 1)) == ("regressed",)


def test_a_resolved_group_that_continues_stays_acknowledged_after_its_regression(
    annotation_store: AnnotationStore,
) -> None:
    now = annotation_store.now_s()
    fingerprint = group().error.fingerprint
    statuses(annotation_store, group(first=now - 900, last=now - 800, whole=False))
    annotation_store.update_annotation(fingerprint, {"resolved_by": "anna", "resolved_at": now - 700})
    again = group(first=now - 900, last=now - 600, whole=False)
    assert statuses(annotation_store, again) == ("regressed",)
    found = annotation_store.read_annotation(fingerprint)
    assert found.back_at is not None
    assert found.back_at >= now
    annotation_store.update_annotation(fingerprint, acknowledged_by("ben", annotation_store))
    # The next deaths are no second regression.
    later = group(first=now - 900, last=annotation_store.now_s() + 5, whole=False)
    assert statuses(annotation_store, later) == ("acknowledged",)
    assert annotation_store.read_annotation(fingerprint).resolved_by == "anna"


def test_a_regression_began_with_the_first_death_after_the_resolution() -> None:
    resolved = Annotation(first_at=0.0, newest_at=300.0, resolved_by="anna", resolved_at=100.0)
    deaths = group(first=50.0, last=300.0, deaths=(300.0, 200.0, 50.0))
    assert resolved.regressed_since(deaths) == 200.0
    noticed = msgspec.structs.replace(resolved, back_at=250.0)
    assert noticed.regressed_since(deaths) == 200.0
    assert noticed.statuses(deaths, 300.0) == ("regressed",)
    # Only a regression after an acknowledgement counts.
    acknowledged = msgspec.structs.replace(noticed, ack_by="ben", ack_at=260.0)
    assert acknowledged.statuses(deaths, 300.0) == ("acknowledged",)
    again = msgspec.structs.replace(acknowledged, back_at=290.0)
    assert again.regressed_since(deaths) == 290.0
    assert again.statuses(deaths, 300.0) == ("regressed",)
    # A resolution ends it.
    over = msgspec.structs.replace(again, resolved_at=310.0)
    assert over.regressed_since(deaths) is None
    assert over.statuses(deaths, 320.0)[-1] == "resolved"
    assert "regressed" not in over.statuses(deaths, 320.0)


def test_a_group_is_ignored_until_a_time_or_a_count(annotation_store: AnnotationStore) -> None:
    now = now_s()
    found = group(last=now)
    statuses(annotation_store, found)
    annotation_store.update_annotation(found.error.fingerprint, {"ignored_by": "anna", "ignored_until": now + 60})
    assert "ignored" in statuses(annotation_store, found)
    annotation = annotation_store.read_annotation(found.error.fingerprint)
    assert not annotation.is_ignored(1, now + 61)
    annotation_store.update_annotation(found.error.fingerprint, {"ignored_until": None, "ignored_above": 10})
    annotation = annotation_store.read_annotation(found.error.fingerprint)
    assert (annotation.is_ignored(10, now), annotation.is_ignored(11, now)) == (True, False)
    annotation_store.update_annotation(found.error.fingerprint, {"ignored_above": None})
    assert "ignored" not in statuses(annotation_store, found)


def test_texts_of_users_are_stored_unchanged_up_to_their_limit(annotation_store: AnnotationStore) -> None:
    found = group(last=1.0)
    statuses(annotation_store, found)
    text = "<script>alert(1)</script>\0\udcff:note '\"{queuedeck}\n日本" + "x" * 5000
    annotation_store.update_annotation(found.error.fingerprint, {"owner": text, "note": text})
    annotation = annotation_store.read_annotation(found.error.fingerprint)
    assert annotation.note is not None
    assert annotation.owner is not None
    assert annotation.note.startswith("<script>alert(1)</script>\0?:note '\"{queuedeck}\n日本x")
    assert (len(annotation.owner), len(annotation.note)) == (keys.MAX_NAME, keys.MAX_NOTE)


def test_an_unknown_group_cannot_be_annotated(annotation_store: AnnotationStore, any_redis: redis.Redis) -> None:
    assert not annotation_store.update_annotation("0" * 16, {"note": "x"})
    assert any_redis.exists(keys.GROUPS, keys.SEEN) == 0


def test_the_least_recently_seen_are_dropped(
    annotation_store: AnnotationStore, any_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "MAX_KEPT", 20)
    old = [group(f"old {'x' * n}", last=1.0) for n in range(20)]
    annotation_store.sync_groups(old)
    for each in old:
        annotation_store.update_annotation(each.error.fingerprint, {"note": "n", "owner": "o"})
    new = [group(f"new {'x' * n}", last=1.0) for n in range(15)]
    annotation_store.sync_groups(new)
    annotation_store.sync_groups(new)
    assert any_redis.zcard(keys.SEEN) == 20
    left = {field.decode().partition(":")[0] for field in any_redis.hkeys(keys.GROUPS)}
    assert left == {member.decode() for member in any_redis.zrange(keys.SEEN, 0, -1)}
    assert {each.error.fingerprint for each in new} <= left


@pytest.mark.parametrize("value", [b"", b"nan", b"inf", b"-1", b"1e999", b"\xff\xfe", b"x" * 100_000, b"0x10", b"null"])
def test_foreign_values_count_as_missing(
    annotation_store: AnnotationStore, any_redis: redis.Redis, value: bytes
) -> None:
    found = group(last=now_s())
    annotation_store.sync_groups([found])
    for field in keys.FIELDS:
        any_redis.hset(keys.GROUPS, f"{found.error.fingerprint}:{field}", value)
    annotations = annotation_store.sync_groups([found])
    assert annotations.problem is None
    annotation = annotations.of(found.error.fingerprint)
    assert annotation.ack_at is None
    assert annotation.ignored_until is None
    assert len(annotation.note or "") <= keys.MAX_NOTE
    assert isinstance(annotation.statuses(found, now_s()), tuple)


@pytest.mark.parametrize("key", [keys.GROUPS, keys.SEEN])
def test_keys_of_the_wrong_type_are_moved_aside(
    annotation_store: AnnotationStore, any_redis: redis.Redis, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    any_redis.set(key, "something else")
    found = group(last=1.0)
    annotations = annotation_store.sync_groups([found])
    assert annotations.problem is None
    assert annotations.of("0" * 16) == Annotation()
    assert annotations.of(found.error.fingerprint).first_at is not None
    assert [line.partition(":aside:")[2] for line in caplog.messages] == [key.partition(":")[2]]


def test_a_redis_user_without_write_access_is_reported(any_server: EmbeddedRedis, any_redis: redis.Redis) -> None:
    any_redis.acl_setuser("looker", enabled=True, nopass=True, keys=["*"], commands=["+@read", "+@connection", "+eval"])
    for rights in ("+eval", "-eval"):
        any_redis.execute_command("ACL", "SETUSER", "looker", rights)
        source = Source("main", any_server.url.replace("redis://", "redis://looker:x@"))
        annotations = AnnotationStore(Store(source)).sync_groups([group(last=1.0)])
        source.close()
        assert annotations.problem is not None
        assert "is not allowed to write" in annotations.problem, annotations.problem
    any_redis.acl_deluser("looker")


def test_a_thousand_groups_take_few_round_trips_of_a_bounded_size(annotation_store: AnnotationStore) -> None:
    messages = ["".join(letters) for letters in itertools.product("abcdefghij", repeat=3)]
    found = [group(message, last=now_s()) for message in messages]
    assert len({each.error.fingerprint for each in found}) == 1000
    with measure_cost() as meter:
        assert len(annotation_store.sync_groups(found).by_fingerprint) == len(found)
    calls = -(-len(found) // keys.GROUPS_PER_CALL)
    assert calls <= meter.round_trips <= calls + 2  # one more on a server without flags
