"""The names of sources and libraries that settings and rules may refer to. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ConfigurationError
from ..globs import is_plain
from .schema import Settings


@dataclass(frozen=True, slots=True)
class KnownNames:
    """The names in the order in which errors list them."""

    sources: tuple[str, ...]
    backends: tuple[str, ...]

    def find_problem(self, source: object, backend: object) -> str | None:
        """What is wrong with the scope of a rule, an objective or an entry, as `field: expected …`; None if nothing is.

        A glob with wildcards may match nothing yet; a plain name that does not exist would match nothing for ever.
        """
        for field, glob, known in (("source", source, self.sources), ("backend", backend, self.backends)):
            if isinstance(glob, str) and is_plain(glob) and glob not in known:
                return f"{field}: expected * or one of {', '.join(known)}; unknown {field} {glob[:64]!r}"
        return None


def check_scopes(settings: Settings, names: KnownNames) -> None:
    """Raise ConfigurationError for the first queue entry, objective or grant whose source or library does not exist."""
    scopes: Sequence[tuple[str, str, str]] = [
        *((f"queues: entry {number}", entry.source, entry.backend) for number, entry in enumerate(settings.queues, 1)),
        *((f"slos: slo {slo.id!r}", slo.source, slo.backend) for slo in settings.slos),
        *((f"grants: grant {number}", entry.source, entry.backend) for number, entry in enumerate(settings.grants, 1)),
    ]
    for where, source, backend in scopes:
        problem = names.find_problem(source, backend)
        if problem is not None:
            raise ConfigurationError(f"{where}: {problem}")
