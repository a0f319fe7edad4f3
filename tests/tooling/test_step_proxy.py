"""The proxy of the stepping tests: it passes everything on, counts, stops, and comes to an end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import hiredis
import pytest
import redis

from dashboard.demo.embedded import EmbeddedRedis
from tests.step_proxy import StepProxy, read_commands
from tests.waiting import wait_until


@pytest.fixture
def proxy(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[StepProxy]:
    with StepProxy(server.port, takes=frozenset({b"BLPOP"}), counts=lambda words: words[0] != b"PING") as started:
        yield started


@pytest.fixture
def client(proxy: StepProxy) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(proxy.url) as made:
        made.ping()  # a connection is set up by commands of its own
        yield made


def test_commands_and_replies_pass_unchanged(client: redis.Redis) -> None:
    value = bytes(range(256)) * 1000
    assert client.set("key", value)
    assert client.get("key") == value
    with client.pipeline() as pipeline:
        pipeline.incr("n").incr("n").get("key")
        assert pipeline.execute() == [1, 2, value]


def test_the_action_runs_before_each_command_in_turn(
    proxy: StepProxy, client: redis.Redis, redis_client: redis.Redis
) -> None:
    read = []
    for step in proxy.steps():
        redis_client.set("n", 1)
        with step.before(lambda: redis_client.set("n", 100)):
            client.incr("n")
            client.ping()
            client.incr("n")
            read.append(int(client.get("n") or 0))
    # Three commands are three interleavings; in the last round the act had no place.
    assert read == [102, 101, 100, 3]
    assert (step.reached, step.commands) == (False, ["INCRBY n 1", "INCRBY n 1", "GET n"])


def test_counting_starts_at_a_command_of_ones_choice(
    proxy: StepProxy, client: redis.Redis, redis_client: redis.Redis
) -> None:
    steps = list(zip(proxy.steps(), range(3), strict=False))
    for step, _ in steps:
        with step.before(lambda: None, since=lambda words: words[0] == b"GET"):
            client.incr("n")
            client.get("n")
            client.incr("n")
    assert steps[0][0].commands == ["GET n", "INCRBY n 1"]
    assert str(steps[0][0]) == "step 0, before GET n"


def test_errors_of_the_action_reach_the_test(proxy: StepProxy, client: redis.Redis) -> None:
    step = next(proxy.steps())
    with pytest.raises(ZeroDivisionError), step.before(lambda: 1 // 0):
        client.incr("n")


def test_a_worker_is_held_where_it_takes_a_job(
    proxy: StepProxy, client: redis.Redis, redis_client: redis.Redis
) -> None:
    taken: list[bytes] = []

    def work() -> None:
        with redis.Redis.from_url(proxy.url) as own:
            while (answer := own.blpop(["jobs"])) and answer[1] != b"end":
                taken.append(answer[1])

    worker = threading.Thread(target=work, daemon=True)
    redis_client.rpush("jobs", "one", "two", "end")
    worker.start()
    proxy.wait_for_take()
    assert (taken, redis_client.llen("jobs")) == ([], 3)
    proxy.take_turn()
    assert (taken, redis_client.llen("jobs")) == ([b"one"], 2)
    proxy.take_turn()
    assert taken == [b"one", b"two"]
    proxy.let_go()
    worker.join(60)
    assert not worker.is_alive()


def test_closing_frees_a_held_worker(server: EmbeddedRedis, redis_client: redis.Redis) -> None:
    failures: list[Exception] = []

    def work() -> None:
        try:
            with redis.Redis.from_url(proxy.url, retry=None) as own:
                own.blpop(["jobs"])
        except redis.RedisError as exc:
            failures.append(exc)

    with StepProxy(server.port, takes=frozenset({b"BLPOP"})) as proxy:
        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        proxy.wait_for_take()
    worker.join(60)
    assert not worker.is_alive()
    assert failures


def commands_in(raw: bytes) -> list[list[bytes]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(raw)
        theirs.shutdown(socket.SHUT_WR)
        return list(read_commands(ours))


def test_only_arrays_of_strings_are_commands() -> None:
    raw = b"*2\r\n$3\r\nGET\r\n$2\r\n\r\n\r\n"
    assert commands_in(raw + raw) == [[b"GET", b"\r\n"]] * 2
    assert hiredis.pack_command((b"GET", b"\r\n")) == raw
    assert commands_in(b"") == []
    for wrong in (b"+PING\r\n", b"*1\r\n:1\r\n", b"PING\r\n"):
        with pytest.raises(hiredis.ProtocolError):
            commands_in(wrong)


def test_a_worker_that_gives_up_is_not_taken_for_one_that_waits(
    proxy: StepProxy, client: redis.Redis, redis_client: redis.Redis
) -> None:
    redis_client.rpush("jobs", "one")
    # A bare socket: a client with a short time-out may give up before its handshake is over.
    with socket.create_connection(("127.0.0.1", proxy.port)) as own:
        own.sendall(b"*3\r\n$5\r\nBLPOP\r\n$4\r\njobs\r\n$1\r\n0\r\n")
        proxy.wait_for_take()
    wait_until(lambda: proxy.gave_up, what="the proxy noticing it")
    proxy.let_go()
    with pytest.raises(AssertionError, match="hung up"):
        proxy.wait_for_take()
    assert redis_client.llen("jobs") == 1


def test_what_a_client_pipelined_before_has_been_run(
    proxy: StepProxy, client: redis.Redis, redis_client: redis.Redis
) -> None:
    def found() -> None:
        read.append(int(redis_client.get("n") or 0))

    read: list[int] = []
    for step in proxy.steps():
        redis_client.delete("n")
        with step.before(found), client.pipeline(transaction=False) as pipeline:
            for _ in range(50):
                pipeline.incr("n")
            pipeline.execute()
    assert read == list(range(50))


def test_a_held_worker_is_counted_once(proxy: StepProxy, client: redis.Redis) -> None:
    assert not proxy.is_held
    worker = threading.Thread(target=lambda: client.blpop(["jobs"], timeout=1), daemon=True)
    worker.start()
    wait_until(lambda: proxy.is_held, what="a worker that asks for a job")
    proxy.wait_for_take()
    assert not proxy.is_held
    proxy.let_go()
    worker.join(60)
