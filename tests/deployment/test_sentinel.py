"""A Redis behind Sentinels: the primary is found and followed, and each misconfiguration has a clear error."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from dashboard.backends.monitored_sources import open_sources
from dashboard.doctor import main as doctor
from dashboard.errors import BackendUnavailable
from dashboard.sampling.sampler import Sampler
from dashboard.settings import load
from dashboard.sources import sentinels
from dashboard.sources.source import Source
from tests.deployment.sentinel_set import SERVICE, SentinelSet, lone_sentinel, make_protection, sentinel_set
from tests.waiting import wait_until

Reader = Callable[[str], Source]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSet]:
    """A Sentinel set that no test changes."""
    with sentinel_set(tmp_path_factory.mktemp("sentinels")) as running:
        yield running


def failure(source: Source) -> BackendUnavailable:
    with pytest.raises(BackendUnavailable) as caught:
        source.execute("PING")
    return caught.value


def set_value(source: Source, value: str, seen: list[BackendUnavailable] | None = None) -> bool:
    """Whether the server accepts a write; an error is added to `seen`."""
    try:
        reply = source.run_batch([("EVAL", "return redis.call('SET', KEYS[1], ARGV[1])", 1, "queue", value)])[0]
        source.check_writable(reply)
    except BackendUnavailable as exc:
        if seen is not None:
            seen.append(exc)
        return False
    return bool(reply == b"OK")


def value_on(port: int) -> str | None:
    with redis.Redis(port=port, decode_responses=True) as client:
        return client.get("queue")


def test_the_primary_is_found_and_read(shared: SentinelSet, open_source: Reader) -> None:
    source = open_source(shared.url)
    assert source.read_health().role == "master"
    assert source.primary == f"127.0.0.1:{shared.primary().port}"
    assert source.address == f"redis+sentinel://{','.join(shared.hosts)}/{SERVICE}/0"
    assert source.sentinel_problem is None


def test_sentinels_and_service_are_equivalent_to_a_url(shared: SentinelSet) -> None:
    table = {"name": "main", "sentinels": shared.hosts, "service": SERVICE}
    [source] = load(environ={}, keywords={"sources": [table]}).sources
    assert source.redis_url == shared.url


def test_the_database_of_the_url_is_used(shared: SentinelSet, open_source: Reader) -> None:
    third = open_source(shared.url.removesuffix("/0") + "/3")
    assert set_value(third, "in the third")
    with redis.Redis(port=shared.primary().port, db=3) as client:
        assert client.get("queue") == b"in the third"
        client.flushdb()


def test_a_sentinel_that_is_down_is_passed_over(shared: SentinelSet, open_source: Reader, kept_port: int) -> None:
    source = open_source(shared.url.replace("redis+sentinel://", f"redis+sentinel://127.0.0.1:{kept_port},"))
    assert source.execute("PING") == b"PONG"
    assert source.sentinel_problem is None


def test_an_unknown_service_is_named(shared: SentinelSet, open_source: Reader) -> None:
    found = failure(open_source(shared.url.replace(SERVICE, "orders")))
    assert "monitors no service named orders" in found.message
    assert "SENTINEL MASTERS" in str(found.hint)


def test_a_server_that_is_no_sentinel_is_named(shared: SentinelSet, open_source: Reader) -> None:
    port = shared.primary().port
    found = failure(open_source(f"redis+sentinel://127.0.0.1:{port}/{SERVICE}/0"))
    assert found.message == f"127.0.0.1:{port} is not a Sentinel"


def test_sentinels_that_cannot_be_reached_are_named(open_source: Reader, kept_port: int) -> None:
    found = failure(open_source(f"redis+sentinel://127.0.0.1:{kept_port}/{SERVICE}/0"))
    assert found.reason == "refused"
    assert found.message == f"No Sentinel of {SERVICE} could be reached (127.0.0.1:{kept_port})"


def test_a_primary_that_dies_is_replaced_for_readers_and_writers(own_set: SentinelSet, open_source: Reader) -> None:
    source, seen = open_source(own_set.url), list[BackendUnavailable]()
    former = own_set.primary()
    assert set_value(source, "before")
    own_set.wait_for_replica()
    former.stop(kill=True)
    wait_until(lambda: set_value(source, "after", seen), what="a write on the new primary")
    assert own_set.fail_over(former).port != former.port
    assert value_on(own_set.primary().port) == "after"
    assert seen
    for found in seen:
        assert found.reason in ("refused", "lost", "readonly"), found
        assert SERVICE in found.message, found
        assert "Sentinels" in str(found.hint), found


def test_a_failover_between_servers_that_both_run_loses_no_write(
    own_set: SentinelSet, open_source: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentinels, "FOLLOW_EVERY_S", 3600.0)  # only the write itself asks
    source = open_source(own_set.url)
    assert set_value(source, "before")
    new = own_set.order_failover()
    wait_until(lambda: set_value(source, "after"), what="a write on the new primary")
    assert value_on(new.port) == "after"
    assert source.read_health().role == "master"


@pytest.mark.usefixtures("own_timeouts")
def test_a_primary_that_hangs_is_left_and_its_return_changes_nothing(own_set: SentinelSet, open_source: Reader) -> None:
    source, former = open_source(own_set.url), own_set.primary()
    assert set_value(source, "before")
    assert former.pid is not None
    os.kill(former.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: set_value(source, "after"), what="a write on the new primary")
    finally:
        os.kill(former.pid, signal.SIGCONT)
    new = own_set.fail_over(former)

    def is_replica() -> bool:
        with redis.Redis(port=former.port) as client:
            return bool(client.role()[0] == b"slave")

    wait_until(is_replica, what="the former primary as a replica")
    assert set_value(source, "later")
    assert value_on(new.port) == "later"


def test_a_former_primary_that_still_responds_is_not_used(own_set: SentinelSet, open_source: Reader) -> None:
    """As in a split network: nothing on the connection itself shows that others use another primary."""
    source, former = open_source(own_set.url), own_set.primary()
    other = next(server for server in own_set.servers if server is not former)
    assert set_value(source, "before")
    with redis.Redis(port=other.port) as client:
        client.replicaof("NO", "ONE")
    for port, _ in own_set.sentinels:
        with redis.Redis(port=port) as client:
            client.sentinel_remove(SERVICE)
            client.sentinel_monitor(SERVICE, "127.0.0.1", other.port, 2)

    wait_until(lambda: knows(own_set, other.port), what="Sentinels that have looked at the other primary")
    assert set_value(source, "after")
    assert value_on(other.port) == "after"
    assert source.execute("GET", "queue") == b"after"


def knows(own_set: SentinelSet, port: int) -> bool:
    """Whether all Sentinels have seen the server at that port as a primary."""
    for sentinel, _ in own_set.sentinels:
        with own_set.sentinel_client(sentinel) as client:
            state = client.sentinel_masters().get(SERVICE, {})
        if state.get("port") != port or "role-reported" not in state or state["role-reported"] != "master":
            return False
    return True


def test_reads_follow_a_failover(own_set: SentinelSet, open_source: Reader) -> None:
    source = open_source(own_set.url)
    assert source.execute("PING") == b"PONG"
    new = own_set.order_failover()
    wait_until(
        lambda: source.execute("CONFIG", "GET", "port")[1] == str(new.port).encode(), what="reading the new primary"
    )


def test_no_action_goes_to_a_primary_that_the_sentinels_consider_down(tmp_path: Path, open_source: Reader) -> None:
    with sentinel_set(tmp_path, replicas=0) as own:
        source, seen = open_source(own.url), list[BackendUnavailable]()
        assert set_value(source, "before")
        with own.client_of(own.primary()) as client:
            client.acl_setuser("default", commands=["-ping"])  # its Sentinels get no answer that they accept
        wait_until(lambda: not set_value(source, "before", seen), what="a refused write")
        assert "is down" in seen[0].message
        assert source.execute("GET", "queue") == b"before"


def test_without_sentinels_the_last_primary_is_used_with_a_warning(
    own_set: SentinelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentinels, "FOLLOW_EVERY_S", 0.0)
    monkeypatch.setattr(sentinels, "ASK_AGAIN_S", 0.0)
    watch = open_sources(load(environ={}, keywords={"redis_url": own_set.url}))
    sampler = Sampler(watch, 2.0, "test")
    assert sampler.sample().sources[0].sentinel_problem is None
    for _, process in own_set.sentinels:
        process.kill()
    with closing(watch.sources["main"]) as source:
        source.close()  # the next connection has to be opened without them
        [stats] = sampler.sample().sources
    assert stats.reachable
    assert stats.primary == f"127.0.0.1:{own_set.servers[0].port}"
    assert stats.problems == ()  # all queues are known
    assert stats.sentinel_problem is not None
    assert stats.sentinel_problem.startswith(f"No Sentinel of {SERVICE} could be reached (")
    assert stats.sentinel_problem.endswith("a failover would not be noticed")


def test_a_sentinel_that_names_a_replica_is_asked_last(
    shared: SentinelSet, tmp_path: Path, open_source: Reader
) -> None:
    replica = next(server for server in shared.servers if server is not shared.primary())
    with lone_sentinel(tmp_path, replica.port) as host:
        source = open_source(shared.url.replace("redis+sentinel://", f"redis+sentinel://{host},"))
        found = failure(source)
        assert found.reason == "readonly"
        assert "is a replica, but was named as the primary of mymaster" in found.message
        assert set_value(source, "on the primary")
    assert source.primary == f"127.0.0.1:{shared.primary().port}"


def test_credentials_of_both_kinds_and_tls(tmp_path: Path, open_source: Reader) -> None:
    protection = make_protection(tmp_path)
    with sentinel_set(tmp_path, protection) as own:
        table = {
            "name": "main",
            "sentinels": own.hosts,
            "service": SERVICE,
            "password": protection.password,
            "sentinel_password": protection.sentinel_password,
            "tls": True,
            "ca_file": str(protection.certificate),
        }
        [settings] = load(environ={}, keywords={"sources": [table]}).sources
        source = open_source(settings.redis_url)
        assert source.read_health().role == "master"
        assert source.address == f"rediss+sentinel://{','.join(own.hosts)}/{SERVICE}/0"
        own.primary().stop(kill=True)
        wait_until(lambda: set_value(source, "after"), what="a write on the new primary")
        wrong = failure(open_source(settings.redis_url.replace("of%3Asentinels", "wrong")))
        assert wrong.reason == "auth"
        assert "sentinel_password" in str(wrong.hint)
        plain = failure(open_source(f"redis+sentinel://{','.join(own.hosts)}/{SERVICE}/0"))
        assert "No Sentinel of mymaster could be reached" in plain.message


def test_the_doctor_reports_the_state_of_the_sentinels(
    own_set: SentinelSet, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load(environ={}, keywords={"redis_url": own_set.url})
    doctor(settings)
    output = capsys.readouterr().out
    primary = f"127.0.0.1:{own_set.primary().port}"
    assert (
        f"3 of 3 Sentinels in the URL answer: the primary of {SERVICE} is {primary}, with 1 replica, quorum 2" in output
    )
    own_set.sentinels[0][1].send(signal.SIGKILL)
    own_set.sentinels[0][1].process.wait()
    assert doctor(settings) != 0
    output = capsys.readouterr().out
    assert f"Sentinel {own_set.hosts[0]}: " in output
    assert "2 of 3 Sentinels in the URL answer" in output
