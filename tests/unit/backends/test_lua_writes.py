"""How scripts that change jobs are sent, and what their replies mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redis
from redis.exceptions import ResponseError

from dashboard.backends.actions import ActionResult, JobRef, Outcome
from dashboard.backends.lua_writes import JobCall, WriteScripts, split_by_cost, split_calls
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import BackendUnavailable
from dashboard.sources.source import Source

SCRIPTS = {
    # Per job: its key, its argument, and how many jobs were in the calls before.
    "echo": """-- A comment.
    local answers = {}
    for n = 2, #KEYS do answers[n - 1] = KEYS[1] .. KEYS[n] .. ARGV[n + 1] .. ARGV[1] .. ARGV[2] end
    return answers""",
    "fail": "if KEYS[1] == 'b' then return redis.call('LPOP', 'text') end return {'done'}",
    "set": "redis.call('SET', '{queuedeck}:mark', '-- a comment') return 'done'",
}
WRITES = WriteScripts("Bull", SCRIPTS.__getitem__)


@pytest.fixture
def source(any_server: EmbeddedRedis) -> Iterator[Source]:
    with closing(Source("main", any_server.url)) as source:
        yield source


@pytest.mark.parametrize(
    ("costs", "portions"),
    [([], []), ([1, 1, 1, 1], [[1, 1, 1], [1]]), ([4, 4, 4], [[4, 4], [4]]), ([1, 99, 1], [[1], [99], [1]])],
)
def test_portions_are_bounded_by_count_and_cost(costs: list[int], portions: list[list[int]]) -> None:
    assert list(split_by_cost(((cost, cost) for cost in costs), most=3, cost=10)) == portions


def test_calls_cost_the_bytes_of_their_arguments() -> None:
    calls = [JobCall(("a" * 100,), (b"12345", "678", 9)), JobCall(arguments=(b"12",)), JobCall(arguments=(b"1",))]
    assert split_calls(calls, most=9, size_bytes=10) == [calls[:2], calls[2:]]


def test_each_job_gets_the_reply_of_its_portion(source: Source) -> None:
    calls = [JobCall((name,), (name.upper(),)) for name in "abc"]
    replies = WRITES.run_for_each(source, "echo", calls[:2], calls[2:], keys=("k",), arguments=("x",), counted=True)
    assert replies == [b"kaAx0", b"kbBx0", b"kcCx2"]
    assert WRITES.run_for_each(source, "echo") == []


def test_a_refused_call_is_the_reply_of_each_of_its_jobs(source: Source) -> None:
    source.execute("SET", "text", "x")
    first, *others = WRITES.run_for_each(source, "fail", [JobCall(("a",))], [JobCall(("b",)), JobCall(("c",))])
    assert first == b"done"
    assert [isinstance(reply, ResponseError) for reply in others] == [True, True]


def test_keys_of_our_own_in_a_script_have_the_prefix_of_the_source(
    any_server: EmbeddedRedis, any_redis: redis.Redis
) -> None:
    with closing(Source("main", any_server.url, "{mine}")) as source:
        assert WRITES.run_script(source, "set", (), ()) == b"done"
    assert any_redis.get("{mine}:mark") == b"-- a comment"


def test_a_server_that_accepts_no_writes_is_unavailable(source: Source, any_redis: redis.Redis) -> None:
    any_redis.config_set("min-replicas-to-write", 1)
    try:
        with pytest.raises(BackendUnavailable):
            WRITES.run_script(source, "set", (), ())
        with pytest.raises(BackendUnavailable):
            WRITES.run_for_each(source, "set", [JobCall()])
    finally:
        any_redis.config_set("min-replicas-to-write", 0)


@pytest.mark.parametrize(
    ("reply", "outcome", "detail"),
    [
        (b"done", Outcome.DONE, None),
        (b"done|now last", Outcome.DONE, "now last"),
        (b"gone", Outcome.GONE, None),
        (b"changed", Outcome.CHANGED, "it moved"),
        (b"changed|its status is now a|b", Outcome.CHANGED, "its status is now a|b"),
        (b"unsupported|not supported: 7", Outcome.UNSUPPORTED, "not supported: 7"),
        (b"a worker is processing it", Outcome.REFUSED, "a worker is processing it"),
        (b"ERR no such thing", Outcome.REFUSED, "Redis refused the command: ERR no such thing"),
        (b"WRONGTYPE Operation", Outcome.REFUSED, "a key of this queue has the wrong type"),
        (b"@user_script: 3: Unknown Redis command", Outcome.REFUSED, "Redis refused the command: @user_script: 3"),
        (ResponseError("NOPERM User x has no permissions"), Outcome.REFUSED, "the Redis user is not permitted"),
        (ResponseError("unknown command 'EVAL'"), Outcome.REFUSED, "Redis refused the command: unknown command"),
    ],
)
def test_a_reply_is_an_outcome_or_says_why_not(reply: Any, outcome: Outcome, detail: str | None) -> None:
    result = WRITES.result_from_reply("7", reply, new_id="8", changed="it moved")
    assert (result.id, result.outcome, result.new_id) == ("7", outcome, "8" if outcome is Outcome.DONE else None)
    assert (result.detail or "").startswith(detail or "")
    assert (result.detail is None) == (detail is None)


def test_results_are_in_the_order_of_the_jobs() -> None:
    results = WRITES.results_from_replies([JobRef(id="1"), JobRef(id="2")], [b"done", b"gone"])
    assert results == [ActionResult(id="1", outcome=Outcome.DONE), ActionResult(id="2", outcome=Outcome.GONE)]
