"""Connections: bytes in order, one clear line for each way in which a Redis can fail, cost told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import redis
from redis.exceptions import ReadOnlyError, ResponseError

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import BackendUnavailable, Forbidden
from dashboard.sources import connection, server_clock
from dashboard.sources.failures import explain_refused_command
from dashboard.sources.info import parse_info
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source
from tests.conftest import start_server
from tests.forwarding import MovingAddress
from tests.waiting import wait_until


def test_a_batch_answers_in_order_with_errors_in_their_places(source: Source, redis_client: redis.Redis) -> None:
    redis_client.set("text", b"\xff\x00a")
    redis_client.rpush("list", "x")
    with measure_cost() as meter:
        replies = source.run_batch([("GET", "text"), ("LLEN", "text"), ("LLEN", b"list"), ("GET", "none")])
    assert replies[0] == b"\xff\x00a"
    assert isinstance(replies[1], ResponseError)
    assert replies[2:] == [1, None]
    assert (meter.commands, meter.round_trips) == (4, 1)


def test_names_with_surrogate_escapes_lead_back_to_their_bytes(source: Source, redis_client: redis.Redis) -> None:
    redis_client.set(b"k\xff\xfe", "here")
    assert source.execute("GET", b"k\xff\xfe".decode("utf-8", "surrogateescape")) == b"here"


def test_no_commands_cost_no_round_trip(source: Source) -> None:
    with measure_cost() as meter:
        assert source.run_batch([]) == []
    assert meter.round_trips == 0


def test_an_outer_meter_counts_what_an_inner_one_counted(source: Source) -> None:
    with measure_cost() as outer:
        source.execute("PING")
        with measure_cost() as inner:
            source.run_batch([("PING",), ("PING",)])
    assert (inner.commands, outer.commands, outer.round_trips) == (2, 3, 2)


def test_the_client_has_a_name(source: Source, redis_client: redis.Redis) -> None:
    source.execute("PING")
    assert "queuedeck" in {client["name"] for client in redis_client.client_list()}


def reason_of(url: str) -> BackendUnavailable:
    source = Source("main", url)
    try:
        with pytest.raises(BackendUnavailable) as caught:
            source.execute("GET", "x")
        assert "\n" not in caught.value.message
        assert caught.value.hint
        return caught.value
    finally:
        source.close()


def test_nothing_listening(kept_port: int) -> None:
    error = reason_of(f"redis://user:secret@127.0.0.1:{kept_port}/0")
    assert error.reason == "refused"
    assert error.message.startswith("Connection refused by redis://127.0.0.1:")
    assert "secret" not in error.message


@pytest.fixture
def guarded() -> Iterator[EmbeddedRedis]:
    server = start_server("redis-7", "--requirepass", "right")
    yield server
    server.close()


def test_a_missing_and_a_wrong_password(guarded: EmbeddedRedis) -> None:
    missing = reason_of(guarded.url)
    assert (missing.reason, "requires a password" in missing.message) == ("auth", True)
    wrong = reason_of(f"redis://:wrong@127.0.0.1:{guarded.port}/0")
    assert (wrong.reason, "rejected the user name or password" in wrong.message) == ("auth", True)
    right = Source("main", f"redis://:right@127.0.0.1:{guarded.port}/0")
    assert right.execute("PING") == b"PONG"
    right.close()


@pytest.mark.usefixtures("own_timeouts")
def test_tls_to_a_plain_port_is_explained(server: EmbeddedRedis) -> None:
    assert reason_of(f"rediss://127.0.0.1:{server.port}/0").reason in ("tls", "lost", "timeout")


def test_a_database_that_is_not_there_is_explained(server: EmbeddedRedis) -> None:
    assert reason_of(f"redis://127.0.0.1:{server.port}/4711").reason == "protocol"


def test_an_unknown_host_name() -> None:
    assert reason_of("redis://no-such-host.invalid:6379/0").reason == "refused"


def test_a_port_with_another_protocol_is_explained() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert reason_of(f"redis://127.0.0.1:{listener.getsockname()[1]}/0").reason in ("protocol", "lost")
        thread.join()


@pytest.mark.usefixtures("own_timeouts")
def test_a_silent_server_costs_the_timeout_and_no_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert reason_of(f"redis://127.0.0.1:{listener.getsockname()[1]}/0").reason == "timeout"
        listener.setblocking(False)
        listener.accept()[0].close()
        with pytest.raises(BlockingIOError):  # one connection was made: nothing was tried again
            listener.accept()


def test_a_refused_command_is_forbidden_and_no_outage(source: Source, redis_client: redis.Redis) -> None:
    redis_client.acl_setuser("narrow", enabled=True, nopass=True, keys=["*"], commands=["+get", "+ping"])
    narrow = Source("main", source.address.replace("redis://", "redis://narrow:x@"))
    with pytest.raises(Forbidden, match="is not allowed to do this"):
        narrow.execute("SET", "a", "b")
    assert narrow.execute("GET", "a") is None
    narrow.close()
    redis_client.acl_deluser("narrow")


def test_a_source_recovers_automatically_after_a_restart() -> None:
    with start_server("redis-7") as server:
        source = Source("main", server.url)
        assert source.execute("PING") == b"PONG"
        server.stop(kill=True)
        with pytest.raises(BackendUnavailable):
            source.execute("PING")
        server.start()
        assert source.execute("PING") == b"PONG"
        source.close()


def test_health_has_memory_relative_to_its_limit(source: Source, redis_client: redis.Redis) -> None:
    redis_client.config_set("maxmemory", "100mb")
    health = source.read_health()
    redis_client.config_set("maxmemory", "0")
    assert health.maxmemory_bytes == 100 * 1024 * 1024
    assert health.memory_limited is True
    assert health.memory_ratio is not None
    assert 0 < health.memory_ratio < 1
    assert source.read_health().memory_ratio is None
    assert source.read_health().memory_limited is False


def test_info_that_is_cut_or_strange_is_unknown_and_not_zero() -> None:
    health = parse_info(b"redis_version:7.0\r\nused_memory:lots\r\n\xff\xfe:\r\nnonsense", None)
    assert health.version == "7.0"
    assert health.used_memory_bytes is None
    assert health.clients is None
    assert health.keys is None


@pytest.mark.parametrize(
    ("status", "since", "up", "down_s"),
    [("up", None, True, 0), ("down", 61, False, 61), ("down", -1, False, None), (None, None, None, None)],
)
def test_a_link_that_was_never_made_has_no_age(
    status: str | None, since: int | None, up: bool | None, down_s: int | None
) -> None:
    lines = [f"master_link_status:{status}"] if status else []
    lines += [f"master_link_down_since_seconds:{since}"] if since is not None else []
    health = parse_info("\r\n".join(lines).encode(), None)
    assert (health.replica_link_up, health.replica_link_down_s) == (up, down_s)


@pytest.mark.parametrize("query", ["", "?db=0", "?username=default&password=x"])
def test_a_server_is_reached_by_its_socket(tmp_path: Path, query: str) -> None:
    path = tmp_path / "redis.sock"
    options = ("--unixsocket", str(path), "--requirepass", "x" if "password" in query else "")
    with start_server("redis-7", *options), closing(Source("main", f"unix://{path}{query}")) as source:
        assert source.execute("SET", "a", 1) == b"OK"
        assert source.execute("GET", "a") == b"1"


def test_a_missing_socket_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="No such file"):
        Source("main", f"unix://{tmp_path}/none.sock").execute("PING")


def test_the_database_may_be_an_option(server: EmbeddedRedis, redis_client: redis.Redis) -> None:
    with closing(Source("main", server.url.rpartition("/")[0] + "?db=3")) as source:
        source.execute("SET", "there", 1)
        assert source.database == 3
    assert redis_client.exists("there") == 0


@pytest.fixture
def failed_over() -> Iterator[tuple[MovingAddress, Callable[[], None]]]:
    """An address of a primary, and what makes that a replica of another server to which the address leads then."""
    at_once = ("--repl-diskless-sync-delay", "0")
    with (
        start_server("redis-7", *at_once) as old,
        start_server("redis-7", *at_once) as new,
        MovingAddress(old.port) as address,
    ):

        def fail_over() -> None:
            with redis.Redis.from_url(old.url) as client:
                client.replicaof("127.0.0.1", new.port)
                wait_until(
                    lambda: client.info("replication")["role"] == "slave", what="the old primary to be a replica"
                )
            address.leads_to = new.port

        yield address, fail_over


def test_who_writes_follows_a_failover_behind_a_name(
    failed_over: tuple[MovingAddress, Callable[[], None]],
) -> None:
    address, fail_over = failed_over
    with closing(Source("main", address.url)) as source:
        assert source.execute("SET", "a", 1) == b"OK"
        fail_over()
        with pytest.raises(ReadOnlyError):
            source.execute("SET", "a", 2)
        assert source.execute("SET", "a", 3) == b"OK"


def test_a_script_that_may_not_write_follows_too(failed_over: tuple[MovingAddress, Callable[[], None]]) -> None:
    address, fail_over = failed_over
    script = "return redis.call('SET', KEYS[1], 1)"
    with closing(Source("main", address.url)) as source:
        source.execute("EVAL", script, 1, "a")
        fail_over()
        with pytest.raises(BackendUnavailable, match="replica"):
            source.check_writable(source.run_batch([("EVAL", script, 1, "a")]))
        source.check_writable(source.run_batch([("EVAL", script, 1, "a")]))


def test_a_replica_that_lost_its_primary_is_left_too(failed_over: tuple[MovingAddress, Callable[[], None]]) -> None:
    address, fail_over = failed_over
    with redis.Redis.from_url(address.url) as old, closing(Source("main", address.url)) as source:
        source.execute("GET", "a")
        old.config_set("replica-serve-stale-data", "no")
        old.replicaof("127.0.0.1", 1)
        with pytest.raises(BackendUnavailable, match="lost its primary"):
            source.execute("GET", "a")
        fail_over()
        assert source.execute("GET", "a") is None


def test_a_command_refused_inside_a_script_is_reported(any_server: EmbeddedRedis, any_redis: redis.Redis) -> None:
    """Redis 6 and 7 word it differently."""
    any_redis.execute_command("ACL", "SETUSER", "few", "on", "nopass", "~*", "-@all", "+eval", "+time")
    with closing(Source("main", any_server.url.replace("redis://", "redis://few:x@"))) as source:
        with pytest.raises(ResponseError) as caught:
            source.execute("EVAL", "return redis.call('SET', KEYS[1], 1)", 1, "a")
        assert isinstance(source.refusal_error(caught.value), Forbidden)
        assert isinstance(source.refusal_error(ResponseError("ERR something else")), BackendUnavailable)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("NOPERM this user has no permissions to run 'del'", "the Redis user is not permitted to do this: NO"),
        ("ERR ACL failure in script: User few has no permissions to run the 'set' command", "is not permitted"),
        ("@user_script: 1: The user executing the script can't run this command or subcommand", "is not permitted"),
        ("WRONGTYPE Operation against a key", "has the wrong type; something other than Bull wrote to it"),
        ("command not allowed when used memory > 'maxmemory'.", "Redis is out of memory and refuses writes"),
        ("@user_script: 1: -OOM command not allowed", "Redis is out of memory and refuses writes"),
        ("You can't write against a read only replica.", "this Redis is a read-only replica"),
        ("-READONLY You can't write", "this Redis is a read-only replica"),
        ("ERR no such chatroom", "Redis refused the command: ERR no such chatroom"),
        ("unknown command 'EVAL': it was renamed", "Redis refused the command: unknown command 'EVAL': it was renamed"),
    ],
)
def test_a_refused_command_is_explained_in_one_line(error: str, told: str) -> None:
    assert told in explain_refused_command(error, "Bull")


def test_who_only_reads_follows_when_the_role_has_changed(
    failed_over: tuple[MovingAddress, Callable[[], None]],
) -> None:
    address, fail_over = failed_over
    with closing(Source("main", address.url)) as source:
        assert source.read_health().role == "master"
        fail_over()
        assert source.read_health().role == "slave"
        assert source.read_health().role == "master"


def test_a_replica_that_stays_one_is_not_connected_to_again_and_again(
    failed_over: tuple[MovingAddress, Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, fail_over = failed_over
    old = address.leads_to
    fail_over()
    address.leads_to = old
    now = 1000.0
    for module in (connection, server_clock):
        monkeypatch.setattr(module, "monotonic_s", lambda: now)
    with closing(Source("main", address.url)) as source, redis.Redis(port=old) as client:
        counts = []
        for _ in range(120):
            now += 1
            source.read_health(probe=True)
            counts.append(client.info("stats")["total_connections_received"])
        assert counts[-1] - counts[0] == 8  # at once, after 1, 2, 4, 8, 16 and then each 30 seconds


def test_pieces_of_a_batch_are_answered_in_order(source: Source, redis_client: redis.Redis) -> None:
    redis_client.set("text", "a")
    with measure_cost() as meter:
        replies = source.batch_in_pieces(
            [[("GET", "text")], [], [("INCR", "text"), ("ECHO", "b")], [("ECHO", "c" * 300_000)], [("ECHO", "d")]]
        )
    assert replies[0] == b"a"
    assert isinstance(replies[1], redis.ResponseError)
    assert replies[2:] == [b"b", b"c" * 300_000, b"d"]
    assert (meter.commands, meter.round_trips) == (5, 1)
    assert source.batch_in_pieces([]) == source.batch_in_pieces([[]]) == []


def test_pieces_do_not_wait_for_answers_that_take_long(server: EmbeddedRedis, redis_client: redis.Redis) -> None:
    """Each further piece would cost one more way there and back to a server that is far away."""
    source = Source("main", server.url)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(source.batch_in_pieces, [[("BLPOP", "list", 60)], [("ECHO", "x")]])
        wait_until(
            lambda: any(int(one["qbuf"]) > 0 and one["cmd"] == "blpop" for one in redis_client.client_list()),
            what="the second piece being there before the first is answered",
        )
        redis_client.rpush("list", "a")
        assert running.result() == [[b"list", b"a"], b"x"]
    source.close()
