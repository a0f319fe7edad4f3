"""`make bench`: what a sample costs for 10 to 10,000 queues; a refresh for 1, 10 and 50 viewers; what an
evaluation of the rules costs; bulk work; and hearing Celery.

Run as `python -m tests.bench.run`. Everything is measured in one run on one machine; figures of other machines compare
only as ratios. The queues have the keys that each library leaves behind; half of them are busy while the clock runs,
but for those at rest.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from dashboard.demo.embedded import EmbeddedRedis, free_port
from tests.bench import alerts, bulk, events
from tests.bench.queues import LIBRARIES, fill_bullmq

SAMPLED = (10, 100, 1000, 10_000)
SIZES = (10, 100, 1000)
POLLERS = (1, 10, 50)
SECONDS = 4.0
HEADS = (
    " queues  commands  trips        kB  Redis CPU     in all   pipeline  ratio  first CPU        CPU   core     RSS"
    "  PING p99       max   one sample, published"
)
OTHERS = 1000  # so many queues of each library
LINE = (
    "{queues:>7} {commands:>9.0f} {round_trips:>6.0f} {kB:>9.1f} {redis_cpu_ms:>7.1f} ms {wall_ms:>7.1f} ms "
    "{pipeline_ms:>7.1f} ms {ratio:>6.2f} {first_cpu_ms:>7.1f} ms {cpu_ms:>7.1f} ms {core_share:>6.1%} "
    "{rss_mb:>4.0f} MB {ping_p99_ms:>6.1f} ms {ping_max_ms:>6.1f} ms"
)


@contextmanager
def dashboard(server: EmbeddedRedis) -> Iterator[int]:
    """The port of a `queuedeck serve` on `server` that is ready."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "dashboard.cli", "serve", "--redis", server.url, "--port", str(port)],
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).read()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(15)


def bench_refresh(server: EmbeddedRedis, client: redis.Redis, port: int, pollers: int) -> dict[str, float]:
    """Refreshes of the overview by `pollers` viewers at once, as fast as they are answered."""
    before = client.info("commandstats").get("cmdstat_get", {}).get("calls", 0)
    report = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.bench.load",
            str(port),
            "/_overview",
            "--pollers",
            str(pollers),
            "--seconds",
            str(SECONDS),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    figures: dict[str, float] = json.loads(report)
    after = client.info("commandstats").get("cmdstat_get", {}).get("calls", 0)
    figures["gets_per_refresh"] = (after - before) / figures["requests"]
    return figures


def main() -> None:
    """Print the tables."""
    print(HEADS)
    others = [(OTHERS, name, *more) for name in LIBRARIES for more in ((), ("rest",))]
    for queues, *words in (*((queues, "bullmq") for queues in SAMPLED if queues != OTHERS), *others):
        command = [sys.executable, "-m", "tests.bench.sample", str(queues), *words]
        row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        line = LINE.format(queues=queues, ratio=row["wall_ms"] / row["pipeline_ms"], **row)
        print(f"{line}   {' at '.join(words)}")
    print(
        f"\n{'queues':>7} {'viewers':>8} {'refreshes/s':>12} {'p50':>9} {'p95':>9} {'bytes':>7} {'304':>5} {'GETs':>7}"
    )
    for queues in SIZES:
        with EmbeddedRedis() as server:
            client = redis.Redis.from_url(server.url)
            fill_bullmq(client, queues)
            with dashboard(server) as port:
                for pollers in POLLERS:
                    row = bench_refresh(server, client, port, pollers)
                    print(
                        f"{queues:>7} {pollers:>8} {row['per_s']:>12.0f} "
                        f"{row['p50_ms']:>6.1f} ms {row['p95_ms']:>6.1f} ms "
                        f"{row['bytes_each']:>7.0f} {row['share_304']:>5.0%} {row['gets_per_refresh']:>7.4f}"
                    )
            client.close()
    alerts.main()
    bulk.main()
    events.main()


if __name__ == "__main__":
    main()
