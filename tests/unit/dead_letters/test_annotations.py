"""What is remembered of error groups: marks, people's words, bounds, a store that holds other things. Both Redis."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import redis

from dashboard.clock import now_s
from dashboard.dead_letters import annotations as keys
from dashboard.dead_letters.annotations import MARK_S, QUIET_S, Annotation, AnnotationStore
from dashboard.dead_letters.fingerprint import of_error
from dashboard.dead_letters.groups import ErrorGroup
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source
from dashboard.store.redis_store import Store


@pytest.fixture
def book(any_server: EmbeddedRedis, any_redis: redis.Redis) -> Iterator[AnnotationStore]:
    source = Source("main", any_server.url)
    yield AnnotationStore(Store(source))
    source.close()


def group(
    message: str = "a", *, first: float | None = None, last: float | None = None, count: int = 1, whole: bool = True
) -> ErrorGroup:
    return ErrorGroup(
        kind=of_error("E", message),
        count=count,
        first_at=first,
        last_at=last,
        trend=(0,) * 12,
        spots=(),
        jobs=(),
        whole=whole,
    )


def marks(book: AnnotationStore, found: ErrorGroup) -> tuple[str, ...]:
    annotations = book.sync_groups([found])
    assert annotations.problem is None
    return annotations.of(found.kind.id).marks(found, now_s())


def test_an_unseen_group_is_new_until_it_is_acknowledged_or_resolved(book: AnnotationStore) -> None:
    now = now_s()
    found = group(first=now - 90_000, last=now - 5)
    assert marks(book, found) == ("new",)
    assert marks(book, found) == ("new",)
    assert book.update_annotation(found.kind.id, keys.acknowledgement_fields("anna", book.now_s()))
    assert marks(book, found) == ("acknowledged",)
    assert book.read_annotation(found.kind.id).ack_by == "anna"


def test_new_fades_after_a_day() -> None:
    seen = Annotation(first_at=1000.0, newest_at=1000.0)
    assert seen.marks(None, 1000.0 + MARK_S - 1) == ("new",)
    assert seen.marks(None, 1000.0 + MARK_S + 1) == ()


def test_a_group_that_was_quiet_comes_back_and_that_ends_the_acknowledgement(book: AnnotationStore) -> None:
    now = book.now_s()
    marks(book, group(first=now - 9000, last=now - 2 * QUIET_S, whole=False))
    book.update_annotation(group().kind.id, keys.acknowledgement_fields("anna", book.now_s()))
    again = group(first=now - 9000, last=now, whole=False)
    assert marks(book, again) == ("regressed",)
    book.update_annotation(again.kind.id, keys.acknowledgement_fields("ben", book.now_s()))
    assert marks(book, again) == ("acknowledged",)


def test_a_continuing_group_does_not_regress(book: AnnotationStore) -> None:
    now = now_s()
    marks(book, group(first=now - 9000, last=now - 600))
    assert marks(book, group(first=now - 9000, last=now)) == ("new",)
    # Of a list that was not read to its end nobody knows whether the older ones are gone.
    assert marks(book, group(first=now - 1, last=now, whole=False)) == ("new",)


def test_a_group_whose_jobs_were_all_retried_comes_back_with_the_next_death(book: AnnotationStore) -> None:
    now = now_s()
    marks(book, group(first=now - 60, last=now - 50))
    assert marks(book, group(first=now - 5, last=now - 5)) == ("regressed",)


def test_a_resolved_group_comes_back_with_the_next_death(book: AnnotationStore) -> None:
    now = now_s()
    found = group(first=now - 60, last=now - 50)
    marks(book, found)
    book.update_annotation(found.kind.id, {"resolved_by": "anna", "resolved_at": now})
    assert marks(book, found) == ("resolved",)
    assert marks(book, group(first=now - 60, last=now + 1)) == ("regressed",)


def test_a_group_is_ignored_until_a_time_or_a_count(book: AnnotationStore) -> None:
    now = now_s()
    found = group(last=now)
    marks(book, found)
    book.update_annotation(found.kind.id, {"ignored_by": "anna", "ignored_until": now + 60})
    assert "ignored" in marks(book, found)
    annotation = book.read_annotation(found.kind.id)
    assert not annotation.is_ignored(1, now + 61)
    book.update_annotation(found.kind.id, {"ignored_until": None, "ignored_above": 10})
    annotation = book.read_annotation(found.kind.id)
    assert (annotation.is_ignored(10, now), annotation.is_ignored(11, now)) == (True, False)
    book.update_annotation(found.kind.id, {"ignored_above": None})
    assert "ignored" not in marks(book, found)


def test_words_are_kept_as_they_were_said_whatever_they_are(book: AnnotationStore) -> None:
    found = group(last=1.0)
    marks(book, found)
    text = "<script>alert(1)</script>\0\udcff:note '\"{queuedeck}\n日本" + "x" * 5000
    book.update_annotation(found.kind.id, {"owner": text, "note": text})
    annotation = book.read_annotation(found.kind.id)
    assert annotation.note is not None
    assert annotation.owner is not None
    assert annotation.note.startswith("<script>alert(1)</script>\0?:note '\"{queuedeck}\n日本x")
    assert (len(annotation.owner), len(annotation.note)) == (keys.MAX_NAME, keys.MAX_NOTE)


def test_nothing_is_said_of_a_group_that_is_not_known(book: AnnotationStore, any_redis: redis.Redis) -> None:
    assert not book.update_annotation("0" * 16, {"note": "x"})
    assert any_redis.exists(keys.GROUPS, keys.SEEN) == 0


def test_the_least_recently_seen_are_dropped(
    book: AnnotationStore, any_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "MAX_KEPT", 20)
    old = [group(f"old {'x' * n}", last=1.0) for n in range(20)]
    book.sync_groups(old)
    for each in old:
        book.update_annotation(each.kind.id, {"note": "n", "owner": "o"})
    new = [group(f"new {'x' * n}", last=1.0) for n in range(15)]
    book.sync_groups(new)
    book.sync_groups(new)
    assert any_redis.zcard(keys.SEEN) == 20
    left = {field.decode().partition(":")[0] for field in any_redis.hkeys(keys.GROUPS)}
    assert left == {member.decode() for member in any_redis.zrange(keys.SEEN, 0, -1)}
    assert {each.kind.id for each in new} <= left


@pytest.mark.parametrize("value", [b"", b"nan", b"inf", b"-1", b"1e999", b"\xff\xfe", b"x" * 100_000, b"0x10", b"null"])
def test_foreign_values_count_as_missing(book: AnnotationStore, any_redis: redis.Redis, value: bytes) -> None:
    found = group(last=now_s())
    book.sync_groups([found])
    for word in keys.WORDS:
        any_redis.hset(keys.GROUPS, f"{found.kind.id}:{word}", value)
    annotations = book.sync_groups([found])
    assert annotations.problem is None
    annotation = annotations.of(found.kind.id)
    assert annotation.ack_at is None
    assert annotation.ignored_until is None
    assert len(annotation.note or "") <= keys.MAX_NOTE
    assert isinstance(annotation.marks(found, now_s()), tuple)


@pytest.mark.parametrize("key", [keys.GROUPS, keys.SEEN])
def test_keys_of_the_wrong_type_are_moved_aside(
    book: AnnotationStore, any_redis: redis.Redis, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    any_redis.set(key, "something else")
    found = group(last=1.0)
    annotations = book.sync_groups([found])
    assert annotations.problem is None
    assert annotations.of("0" * 16) == Annotation()
    assert annotations.of(found.kind.id).first_at is not None
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


def test_a_thousand_groups_take_few_round_trips_of_a_bounded_size(book: AnnotationStore) -> None:
    words = ["".join(letters) for letters in itertools.product("abcdefghij", repeat=3)]
    found = [group(word, last=now_s()) for word in words]
    assert len({each.kind.id for each in found}) == 1000
    with measure_cost() as meter:
        assert len(book.sync_groups(found).by_id) == len(found)
    calls = -(-len(found) // keys.GROUPS_PER_CALL)
    assert calls <= meter.round_trips <= calls + 2  # one more on a server without flags
