"""What this process masks besides the built-in names and shapes: further names, patterns of values, names to show.

The rules are those of the whole process, since masking happens far below any app: in log lines, in threads, in caches.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from ..errors import ConfigurationError
from ..globs import glob_matches, is_plain
from .host_hook import HostHook
from .value_patterns import ValuePatterns
from .written_names import last_words, plain_name

_Masking = TypeVar("_Masking", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class RedactionRules:
    """What the settings say.

    `names`: globs of names whose values are hidden. `patterns`: of values that are, in the syntax of RE2. `allow`:
    names whose values are shown although the name is built in. `hook`: the host's function that hides more.
    """

    names: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    hook: HostHook | None = None


class NameRules:
    """The names of some rules, prepared for comparing."""

    def __init__(self, rules: RedactionRules) -> None:
        plain = [plain_name(name) for name in rules.names]
        self._exact = frozenset(name for name in plain if is_plain(name))
        self._globs = tuple(name for name in plain if not is_plain(name))
        self._allowed = frozenset(map(plain_name, rules.allow))
        # The longest part of each name without wildcards: a text contains none of the names if it has none of these,
        # once its dashes, underscores, dots and spaces are removed.
        self._parts = tuple({max(name.replace("?", "*").split("*"), key=len) for name in plain})
        self._before_last = last_words(name for name in rules.names if is_plain(name))

    def hides(self, name: str) -> bool:
        """Whether values with this name are hidden. Of dotted names, the whole and the last count."""
        return any(
            each in self._exact or any(glob_matches(glob, each) for glob in self._globs) for each in _compared(name)
        )

    def allows(self, name: str) -> bool:
        """Whether values with this name are shown, if only its name is against it."""
        return bool(self._allowed) and any(each in self._allowed for each in _compared(name))

    def may_occur(self, low: str) -> bool:
        """Whether a text in lower case may contain one of the hidden names. Time: its length for each name."""
        if not self._parts:
            return False
        plain = plain_name(low)
        return any(part in plain for part in self._parts)

    def ends_with_hidden(self, before: str, word: str) -> bool:
        """Whether `word`, with the words `before` it, is a hidden name that is written as several words."""
        firsts = self._before_last.get(word.lower())
        return firsts is not None and plain_name(before).endswith(firsts)


def _compared(name: str) -> tuple[str, ...]:
    last = name.rpartition(".")[2]
    return (plain_name(name),) if last == name else (plain_name(name), plain_name(last))


class _Active:
    """The rules of this process."""

    def __init__(self) -> None:
        self.configured: RedactionRules | None = None
        self.names: NameRules | None = None  # None: there are none, and masking costs nothing more
        self.values: ValuePatterns | None = None
        self.hook: HostHook | None = None


ACTIVE = _Active()
_changing = threading.Lock()
_caches: list[Callable[[], None]] = []


def masking_cache(maxsize: int) -> Callable[[_Masking], _Masking]:
    """Decorate a function of one text whose result depends on the rules: results are kept until these change."""

    def decorate(function: _Masking) -> _Masking:
        cached: Any = lru_cache(maxsize)(function)
        _caches.append(cached.cache_clear)
        found: _Masking = cached
        return found

    return decorate


def configure(rules: RedactionRules) -> None:
    """Mask by `rules` from now on, in the whole process. Does nothing if it does so already.

    Raises ConfigurationError if the process has other rules, or for a pattern that is not valid.
    """
    with _changing:
        if ACTIVE.configured is not None and ACTIVE.configured != rules:
            raise ConfigurationError(
                "redaction: expected the same in all dashboards of one process",
                hint="Another dashboard of this process has other redaction settings. Give them the same, or run them "
                "in processes of their own.",
            )
        if ACTIVE.configured is None:
            _apply(rules)


def forget_rules() -> None:
    """Return to the built-in names and shapes, so that `configure` accepts other rules. Only for tests."""
    with _changing:
        _apply(None)


def _apply(rules: RedactionRules | None) -> None:
    given = rules or RedactionRules()
    values = ValuePatterns(given.patterns) if given.patterns else None
    ACTIVE.names = NameRules(given) if given.names or given.allow else None
    ACTIVE.values = values
    ACTIVE.hook = given.hook
    ACTIVE.configured = rules
    for clear in _caches:
        clear()
