"""What the history costs: CPU of the leader and of Redis for 1,000 queues, memory of 30 days, and a page of charts over
all of them. A part of `make bench`; alone, it is `python -m tests.bench.history`."""

from __future__ import annotations

import gzip
import random
import statistics
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field

import redis
from flask.testing import FlaskClient
from rq import Queue

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.history.encoding import decode_block, decode_tail, split_blocks
from dashboard.history.history_writer import HistoryWriter
from dashboard.history.recorder import HistoryRecorder
from dashboard.history.series_keys import IDS, blocks_key, parse_ids, tail_key
from dashboard.history.tiers import DAY_S, tiers_of
from dashboard.sources.source import Source
from dashboard.store.redis_store import LEAD, Store
from dashboard.web.app import create_app
from tests.bench.past import Past

BUSY = 500  # so many queues of 1,000 are
BUDGET_BYTES = 64 * 2**20
DAYS = 30
# The month is that of a few queues, with their share of the budget.
BUSY_FOR_A_MONTH = 2
INTERVAL_S = 2.0
MINUTES = 16  # of all queues, so that each kind of slot ends at least once
LOOKS = 5


@dataclass(slots=True)
class Recording:
    """A leader that records, and the seconds of CPU that each step took."""

    server: EmbeddedRedis
    budget_bytes: int
    spent: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0
    full: int = 0  # samples that were not stored for want of room

    def run(self, past: Past, seconds: float, *, named: bool | None = None) -> None:
        """Record so much time. `named`: only queues and classes, or only totals and servers; None: everything."""
        with closing(Source("main", self.server.url)) as source:
            store = Store(source)
            source.execute("SET", LEAD, "bench:1")
            writer, recorder = HistoryWriter(store, self.budget_bytes), HistoryRecorder()
            writer.load_series()
            end_s = past.now_s + seconds
            while past.now_s < end_s:
                snapshot, flows = past.next_sample()
                began = time.process_time()
                closed = recorder.add_sample(snapshot, flows)
                closed = [slot for slot in closed if named is None or bool(slot.key.name) == named]
                recorded = time.process_time()
                self.full += writer.is_full
                if closed and not writer.is_full:
                    assert writer.append_slots("bench:1", closed)
                stored = time.process_time()
                writer.compact("bench:1", past.now_s)
                writer.visit_series("bench:1", past.now_s, recorder.is_sampled)
                ended = time.process_time()
                self.spent.update(record=recorded - began, store=stored - recorded, compress=ended - stored)
                self.longest_s = max(self.longest_s, ended - began)


def cpu() -> None:
    """1,000 queues at the usual interval."""
    with EmbeddedRedis() as server, redis.Redis.from_url(server.url) as client:
        recording, past = Recording(server, BUDGET_BYTES), Past(BUSY, 1_699_999_200.0, INTERVAL_S)
        before = _redis_cpu_s(client)
        recording.run(past, MINUTES * 60)
        seconds = MINUTES * 60
        shares = {name: spent / seconds for name, spent in recording.spent.items()}
        redis_share = (_redis_cpu_s(client) - before) / seconds
    parts = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    print(f"{'a core of the leader':>28} {sum(shares.values()):.1%} ({parts})")
    print(f"{'longest sample':>28} {recording.longest_s * 1000:.0f} ms")
    print(f"{'a core of Redis':>28} {redis_share:.2%}", flush=True)


def month() -> None:
    """30 days of a few queues, as a share of 1,000."""
    share = BUSY_FOR_A_MONTH / BUSY
    with EmbeddedRedis() as server, redis.Redis.from_url(server.url) as client:
        recording = Recording(server, int(BUDGET_BYTES * share))
        past = Past(BUSY_FOR_A_MONTH, 1_699_999_200.0, 60.0)
        recording.run(past, (DAYS + 2) * DAY_S, named=True)
        used, by_kind, values = measure_memory(client)
        oldest_s = past.now_s - oldest_of(client)
    memory = f"{used / share / 2**20:.1f} of {BUDGET_BYTES / 2**20:.0f} MiB"
    print(f"{f'{DAYS} days':>28} {memory}; nothing recorded in {recording.full} samples for want of room")
    for kind, count in sorted(by_kind.items()):
        each = count / values[kind] if values[kind] else 0.0
        print(f"{kind:>28} {count / share / 2**20:.1f} MiB, {each:.2f} bytes per value")
    print(f"{'oldest record':>28} {oldest_s / DAY_S:.1f} days", flush=True)


def measure_memory(client: redis.Redis) -> tuple[int, Counter[str], Counter[str]]:
    """What MEMORY USAGE tells of all keys, the same by kind and tier, and how many known figures of slots these are."""
    total = client.memory_usage(IDS, samples=0) or 0
    used, values = Counter[str](), Counter[str]()
    for key, stored in parse_ids(_flat(client)).items():
        for tier in tiers_of(key.kind):
            name = f"{key.kind.name} {tier.name}"
            keys = blocks_key(tier.name, stored.series_id), tail_key(tier.name, stored.series_id)
            used[name] += sum(client.memory_usage(one, samples=0) or 0 for one in keys)
            raw_blocks, raw_tail = (client.get(one) for one in keys)
            records = [record for block in split_blocks(raw_blocks) for record in decode_block(block)]
            records += decode_tail(key.kind, raw_tail)
            values[name] += sum(cell is not None for record in records for cell in record.cells)
    return total + sum(used.values()), used, values


def _flat(client: redis.Redis) -> list[bytes]:
    return [part for pair in client.hgetall(IDS).items() for part in pair]


def oldest_of(client: redis.Redis) -> float:
    """The time of the oldest record of a queue."""
    starts = [
        block.first_s
        for key, stored in parse_ids(_flat(client)).items()
        for block in split_blocks(client.get(blocks_key("15m", stored.series_id)))
    ]
    return min(starts)


def charts() -> None:
    """The charts of a queue over 30 days at full detail: time of the server, and bytes on the wire."""
    with EmbeddedRedis() as server, tempfile.TemporaryDirectory() as folder:
        with redis.Redis.from_url(server.url) as client:
            Queue("queue-0000", connection=client).enqueue("app.mail.send")
        past = Past(1, time.time() - DAYS * DAY_S, 300.0, classes=False)
        Recording(server, BUDGET_BYTES).run(past, DAYS * DAY_S)
        app = create_app(redis_url=server.url, auth="none", checker="off", spool_dir=folder)
        browser = app.test_client()
        for path in ("/queues/main/rq/queue-0000/charts", "/charts", "/sources/main/charts"):
            for url in (f"{path}/_data?range=30d", f"{path}/_data?range=2d", f"{path}?range=30d"):
                taken_ms, sent = look(browser, url)
                print(f"{url:>58} {taken_ms:6.0f} ms {sent / 1000:6.1f} kB", flush=True)


def look(browser: FlaskClient, url: str) -> tuple[float, int]:
    """(CPU of the server in ms, the median of LOOKS; compressed bytes) of one response."""
    taken = []
    for _ in range(LOOKS):
        began = time.process_time()
        response = browser.get(url, headers={"Accept-Encoding": "gzip"})
        taken.append(time.process_time() - began)
    assert response.status_code == 200, response.text
    assert response.content_encoding == "gzip"
    assert gzip.decompress(response.data)
    return statistics.median(taken) * 1000, len(response.data)


def _redis_cpu_s(client: redis.Redis) -> float:
    info = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def main() -> None:
    """Print the figures."""
    random.seed(1)
    print(f"\nThe history of {2 * BUSY} queues, half of them busy, with 8 job classes each")
    cpu()
    charts()
    month()


if __name__ == "__main__":
    main()
