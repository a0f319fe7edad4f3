"""Sentinels that hang or lag behind: waits stay short, and connections move to the new primary."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from dashboard.backends.celery.events import EventListener
from dashboard.errors import BackendUnavailable
from dashboard.sources import sentinels
from dashboard.sources.source import Source
from tests.deployment.sentinel_set import SERVICE, SentinelSet, sentinel_set
from tests.waiting import wait_until

ACT = ("EVAL", "return redis.call('SET', KEYS[1], ARGV[1])", 1, "queue", "acted")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often each Sentinel is asked, by port."""
    counts: Counter[int] = Counter()
    real: Callable[..., Any] = sentinels._ask

    def count(pool: redis.ConnectionPool, service: str) -> Any:
        counts[pool.connection_kwargs["port"]] += 1
        return real(pool, service)

    monkeypatch.setattr(sentinels, "_ask", count)
    return counts


def test_threads_that_act_do_not_wait_for_hanging_sentinels_one_after_the_other(
    own_set: SentinelSet, asked: Counter[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentinels, "SENTINEL_TIMEOUT_S", 1.0)
    monkeypatch.setattr(sentinels, "ASK_AGAIN_S", 600.0)
    with closing(Source("main", own_set.url)) as source:
        wait_until(lambda: source.execute("PING"), what="the primary")
        for _, process in own_set.sentinels:
            process.send(signal.SIGSTOP)
        asked.clear()
        with ThreadPoolExecutor(16) as threads:
            replies = list(threads.map(lambda _: source.run_batch([ACT]), range(16)))
        assert replies == [[b"OK"]] * 16
        assert set(asked.values()) == {1}
        assert source.sentinel_problem
    for _, process in own_set.sentinels:
        process.send(signal.SIGCONT)


def test_a_first_request_asks_each_sentinel_once_and_keeps_its_connection(asked: Counter[int], kept_port: int) -> None:
    with closing(Source("main", f"redis+sentinel://127.0.0.1:{kept_port}/{SERVICE}/0")) as source:
        for number in range(1, 4):
            with pytest.raises(BackendUnavailable):
                source.execute("PING")
            assert asked[kept_port] == number
        source.now_s()  # opens a connection, or tries to
        pool: Any = source._connections._pool
        assert (pool._created_connections, len(pool._available_connections)) == (1, 1)


def test_a_promoted_server_is_used_while_other_replicas_are_still_reconfigured(tmp_path: Path) -> None:
    with sentinel_set(tmp_path, replicas=3) as own:
        former, (port, _) = own.primary(), own.sentinels[0]
        leader = f"redis+sentinel://127.0.0.1:{port}/{SERVICE}/0"
        with closing(Source("main", leader)) as source, own.sentinel_client(port) as client:
            assert source.run_batch([ACT]) == [b"OK"]
            client.execute_command("SENTINEL FAILOVER", SERVICE)

            def promoted() -> int:
                named = int(client.sentinel_get_master_addr_by_name(SERVICE)[1])
                return 0 if named == former.port else named

            new = wait_until(promoted, what="the promotion")
            assert source.run_batch([(*ACT[:-1], "after the promotion")]) == [b"OK"]
        with redis.Redis(port=new, decode_responses=True) as there:
            assert there.get("queue") == "after the promotion"


@pytest.mark.usefixtures("own_timeouts")
def test_a_subscription_leaves_a_primary_that_hangs(own_set: SentinelSet) -> None:
    former = own_set.primary()
    with closing(Source("main", own_set.url)) as source, closing(EventListener(source, ("*ended",))) as feed:
        wait_until(lambda: feed.is_connected, what="the subscription")
        os.kill(former.pid, signal.SIGSTOP)
        try:
            new = own_set.fail_over(former)

            def is_read() -> bool:
                try:
                    return bool(source.execute("PING")) and source.primary == f"127.0.0.1:{new.port}"
                except BackendUnavailable:
                    return False

            wait_until(is_read, what="the new primary")
            with redis.Redis(port=new.port) as client:
                wait_until(lambda: client.publish("ended", "{}") and feed.received, what="a message of the new primary")
        finally:
            os.kill(former.pid, signal.SIGCONT)
