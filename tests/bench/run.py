"""`make bench`: what a sample and its publishing cost for 10 to 10,000 queues, and a refresh for 1, 10 and 50 viewers;
what an evaluation of the rules costs; the history of 30 days; bulk work; and hearing Celery.

Run as `python -m tests.bench.run`, with `--samples 30` in place of the 150 of five minutes for a quick look, which says
so, and with `--costs` for the first two tables alone. Everything is measured in one run on one machine; figures of
other machines compare only as ratios, `plain` among them: the time in all, as a multiple of what a plain pipeline takes
for the counts. The queues have the keys that each library leaves behind; half of them are busy while the clock runs,
but for those at rest.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import redis

from dashboard.demo.embedded import EmbeddedRedis, free_port
from tests.bench import alerts, bulk, events, history
from tests.bench.queues import LIBRARIES, fill_bullmq
from tests.bench.sample import EACH, INTERVAL_S, SAMPLES
from tests.waiting import wait_until

SAMPLED = (10, 100, 1000, 10_000)
POLLERS = (1, 10, 50)
SECONDS = 4.0
HEADS = (
    " queues  commands trips        kB | Redis CPU: first      last   publish  longest       kB |"
    "  leader: first      last  a core     RSS     in all   plain"
    " | PING p99       max   one sample, published"
)
OTHERS = 1000  # so many queues of each library
LINE = (
    "{queues:>7} {commands:>9.0f} {round_trips:>5.0f} {kB:>9.1f} | {first_redis_cpu_ms:>13.1f} ms {redis_cpu_ms:>6.1f}"
    " ms {publish_redis_ms:>5.1f} ms {publish_longest_ms:>5.2f} ms {publish_kB:>8.1f} | {first_cpu_ms:>11.1f} ms"
    " {cpu_ms:>6.1f} ms {core_share:>7.1%} {rss_mb:>4.0f} MB {wall_ms:>7.1f} ms {ratio:>7.2f}"
    " | {ping_p99_ms:>5.1f} ms {ping_max_ms:>6.1f} ms"
)


@contextmanager
def dashboard(server: EmbeddedRedis) -> Iterator[int]:
    """The port of a `queuedeck serve` on `server` that is ready."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "dashboard.cli", "serve", "--no-auth", "--redis", server.url, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_ready(port)
        yield port
    finally:
        process.terminate()
        process.wait(15)


def wait_until_ready(port: int) -> None:
    """Wait until the dashboard on `port` answers that it is ready."""

    def is_ready() -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).read()
        except (urllib.error.URLError, OSError):
            return False
        return True

    wait_until(is_ready, what="a dashboard that is ready")


def bench_refresh(port: int, pollers: int) -> dict[str, float]:
    """Refreshes of the overview by `pollers` viewers at once, as fast as they are answered."""
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
    return figures


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.run")
    parser.add_argument("--samples", type=int, default=SAMPLES, help=f"of each row; {SAMPLES} are five minutes")
    parser.add_argument("--costs", action="store_true", help="leave out rules, history, bulk work and Celery")
    options = parser.parse_args()
    print(f"first and last = medians of {EACH} of {options.samples} samples, {options.samples * INTERVAL_S / 60:g} min")
    print(HEADS)
    others = [(OTHERS, name, *more) for name in LIBRARIES for more in ((), ("rest",))]
    for queues, *words in (*((queues, "bullmq") for queues in SAMPLED if queues != OTHERS), *others):
        command = [sys.executable, "-m", "tests.bench.sample", str(queues), *words]
        command.append(f"samples={options.samples}")
        row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        line = LINE.format(queues=queues, ratio=row["wall_ms"] / row["pipeline_ms"], **row)
        print(f"{line}   {' at '.join(words)}", flush=True)
    viewers(SAMPLED)
    if options.costs:
        return
    alerts.main()
    history.main()
    bulk.main()
    events.main()


def viewers(sizes: Sequence[int]) -> None:
    """Print the table of refreshes; `changed`: the p95 of those alone that bring something new."""
    heads = f"{'queues':>7} {'viewers':>8} {'refreshes/s':>12} {'p50':>9} {'p95':>9} {'bytes':>7} {'304':>5}"
    print(f"\n{heads} {'changed':>12}")
    for queues in sizes:
        with EmbeddedRedis() as server:
            client = redis.Redis.from_url(server.url)
            fill_bullmq(client, queues)
            with dashboard(server) as port:
                for pollers in POLLERS:
                    row = bench_refresh(port, pollers)
                    print(
                        f"{queues:>7} {pollers:>8} {row['per_s']:>12.0f} "
                        f"{row['p50_ms']:>6.1f} ms {row['p95_ms']:>6.1f} ms "
                        f"{row['bytes_each']:>7.0f} {row['share_304']:>5.0%} {row['changed_p95_ms']:>9.1f} ms",
                        flush=True,
                    )
            client.close()


if __name__ == "__main__":
    main()
