"""One HTTP request while it arrives: where it ends, and whether it is within the limits."""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus

MAX_HEAD = 64 * 1024
MAX_BODY = 1024 * 1024 + 4096  # slightly more than the application accepts, whose error message is clearer
MAX_CHUNKS = 4096  # of one body: each costs the main loop some microseconds
MAX_LINE = 8190  # as gunicorn's own limit
_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\d{1,18}\Z")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;|\Z)")
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"expect"})


class RequestRefused(Exception):
    """The request is rejected; `status` is the reason."""

    def __init__(self, status: HTTPStatus) -> None:
        self.status = status


class IncomingRequest:
    """The bytes of one request so far. Once it is complete, gunicorn gets `request`; `rest` is what came after it.

    A chunked body is joined here: gunicorn's reader of chunks takes time that grows with the square of their number. A
    request that does not state the length of its body in exactly one way is rejected, so that a thread never waits for
    more. Time: linear in the bytes.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_complete = False
        self.expects_continue = False
        self._place = 0  # everything before it has been parsed
        self._end = 0  # end of the body, or of the current chunk
        self._lines: list[bytes] = []  # of the head, without those that frame the body
        self._chunks: list[tuple[int, int]] = []  # start and end of each in the data
        self._chunked = 0  # bytes in them
        self._framed = False  # whether the head announced a body
        self._step: Callable[[], bool] = self._read_head  # whether there is a next step with what has arrived

    def add(self, data: bytes) -> None:
        """Add bytes that have arrived. Raises RequestRefused."""
        self.data += data
        while not self.is_complete and self._step():
            pass

    @property
    def request(self) -> bytes:
        """Head and body, with the length of the body in a single header."""
        body = b"".join(bytes(self.data[start:end]) for start, end in self._chunks)
        lines = [*self._lines, *([b"Content-Length: %d" % len(body)] if self._chunks or self._framed else [])]
        return b"\r\n".join(lines) + _HEAD_END + body

    @property
    def rest(self) -> bytes:
        """The beginning of the next request."""
        return bytes(self.data[self._end :])

    def _read_head(self) -> bool:
        end = self.data.find(_HEAD_END, max(0, self._place - len(_HEAD_END) + 1))
        self._place = len(self.data)
        if (end if end >= 0 else self._place) > MAX_HEAD:
            raise RequestRefused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if end < 0:
            return False
        self._place = self._end = end + len(_HEAD_END)
        lengths, codings = self._read_lines(bytes(self.data[:end]))
        self._framed = bool(lengths or codings)
        if codings:
            if codings != [b"chunked"] or lengths or not self._lines[0].endswith(b" HTTP/1.1"):
                raise RequestRefused(HTTPStatus.BAD_REQUEST)
            self._step = self._read_chunk_line
        elif lengths:
            self._read_length(lengths)
        else:
            self.is_complete = True
        return True

    def _read_lines(self, head: bytes) -> tuple[list[bytes], list[bytes]]:
        """(values of Content-Length, values of Transfer-Encoding); notes whether the client expects 100 Continue."""
        first, *lines = head.split(b"\r\n")
        values: dict[bytes, list[bytes]] = {name: [] for name in _FRAMING}
        self._lines = [first]
        for line in lines:
            name, _, value = line.partition(b":")
            if (name := name.lower()) in _FRAMING:
                values[name].append(value.strip(b" \t").lower())
            else:
                self._lines.append(line)
        expected = values[b"expect"]
        if expected not in ([], [b"100-continue"]):
            raise RequestRefused(HTTPStatus.EXPECTATION_FAILED)
        self.expects_continue = bool(expected) and first.endswith(b" HTTP/1.1")
        return values[b"content-length"], values[b"transfer-encoding"]

    def _read_length(self, lengths: list[bytes]) -> None:
        if len(lengths) != 1 or not _LENGTH.match(lengths[0]):
            raise RequestRefused(HTTPStatus.BAD_REQUEST)
        self._end = self._place + int(lengths[0])
        if int(lengths[0]) > MAX_BODY:
            raise RequestRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        self._step = self._read_body

    def _read_body(self) -> bool:
        if len(self.data) >= self._end:
            self._chunks = [(self._place, self._end)]
            self.is_complete = True
        return False

    def _read_chunk_line(self) -> bool:
        end = self.data.find(b"\r\n", self._place, self._place + MAX_LINE)
        if end < 0:
            if len(self.data) - self._place >= MAX_LINE:
                raise RequestRefused(HTTPStatus.BAD_REQUEST)
            return False
        found = _CHUNK_SIZE.match(bytes(self.data[self._place : end]))
        if found is None:
            raise RequestRefused(HTTPStatus.BAD_REQUEST)
        size = int(found[1], 16)
        if size == 0:
            self._place, self._step = end, self._read_trailers
            return True
        self._chunked += size
        if self._chunked > MAX_BODY or len(self._chunks) >= MAX_CHUNKS:
            raise RequestRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        self._chunks.append((end + 2, end + 2 + size))
        self._end, self._step = end + 2 + size + 2, self._read_chunk
        return True

    def _read_chunk(self) -> bool:
        if len(self.data) < self._end:
            return False
        if self.data[self._end - 2 : self._end] != b"\r\n":
            raise RequestRefused(HTTPStatus.BAD_REQUEST)
        self._place, self._step = self._end, self._read_chunk_line
        return True

    def _read_trailers(self) -> bool:
        """Skip the trailers, which the application never reads."""
        end = self.data.find(_HEAD_END, self._place)
        if (end if end >= 0 else len(self.data)) - self._place > MAX_HEAD:
            raise RequestRefused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        self.is_complete = end >= 0
        self._end = end + len(_HEAD_END)
        return False
