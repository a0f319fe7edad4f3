"""How long PING waits at a Redis while others work there: python -m tests.bench.ping PORT, until its input ends.

A process of its own with a plain socket, so that nothing of the work it watches holds it up but the server and the
processor. Answers one line of JSON: how many, and the waits in milliseconds.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Often enough that a script of a few milliseconds is met, seldom enough that two cores are left to the others.
PAUSE_S = 0.0002


@contextmanager
def pinged(port: int) -> Iterator[dict[str, float]]:
    """What PING waited inside the block, once it is over."""
    waits: dict[str, float] = {}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bench.ping", str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield waits
        finally:
            told = process.communicate()[0]
        waits.update(json.loads(told))


def main() -> None:
    """Ping until the input ends."""
    waits: list[float] = []
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print("ready", flush=True)
        # At least once: on a busy machine the work may be over before this process has its turn.
        while not waits or not select.select([sys.stdin], [], [], PAUSE_S)[0]:
            started = time.perf_counter()
            connection.sendall(b"PING\r\n")
            connection.recv(64)
            waits.append((time.perf_counter() - started) * 1000)
    waits.sort()
    told = {
        "count": len(waits),
        "p99_ms": waits[int(len(waits) * 0.99)],
        "p999_ms": waits[int(len(waits) * 0.999)],
        "max_ms": waits[-1],
        "over_5ms": sum(wait > 5 for wait in waits),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
