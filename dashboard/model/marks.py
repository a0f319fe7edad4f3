"""Marks: moments at which something changed, such as a deployment."""

from __future__ import annotations

from .base import Value


class Mark(Value, frozen=True, kw_only=True):
    """One mark, `at` in seconds since 1970. `link` is an http or https URL.

    Marks that were added in Queuedeck have `id` and `who`, those that a library recorded have `source` and `backend`.
    """

    at: float
    text: str
    version: str | None = None
    link: str | None = None
    id: str | None = None
    who: str | None = None
    source: str | None = None
    backend: str | None = None

    @property
    def label(self) -> str:
        """The text and the version: "deploy v412"."""
        return self.text if not self.version or self.version in self.text else f"{self.text} {self.version}"

    @property
    def short_label(self) -> str:
        """The version, or the text if there is none: "v412"."""
        return self.version or self.text
