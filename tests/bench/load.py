"""Pollers as browsers are: keep-alive connections that ask for one URL again and again, from one process."""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Poller:
    connection: socket.socket
    tag: str | None = None
    sent_at: float = 0.0
    buffer: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class Result:
    """What the pollers saw: latencies in seconds, answers by status, bytes of all answers."""

    latencies_s: list[float] = field(default_factory=list)
    changed_s: list[float] = field(default_factory=list)  # of answers that bring something new
    statuses: dict[int, int] = field(default_factory=dict)
    received_bytes: int = 0
    elapsed_s: float = 0.0

    def report(self) -> dict[str, float]:
        """Figures for the table."""
        ordered, changed = sorted(self.latencies_s), sorted(self.changed_s)
        count = len(ordered)
        return {
            "requests": count,
            "per_s": count / self.elapsed_s,
            "p50_ms": ordered[count // 2] * 1000,
            "p95_ms": ordered[int(count * 0.95)] * 1000,
            "changed": len(changed),
            "changed_p95_ms": changed[int(len(changed) * 0.95)] * 1000 if changed else 0.0,
            "bytes_each": self.received_bytes / count,
            "share_304": self.statuses.get(304, 0) / count,
        }


def poll(host: str, port: int, path: str, *, pollers: int, seconds: float, tags: bool = True) -> Result:
    """Let `pollers` connections ask as fast as they are answered, for `seconds`.

    With `tags` each sends the HX-PTag of its last answer, as the page does, so that an unchanged fragment is a 304.
    """
    selector = selectors.DefaultSelector()
    for _ in range(pollers):
        connection = socket.create_connection((host, port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poller = _Poller(connection)
        selector.register(connection, selectors.EVENT_READ, poller)
        _ask(poller, host, port, path)
    result = Result()
    started = time.perf_counter()
    while (now := time.perf_counter()) - started < seconds:
        for key, _ in selector.select(0.1):
            poller = key.data
            data = poller.connection.recv(262_144)
            if not data:
                raise ConnectionError("the server closed a connection")
            poller.buffer += data
            answer = _complete(poller.buffer)
            if answer is None:
                continue
            status, tag, size = answer
            if status not in (200, 304):
                raise ConnectionError(f"the server answered {status}")
            now = time.perf_counter()
            result.latencies_s.append(now - poller.sent_at)
            if status == 200:
                result.changed_s.append(now - poller.sent_at)
            result.statuses[status] = result.statuses.get(status, 0) + 1
            result.received_bytes += size
            del poller.buffer[:size]
            poller.tag = tag if tags else None
            _ask(poller, host, port, path)
    result.elapsed_s = time.perf_counter() - started
    for key in list(selector.get_map().values()):
        key.data.connection.close()
    return result


def _ask(poller: _Poller, host: str, port: int, path: str) -> None:
    tag = f"HX-PTag: {poller.tag}\r\n" if poller.tag else ""
    poller.sent_at = time.perf_counter()
    poller.connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nHX-Request: true\r\nAccept-Encoding: gzip\r\n{tag}\r\n".encode()
    )


def _complete(buffer: bytearray) -> tuple[int, str | None, int] | None:
    """(status, tag, size) of the answer at the start of `buffer`; None while it is not whole."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    lines = bytes(buffer[:end]).decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ", 2)[1])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    length = 0 if status == 304 else int(headers.get("content-length", "0"))
    size = end + 4 + length
    return (status, headers.get("hx-ptag"), size) if len(buffer) >= size else None


def main() -> None:
    """Print the report of one run as JSON: the load runs in a process of its own, beside the server under test."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("--pollers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--no-tags", action="store_true")
    options = parser.parse_args()
    result = poll(
        "127.0.0.1",
        options.port,
        options.path,
        pollers=options.pollers,
        seconds=options.seconds,
        tags=not options.no_tags,
    )
    print(json.dumps(result.report()))


if __name__ == "__main__":
    main()
