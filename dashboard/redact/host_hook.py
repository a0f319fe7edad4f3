"""The function of the host application that says which parts of a text to hide.

It only names parts: it can neither show what the rules hide, nor put other text in its place. So an edited payload
keeps whatever it hides, and a text that it fails for is hidden as a whole.
"""

from __future__ import annotations

import functools
import importlib
import json
import logging
import re
import traceback
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from itertools import islice

from ..errors import ConfigurationError
from .placeholder import MASK

RedactHook = Callable[[str], Iterable[str]]

# Of one text: with more parts or places, all of it is hidden.
MAX_PARTS, MAX_PLACES = 1000, 10_000
FAILED = f"{MASK} (the redact hook failed)"
NAME = re.compile(r"[A-Za-z_][\w.]{0,199}:[A-Za-z_][\w.]{0,199}\Z")
_MASKS = re.compile(MASK)
_NO_NAME = re.compile(r"[^\w.]")
# What JSON within a text, and `repr`, can write as an escape; letters beyond a plane as two.
_ESCAPES = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\[\"'\\/bfnrt]")
# JSON within JSON has escapes of escapes.
MAX_LEVELS = 3

# Not `masked_logger`, which calls the hook: what is logged here has no text from Redis.
log = logging.getLogger(__name__)
_is_asking: ContextVar[bool] = ContextVar("queuedeck_asks_redact_hook", default=False)
_given: dict[str, RedactHook] = {}


class HostHook:
    """One such function. Hooks are equal if their functions are. Thread-safe if the function is."""

    def __init__(self, function: RedactHook, name: str) -> None:
        """`name`: as messages name it."""
        self.function = function
        self._name = name
        self._has_failed = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HostHook) and other.function == self.function

    def __hash__(self) -> int:
        return hash(HostHook)  # not every function that can be called can be hashed

    def mask(self, text: str) -> str:
        """Return `text` with MASK in place of the parts to hide; FAILED if the function raises or returns no texts.

        What the function itself logs or reads through Queuedeck is hidden as a whole, since it would call it again.
        """
        if not text or text == MASK:
            return text
        if _is_asking.get():
            return MASK
        token = _is_asking.set(True)
        try:
            masked = self._masked(text)
            plain = text
            for _ in range(MAX_LEVELS):
                former, plain = plain, _ESCAPES.sub(_unescaped, plain) if "\\" in plain else plain
                if plain == former:
                    break
                masked_plain = self._masked(plain)
                # A text without anything to hide stays as it is, so that editing it changes nothing.
                masked = masked_plain if masked_plain != plain else masked
        except (Exception, SystemExit) as exc:
            self._note_failure(exc)
            return FAILED
        finally:
            _is_asking.reset(token)
        return masked

    def _masked(self, text: str) -> str:
        spans = _spans_of(text, self._parts_of(text))
        if spans is None:
            return MASK
        pieces: list[str] = []
        done = 0
        for begin, end in spans:
            pieces += (text[done:begin], MASK)
            done = end
        return "".join((*pieces, text[done:])) if pieces else text

    def _parts_of(self, text: str) -> list[str]:
        answer: object = self.function(text)
        if isinstance(answer, str | bytes) or not isinstance(answer, Iterable):
            raise TypeError(f"expected a list of texts, not {type(answer).__name__}")
        parts = list(islice(answer, MAX_PARTS + 1))
        if not all(isinstance(part, str) for part in parts):
            raise TypeError("expected a list of texts")
        return [part for part in parts if part]

    def _note_failure(self, exc: BaseException) -> None:
        """Log the first failure. What an exception says can be the text itself, so only its class is logged, and where
        it was raised."""
        if self._has_failed:
            return
        self._has_failed = True
        last = traceback.extract_tb(exc.__traceback__)[-1]
        log.error(
            "the redact hook %s failed: %s at %s:%s; each text that it fails for is hidden (logged once)",
            *(self._name, type(exc).__name__, last.filename, last.lineno),
        )


def _spans_of(text: str, parts: list[str]) -> list[tuple[int, int]] | None:
    """Return where the parts are in `text`, with the masks that they touch, in order and apart from each other; None if
    they are too many."""
    if len(parts) > MAX_PARTS:
        return None
    found: list[tuple[int, int]] = []
    for part in dict.fromkeys(parts):
        at = text.find(part)
        while at >= 0:
            found.append((at, at + len(part)))
            if len(found) > MAX_PLACES:
                return None
            at = text.find(part, at + 1)  # also where it overlaps itself
    if not found:
        return []
    found += [(each.start(), each.end()) for each in _MASKS.finditer(text)]
    spans: list[tuple[int, int]] = []
    for begin, end in sorted(found):
        if spans and begin <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(end, spans[-1][1])
        else:
            spans.append((begin, end))
    return spans


def _unescaped(found: re.Match[str]) -> str:
    if found[0] == "\\'":
        return "'"
    decoded: str = json.loads(f'"{found[0]}"')
    return found[0] if "\ud800" <= decoded <= "\udfff" else decoded  # half a pair is no letter


def name_hook(function: object) -> str:
    """Return the name, `module:function`, under which `load_hook` finds this function in this process.

    A process with a setting of that name masks by the same hook. Raises ConfigurationError if it cannot be called.
    """
    if not callable(function):
        raise ConfigurationError(
            "redact: expected a function that takes a text and returns the parts of it to hide, as a list of texts"
        )
    kind = function if hasattr(function, "__qualname__") else type(function)
    name = f"{kind.__module__}:{_NO_NAME.sub('_', kind.__qualname__)}"
    _given[name] = function
    return name


def load_hook(name: str) -> HostHook:
    """Return the hook of that name: of `name_hook`, or imported. Raises ConfigurationError."""
    if name in _given:
        return HostHook(_given[name], name)
    module, _, path = name.partition(":")
    try:
        function = functools.reduce(getattr, path.split("."), importlib.import_module(module))
    except Exception as exc:
        raise ConfigurationError(
            f"redaction: hook: {name!r} cannot be imported: {type(exc).__name__}: {exc}",
            hint="Write it as module:function, and set PYTHONPATH so that this process can import the module.",
        ) from exc
    if not callable(function):
        raise ConfigurationError(f"redaction: hook: {name!r}: expected a function")
    return HostHook(function, name)
