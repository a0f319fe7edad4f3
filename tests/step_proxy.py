"""A proxy in front of Redis that stops a client before its k-th command, so that a test tries every interleaving.

Two clients that race can only meet between two commands. So there is no need to race them: one of them runs through the
proxy, and the other one runs as a whole before the first command, then before the second, and so on to the last one:

    with StepProxy(server.port, takes=RQ_TAKES) as proxy, working(proxy.url, "simple", "alpha"):
        proxy.wait_for_take()
        for step in proxy.steps():
            job = queue.enqueue(...)
            with step.before(lambda: answers.append(backend.delete(...))):
                proxy.take_turn()
            assert ..., step

Which of the two goes through the proxy is the test's choice: the library's worker with an action of ours in between, or
our own action (a Source at `proxy.url`) with the worker or the application in between.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType

import hiredis

from tests.waiting import CEILING_S

Command = Sequence[bytes]
# No client of the tests has more steps in one run; a loop that never ends would.
MAX_STEPS = 2000
# How soon a held worker that hung up is noticed.
LOOK_EVERY_S = 0.5


def any_command(_: Command) -> bool:
    """Every command is a step."""
    return True


@dataclass
class Step:
    """One interleaving: the other side runs before the command of this number. Its text tells which one that is."""

    number: int
    _proxy: StepProxy
    reached: bool = False
    commands: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def before(self, act: Callable[[], object], *, since: Callable[[Command], bool] = any_command) -> Iterator[None]:
        """Within, `act` runs once, before the client's command of this number; counting starts at a command of `since`.

        Raises what `act` raised.
        """
        self._proxy.arm(self.number, act, since)
        try:
            yield
        finally:
            self.reached, self.commands, error = self._proxy.disarm()
        if error is not None:
            raise error

    def __str__(self) -> str:
        at = self.commands[self.number] if self.number < len(self.commands) else "a command that never came"
        return f"step {self.number}, before {at}"


class StepProxy:
    """Passes RESP commands of any number of clients on to a Redis of this machine, one command at a time.

    `takes`: names of the commands with which a worker asks for a job. They are held until `take_turn`, so a worker that
    waits for a turn is at rest. Each is two steps: when it is asked for, and when it goes on to Redis. `counts`: which
    commands are steps; a heartbeat of another thread is none.
    """

    def __init__(
        self,
        port: int,
        *,
        takes: frozenset[bytes] = frozenset(),
        counts: Callable[[Command], bool] = any_command,
    ) -> None:
        self._upstream = port
        self._takes = takes
        self._counts = counts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._waiting = threading.Semaphore(0)
        self._turns = threading.Semaphore(0)
        self._closed = self.gave_up = False
        self._at = -1
        self._act: Callable[[], object] | None = None
        self._since: Callable[[Command], bool] = any_command
        self._begun = self._reached = False
        self._seen: list[str] = []
        self._error: BaseException | None = None

    @property
    def url(self) -> str:
        """The redis:// URL of database 0 behind this proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> StepProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._turns.release(1000)
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def steps(self) -> Iterator[Step]:
        """A Step for each number from 0 on, until the client did not get as far as the last one."""
        for number in range(MAX_STEPS):
            step = Step(number, self)
            yield step
            if not step.reached:
                return
        raise AssertionError(f"the client has not come to an end after {MAX_STEPS} commands")

    @property
    def is_held(self) -> bool:
        """Whether a worker asks for a job now, and is held there."""
        held = self._waiting.acquire(blocking=False)
        if held:
            self._waiting.release()
        return held

    def wait_for_take(self) -> None:
        """Return once a worker asks for a job, and is held there.

        Fails when a held worker gave up: a test that is slow would then lose the job for which it asked.
        """
        assert not self.gave_up, "a held worker hung up: its client needs a longer time-out"
        assert self._waiting.acquire(timeout=CEILING_S), (
            f"no worker asked for a job within {CEILING_S:.0f} s; its commands so far: {self._seen}"
        )

    def take_turn(self) -> None:
        """Let a held worker have its answer, and return once it asks again and is held again."""
        self.let_go()
        self.wait_for_take()

    def let_go(self) -> None:
        """Let a held worker have its answer, and do not wait for it."""
        self._turns.release()

    def arm(self, number: int, act: Callable[[], object], since: Callable[[Command], bool]) -> None:
        """Run `act` before the command of that number, counted from the first one for which `since` holds."""
        with self._lock:
            self._at, self._act, self._since = number, act, since
            self._begun = self._reached = False
            self._seen, self._error = [], None

    def disarm(self) -> tuple[bool, list[str], BaseException | None]:
        """Stop counting: (whether `act` ran, the commands that were counted, what `act` raised)."""
        with self._lock:
            self._act = None
            return self._reached, list(self._seen), self._error

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
                upstream = socket.create_connection(("127.0.0.1", self._upstream))
            except OSError:
                return  # closed
            for each in (client, upstream):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets.append(each)
            threading.Thread(target=self._pass_commands, args=(client, upstream), daemon=True).start()
            threading.Thread(target=_pass_bytes, args=(upstream, client), daemon=True).start()

    def _pass_commands(self, client: socket.socket, upstream: socket.socket) -> None:
        with contextlib.suppress(OSError, hiredis.ProtocolError):
            for words in read_commands(client):
                if words and words[0].upper() in self._takes:
                    if self._counts(words):
                        self._count((words[0], b"asked for"))
                    self._waiting.release()
                    if not self._held(client):
                        break
                if self._counts(words):
                    self._count(words)
                upstream.sendall(hiredis.pack_command(tuple(words)))
        _hang_up(upstream)

    def _held(self, client: socket.socket) -> bool:
        """Whether the turn of a held client came before it hung up."""
        while not self._turns.acquire(timeout=LOOK_EVERY_S):
            with contextlib.suppress(BlockingIOError):
                if not client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                    self.gave_up = not self._closed
                    return False
        return not self._closed

    def _count(self, words: Command) -> None:
        with self._lock:  # held while `act` runs, so that every other connection of the client stands still, too
            if self._act is None or not (self._begun or self._since(words)):
                return
            self._begun = True
            number = len(self._seen)
            self._seen.append(b" ".join(word[:60] for word in words[:3]).decode("utf-8", "replace"))
            if number == self._at:
                self._reached = True
                try:
                    self._wait_for_earlier_commands()
                    self._act()
                except BaseException as exc:
                    self._error = exc

    def _wait_for_earlier_commands(self) -> None:
        """Return once Redis has run what was sent on to it: a client that pipelines does not wait for replies.

        Redis answers nobody before it has run what had come by then from all of its clients.
        """
        with socket.create_connection(("127.0.0.1", self._upstream), CEILING_S) as own:
            own.sendall(b"*1\r\n$4\r\nPING\r\n")
            assert own.recv(100), "Redis hung up"


def read_commands(client: socket.socket) -> Iterator[list[bytes]]:
    """The commands of a client, each its words, until it hangs up.

    Raises hiredis.ProtocolError for what is no RESP array of bulk strings.
    """
    reader = hiredis.Reader()
    while data := client.recv(65_536):
        reader.feed(data)
        while (words := reader.gets()) is not False:
            if not isinstance(words, list) or not all(isinstance(word, bytes) for word in words):
                raise hiredis.ProtocolError(f"no command: {words!r:.40}")
            yield words


def _pass_bytes(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    _hang_up(target)


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
