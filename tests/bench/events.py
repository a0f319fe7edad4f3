"""What hearing Celery costs: 5,000 task events and 5,000 results a second, published by a process of its own.

The process that hears them does what the one that samples does: it listens, and tends its index every 2 s.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
import time
import uuid

import redis

from dashboard.backends.celery.results.index import ResultIndex
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.sources.source import Source

PER_S, SECONDS = 5000, 30.0
TICK_S = 0.02
TEND_S = 2.0
LIMIT_RATIO = 0.15


def _event() -> dict[str, object]:
    return {
        "hostname": "worker1@shop-7d9c", "utcoffset": 0, "pid": 4711, "clock": 123_456, "uuid": str(uuid.uuid4()),
        "result": "'sent to anna@example.com'", "runtime": 0.0321, "timestamp": time.time(), "type": "task-succeeded",
    }  # fmt: skip


def _envelope(told: object) -> bytes:
    """A message of the event exchange as kombu writes it."""
    properties = {"delivery_mode": 1, "delivery_info": {"exchange": "celeryev", "routing_key": "task.multi"}}
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps(told).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"hostname": "worker1@shop-7d9c"},
            "properties": {**properties, "body_encoding": "base64", "delivery_tag": str(uuid.uuid4())},
        }
    ).encode()


def _messages(kind: str) -> list[tuple[bytes, bytes]]:
    """(channel, message) of PER_S events or results, to be published over and over."""
    if kind == "results":
        record = {"status": "SUCCESS", "result": {"sent": "anna@example.com"}, "traceback": None, "children": []}
        record |= {"date_done": "2026-11-24T03:00:00+00:00", "name": "shop.send", "queue": "mails", "args": ["anna"]}
        names = [str(uuid.uuid4()) for _ in range(PER_S)]
        return [
            (f"celery-task-meta-{name}".encode(), json.dumps({**record, "task_id": name}).encode()) for name in names
        ]
    each = int(kind)
    told = [[_event() for _ in range(each)] for _ in range(PER_S // each)]
    return [(b"/0.celeryev/task.multi", _envelope(events)) for events in told]


def load(url: str, kind: str) -> None:
    """Publish at an even pace; prints how many messages were sent in how many seconds."""
    messages = _messages(kind)
    per_s = len(messages)
    client = redis.Redis.from_url(url)
    started = time.perf_counter()
    sent = 0
    while sent < per_s * SECONDS:
        due = min(int((time.perf_counter() - started) * per_s), int(per_s * SECONDS))
        pipe = client.pipeline(transaction=False)
        for n in range(sent, due):
            channel, message = messages[n % per_s]
            if kind == "results":
                pipe.set(channel, message, ex=60)
            pipe.publish(channel, message)
        pipe.execute()
        sent = due
        time.sleep(TICK_S)
    print(json.dumps({"sent": sent, "seconds": time.perf_counter() - started}))


def hear(url: str) -> None:
    """Listen until the input ends; prints what was heard, and the seconds of CPU that it took."""
    source = Source("main", url)
    keeper = ResultIndex(source, source, source, "main")
    while not keeper.listener.is_connected:
        time.sleep(0.01)
    keeper.maintain()
    print("ready", flush=True)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    began, cpu_s = time.perf_counter(), time.process_time()
    whole = True
    while not ended.wait(TEND_S):
        keeper.maintain()
        whole = whole and keeper.tally.ended.whole
    spent_s, seconds = time.process_time() - cpu_s, time.perf_counter() - began
    heard = keeper.listener.received + keeper.listener.heard
    print(json.dumps({"heard": heard, "cpu_s": spent_s, "seconds": seconds, "whole": whole}))
    keeper.close()
    source.close()


def measure(kind: str) -> dict[str, float]:
    """What one run cost the process that hears."""
    me = [sys.executable, "-m", "tests.bench.events"]
    with EmbeddedRedis() as server:
        ear = subprocess.Popen([*me, "hear", server.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert ear.stdout is not None
        assert ear.stdout.readline() == "ready\n"
        sent = json.loads(
            subprocess.run([*me, "load", server.url, kind], check=True, capture_output=True, text=True).stdout
        )
        heard = json.loads(ear.communicate("", timeout=30)[0])
    return {**heard, **sent, "ratio": heard["cpu_s"] / sent["seconds"]}


def main() -> None:
    """Print the table."""
    print(f"\n{'per second':>30} {'heard':>8} {'CPU of one core':>16}   hearing Celery for {SECONDS:.0f} s")
    for kind, words in (("1", "events, one a message"), ("10", "events, ten a message"), ("results", "results")):
        row = measure(kind)
        print(f"{PER_S:>7} {words:>22} {row['heard'] / row['sent']:>8.1%} {row['ratio']:>16.1%}", end="   ")
        print(f"{'within' if row['ratio'] <= LIMIT_RATIO else 'OVER'} {LIMIT_RATIO:.0%}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["load"]:
        load(*sys.argv[2:4])
    elif sys.argv[1:2] == ["hear"]:
        hear(sys.argv[2])
    else:
        main()
