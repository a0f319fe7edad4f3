"""Rules of redaction for one test: they are those of a whole process, which otherwise has none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dashboard.redact.host_hook import HostHook, RedactHook
from dashboard.redact.rules import RedactionRules, configure, forget_rules


@contextmanager
def any_redaction() -> Iterator[None]:
    """Within the block, the first app or command decides by which rules this process masks."""
    forget_rules()
    try:
        yield
    finally:
        forget_rules()


@contextmanager
def masking_by(
    *,
    names: tuple[str, ...] = (),
    patterns: tuple[str, ...] = (),
    allow: tuple[str, ...] = (),
    hook: RedactHook | None = None,
) -> Iterator[None]:
    """Mask by these rules within the block, and by the built-in ones alone after it."""
    with any_redaction():
        configure(RedactionRules(names, patterns, allow, HostHook(hook, "tests:hook") if hook else None))
        yield
