"""Trying all interleavings of two clients, and the proof that they were tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from dashboard.backends.actions import ActionResult, JobBackup
from tests.step_proxy import Command, Step, StepProxy

TOO_LATE = ("gone", "changed", "refused")


class OutsideTransactions:
    """Whether a command is a step: not if it is only queued. What runs before EXEC might as well run before MULTI.

    For clients that have one connection for their transactions.
    """

    def __init__(self) -> None:
        self._queuing = False

    def __call__(self, command: Command) -> bool:
        name = command[0].upper()
        if self._queuing:
            self._queuing = name not in (b"EXEC", b"DISCARD")
            return False
        self._queuing = name == b"MULTI"
        return True


class Scenario:
    """One act against one client: each interleaving of the two, and a count of the answers that the act got."""

    def __init__(self, library: str, record_property: Callable[[str, object], None]) -> None:
        self._library = library
        self._record = record_property
        self.answers: Counter[str] = Counter()

    def count(self, results: Sequence[ActionResult | JobBackup]) -> int:
        """Note these answers; how many of them say that the act was done."""
        words = outcomes(results)
        self.answers.update(words)
        return words.count("done")

    def try_all(
        self,
        name: str,
        proxy: StepProxy,
        attempt: Callable[[Step], None],
        *,
        at_least: int,
        always_done: bool = False,
    ) -> None:
        """Call `attempt` once for each command of the client behind `proxy`, and once more without an act.

        Fails unless there were `at_least` interleavings, and both acts that were done and acts that came too late; none
        of the latter where they are `always_done`. Records the number of interleavings.
        """
        driven = 0
        for step in proxy.steps():
            try:
                attempt(step)
            except Exception as exc:
                exc.add_note(f"{self._library}, {name}: {step}")
                raise
            driven += step.reached
        self._record("interleavings", [self._library, name, driven])
        assert driven >= at_least, f"{name}: the client had only {driven} steps"
        too_late = sum(self.answers[word] for word in TOO_LATE)
        assert self.answers["done"], f"{name}: never done: {self.answers}"
        assert bool(too_late) != always_done, f"{name}: {self.answers}"


def outcomes(results: Sequence[ActionResult | JobBackup]) -> list[str]:
    """What came of each; `kept` for what was taken."""
    return [each.outcome.value if isinstance(each, ActionResult) else "kept" for each in results]
