"""The scripts that change BullMQ's jobs. Each of them checks first that the queue belongs to a release it knows."""

from __future__ import annotations

from collections.abc import Sequence

from redis.exceptions import ClusterCrossSlotError

from ....sources.source import Argument, Reply, Source, text
from ...actions import BACK
from ...lua_writes import JobCall, WriteScripts
from ..keys import RESTORED, load_writing_script


class BullMQScripts(WriteScripts):
    """The scripts of BullMQ, whose first argument is the prefix of all keys of the queue."""

    def run_script(self, source: Source, name: str, keys: Sequence[Argument], arguments: Sequence[Argument]) -> Reply:
        """See `WriteScripts.run_script`; the error of Redis, without asking it, if the keys are on several nodes."""
        if source.is_cluster and not _are_together(source, arguments[:1]):
            return ClusterCrossSlotError("CROSSSLOT")
        return super().run_script(source, name, keys, arguments)

    def run_for_each(
        self,
        source: Source,
        name: str,
        *portions: Sequence[JobCall],
        keys: Sequence[Argument] = (),
        arguments: Sequence[Argument] = (),
        counted: bool = False,
    ) -> list[Reply]:
        """See `WriteScripts.run_for_each`; the error of Redis for each job if the keys are on several nodes."""
        bases = arguments[: 2 if name == "move_to_queue" else 1]
        if source.is_cluster and not _are_together(source, bases):
            return [ClusterCrossSlotError("CROSSSLOT") for portion in portions for _ in portion]
        return super().run_for_each(source, name, *portions, keys=keys, arguments=arguments, counted=counted)


def restored_key(source: Source, base: str) -> Argument:
    """Queuedeck's own key of the deletions that were undone: in a cluster, one in the hash slot of the queue."""
    return f"{base}{RESTORED}" if source.is_cluster else source.own_key(BACK)


def _are_together(source: Source, bases: Sequence[Argument]) -> bool:
    """Whether all keys that begin with one of `bases` are in one hash slot."""
    names = [text(base) if isinstance(base, bytes) else str(base) for base in bases]
    return all(map(source.keeps_together, names)) and len({source.slot_of(name) for name in names}) == 1


WRITES = BullMQScripts("BullMQ", load_writing_script)
