"""What was done with many alerts at once, in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ....units import format_count

MAX_DIGITS = 8


@dataclass(frozen=True, slots=True)
class GroupResult:
    """What was done with a group, carried in the URL to the page that shows it: counts only."""

    acknowledged: int = 0
    already: int = 0
    newer: int = 0
    silenced: int = 0
    others: int = 0  # not silenced

    @classmethod
    def read(cls, args: Mapping[str, str]) -> GroupResult | None:
        """The result in the arguments of a URL; None when there is none."""
        found = {}
        for name in cls.__slots__:
            text = args.get(name, "")
            if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS:
                found[name] = int(text)
        return cls(**found) if found else None

    @property
    def text(self) -> str:
        """The result in words."""
        if self.silenced or self.others:
            text = f"{format_count(self.silenced, 'alert')} silenced"
            if self.others:
                others = f"{format_count(self.others, 'alert')} of rules that started firing since"
                text += f"; {others} {_is_or_are(self.others)} not"
            return text
        parts = [f"{format_count(self.acknowledged, 'alert')} acknowledged"]
        if self.already:
            parts.append(f"{self.already:,} already {'was' if self.already == 1 else 'were'}")
        if self.newer:
            parts.append(f"{self.newer:,} started since and {_is_or_are(self.newer)} not acknowledged")
        return "; ".join(parts)


def _is_or_are(count: int) -> str:
    return "is" if count == 1 else "are"
