"""What `[redaction]` may say: names to hide, patterns of values to hide, names to show, a hook. Pure."""

from __future__ import annotations

from ..globs import GLOB_LIMIT, is_glob, is_plain
from ..redact import HOOK_NAME, InvalidPattern, RedactionRules, check_pattern, load_hook
from .schema import RedactionSettings

MAX_NAMES = 200
MAX_PATTERNS = 50
LEAST_LETTERS = 2


def rules_of(redaction: RedactionSettings) -> RedactionRules:
    """The rules by which a process with these settings masks. Imports their hook; raises ConfigurationError if that
    fails."""
    hook = load_hook(redaction.hook) if redaction.hook is not None else None
    return RedactionRules(redaction.names, redaction.patterns, redaction.allow, hook)


def find_problem(redaction: RedactionSettings) -> str | None:
    """What is wrong with the settings, as `field: expected …`; None when they are valid.

    Raises ConfigurationError if there are patterns and RE2 is not installed.
    """
    for field, names in (("names", redaction.names), ("allow", redaction.allow)):
        if len(names) > MAX_NAMES:
            return f"{field}: expected at most {MAX_NAMES} names"
        for name in names:
            if not _is_name(name):
                return f"{field}: {name[:GLOB_LIMIT]!r}: expected a name of {LEAST_LETTERS} to {GLOB_LIMIT} characters"
            if field == "allow" and not is_plain(name):
                return f"{field}: {name!r}: expected the whole name, without * and ?"
    if redaction.hook is not None and not HOOK_NAME.match(redaction.hook):
        return "hook: expected module:function, such as myapp.queues:redact"
    if len(redaction.patterns) > MAX_PATTERNS:
        return f"patterns: expected at most {MAX_PATTERNS} patterns"
    for pattern in redaction.patterns:
        try:
            check_pattern(pattern)
        except InvalidPattern as exc:
            return f"patterns: {pattern[:GLOB_LIMIT]!r}: {exc}"
    return None


def _is_name(name: str) -> bool:
    letters = max((sum(map(str.isalnum, part)) for part in name.replace("?", "*").split("*")), default=0)
    return is_glob(name) and name.isprintable() and letters >= LEAST_LETTERS
