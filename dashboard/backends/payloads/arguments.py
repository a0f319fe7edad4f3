"""The arguments of a job as names and texts, which distinguish the jobs of one error.

Read from text that is already masked, as JSON, Python and Ruby write arguments; nothing is decoded, so that text which
was cut still gives its first arguments. Pure, linear in a bounded part of the text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import islice

from ...model import Argument
from .masking import CUT

# The part of a text that is read, how many arguments of it, and how far from its beginning an argument is named.
TEXT_LIMIT = 2 * 1024
MAX_ARGUMENTS = 12
NAME_LIMIT = 102
# Of an object that describes a whole job; this is all that a row for a search has of it.
JOB_LIMIT = 8 * 1024

# One step through a text: a string (an unfinished one reaches to the end), a separator, or what is between them.
_STEP = re.compile(
    r"""
    (?P<string> "(?:[^"\\]|\\.)*+(?:"|\\?\Z) | '(?:[^'\\]|\\.)*+(?:'|\\?\Z) )
  | (?P<open> [(\[{] ) | (?P<close> [)\]}] ) | (?P<comma> , )
  | (?P<named> => | [:=] )
  | (?P<other> [^"'()\[\]{},:=]+ | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_WORD = re.compile(r"\*{0,2}[A-Za-z_][\w.-]{0,99}\Z")
_OPENING = ("{", "[", "(")


def arguments_in(text: str) -> tuple[Argument, ...]:
    """The first MAX_ARGUMENTS fields of an object, or elements of a list, with which `text` begins; () for other texts.

    An element is named by its position, from "1"; of a list with a single object, the fields are returned. Whatever
    follows the object or list is ignored.
    """
    return _first_of(text[1:TEXT_LIMIT], closes=True) if text.startswith(_OPENING) else ()


def arguments_in_call(text: str) -> tuple[Argument, ...]:
    """The first MAX_ARGUMENTS of the arguments in a call like `1, to='x'`; of a single object, its fields.

    A positional argument is named by its position, from "1". The last argument is cut if `text` ends with CUT.
    """
    return _first_of(text[:TEXT_LIMIT], closes=False)


def fields_in(text: str, names: Collection[str]) -> dict[str, str]:
    """The texts of those fields of an object, without the ones that are missing, cut or beyond JOB_LIMIT."""
    if not text.startswith("{"):
        return {}
    found = _name_parts(text[1:JOB_LIMIT], closes=True)
    return {each.name: each.text for each in found if each.name in names and not each.cut}


def _first_of(text: str, *, closes: bool) -> tuple[Argument, ...]:
    found = tuple(islice(_name_parts(text, closes=closes), MAX_ARGUMENTS))
    if len(found) == 1 and found[0].name == "1" and found[0].text.startswith("{"):
        return tuple(islice(_name_parts(found[0].text[1:], closes=True), MAX_ARGUMENTS))
    return found


def _name_parts(text: str, *, closes: bool) -> Iterator[Argument]:
    """The parts between the commas of the outermost level, up to the bracket that closes it.

    `closes`: there should be one, so that without it the last part is cut.
    """
    position = depth = start = 0
    name: str | None = None
    for step in _STEP.finditer(text):
        kind = step.lastgroup
        if kind == "named" and depth == 0 and name is None and step.start() - start <= NAME_LIMIT:
            name = _name_in(text[start : step.start()].strip())
            start = step.end() if name is not None else start
        depth += {"open": 1, "close": -1}.get(kind or "", 0)
        if depth < 0 or (kind == "comma" and depth == 0):
            if value := text[start : step.start()].strip():
                position += 1
                yield Argument(name=name or str(position), text=value)
            if depth < 0:
                return
            name, start = None, step.end()
    if value := text[start:].strip():
        yield Argument(name=name or str(position + 1), text=value, cut=closes or value.endswith(CUT))


def _name_in(text: str) -> str | None:
    """The name in front of a colon, an arrow or an equals sign: a word or a quoted text; None for others."""
    if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text if _WORD.match(text) else None
