"""Which nodes a cluster has now: asked from the nodes themselves, again after a redirection or a lost node."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from ...clock import monotonic_s
from ...redact import masked_logger
from ...settings.sentinel_urls import host_and_port
from ..failures import ExplainedError, error_line, explain_failure, is_auth
from .nodes import NodeError, Nodes, Step
from .slot_map import Address, SlotMap, parse_slots

log = masked_logger(__name__)

# Without a sign of a change, so that a node that was added is found.
REFRESH_EVERY_S = 10.0
# After a sign of one: a cluster that cannot agree must not be asked with every command.
REFRESH_AFTER_S = 1.0
# One search for a node that answers asks no further node after this time: a page waits for it.
SEARCH_LIMIT_S = 2.9

_ASK = Step(0, b"*2\r\n$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n")


class Topology:
    """The slot map of one cluster. Thread-safe. Sends nothing before the first command."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._asking = threading.Lock()
        self._slots: SlotMap | None = None
        self._refresh_at = 0.0  # monotonic
        self._asked_at = 0.0  # monotonic
        self._last: Address | None = None  # the node that answered last

    @property
    def last(self) -> SlotMap | None:
        """The map that was read last; None before the first."""
        return self._slots

    def current(self) -> SlotMap:
        """The slot map, asked again if there is a reason to. Raises ExplainedError if it is not known.

        Cost: usually none; 1 round trip to a node, one more for each that did not answer.
        """
        slots = self._slots
        if slots is not None and (monotonic_s() < self._refresh_at or not self._asking.acquire(blocking=False)):
            return slots
        if slots is None:
            self._asking.acquire()
        try:
            if self._slots is None or monotonic_s() >= self._refresh_at:
                self._refresh()
            assert self._slots is not None
            return self._slots
        finally:
            self._asking.release()

    def note_moved(self, moved: dict[int, Address]) -> None:
        """Record by which nodes some slots are served now, as other nodes reported when they redirected commands."""
        slots = self._slots
        if slots is not None and moved:
            self._slots = slots.after(moved)
            self.note_change()

    def note_change(self) -> None:
        """Record a sign that the map is out of date: a redirection, a lost node."""
        self._refresh_at = min(self._refresh_at, max(monotonic_s(), self._asked_at + REFRESH_AFTER_S))

    def _refresh(self) -> None:
        self._asked_at = monotonic_s()
        failures: list[tuple[Address, BaseException]] = []
        for address in self._candidates():
            if monotonic_s() - self._asked_at > SEARCH_LIMIT_S:
                break
            try:
                reply = self._nodes.exchange({address: [[_ASK]]})[0][0][1]
            except NodeError as exc:
                failures.append((address, exc.__cause__ or exc))
                continue
            found = parse_slots(reply, address)
            if found is not None:
                self._accept(found, address)
                return
            failures.append((address, reply if isinstance(reply, ResponseError) else ResponseError("no slots")))
        self._refresh_at = monotonic_s() + REFRESH_AFTER_S
        failure = _explain(failures)
        if self._slots is None:
            raise failure
        log.warning("the nodes of the cluster could not be asked again: %s", failure)

    def _accept(self, found: SlotMap, address: Address) -> None:
        before, self._slots, self._last = self._slots, found, address
        self._refresh_at = monotonic_s() + REFRESH_EVERY_S
        self._nodes.keep_only(found.primaries)
        if before is not None and before.primaries != found.primaries:
            names = ", ".join(host_and_port(*each) for each in found.primaries)
            log.info("the primaries of the cluster are now %s", names)

    def _candidates(self) -> Iterator[Address]:
        """The nodes in the order in which they are asked: another one than the last time first, because that one may
        have been separated from the others.
        """
        known = [*(self._slots.primaries if self._slots is not None else ()), *self._nodes.url.nodes]
        distinct = list(dict.fromkeys(known))
        at = distinct.index(self._last) + 1 if self._last in distinct else 0
        yield from (*distinct[at:], *distinct[:at])


def _explain(failures: list[tuple[Address, Any]]) -> ExplainedError:
    """Why no node answered, from the failure that says most."""
    names = ", ".join(host_and_port(*address) for address, _ in failures)
    for address, failure in failures:
        name = host_and_port(*address)
        if isinstance(failure, NoPermissionError):
            hint = "Grant its user +cluster|slots with ACL SETUSER."
            return ExplainedError("forbidden", f"{name} does not allow CLUSTER SLOTS", hint)
        if isinstance(failure, AuthenticationError) or is_auth(failure):
            return ExplainedError(*explain_failure(failure, name))
        if isinstance(failure, ResponseError) and "cluster support disabled" in str(failure):
            hint = "Use redis:// for a server without cluster mode."
            return ExplainedError("protocol", f"{name} is not a node of a Redis Cluster", hint)
        if isinstance(failure, ResponseError):
            hint = f"Check CLUSTER INFO. Its reply: {error_line(failure)}"
            return ExplainedError("refused", f"{name} names no node that serves a hash slot", hint)
    reason, message, hint = explain_failure(failures[0][1], names)
    if len(failures) == 1:
        return ExplainedError(reason, message, hint)
    return ExplainedError(
        reason,
        f"No node of the cluster could be reached ({names})",
        f"Start them, or check the addresses in the URL. First error: {error_line(failures[0][1])}",
    )
