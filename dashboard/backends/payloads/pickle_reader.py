"""A reader that treats pickles as data: it walks the opcodes with its own stack, and imports and calls nothing.

Plain values (None, booleans, numbers, text, bytes, lists, dictionaries, sets) are returned as they are. Anything that
would need code becomes a PickledObject, which says what would be called with which arguments.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_OPCODES = 20_000


# Protocols 2 and later start with a byte with which JSON never starts. A tuple, list, dictionary or object of protocols
# 0 and 1 starts with one of the others and ends with a dot, which JSON never does.
_NEWER, _OLDER, _LAST = b"\x80", (b"(", b"]", b"}", b"c", b"i"), b"."


class NotAPickle(ValueError):
    """The bytes are not a pickle that can be read within the limits; the message says why."""


@dataclass(slots=True, eq=False)
class PickledObject:
    """An object that was not built: `what` names its class or function, `args` are its arguments."""

    what: str
    args: Any = None  # a PickledSequence of arguments, or None if nothing would be called
    state: Any = None

    @property
    def called(self) -> bool:
        """Whether the pickle would call `what`, not only name it."""
        return self.args is not None


@dataclass(slots=True, eq=False)
class PickledSequence:
    """A list, tuple or set; `kind` is the type."""

    kind: str
    items: list[Any]


@dataclass(slots=True, eq=False)
class PickledMapping:
    """A dictionary as pairs, because keys can be unhashable here."""

    pairs: list[tuple[Any, Any]]


def read(data: bytes) -> Any:
    """Return the value of the pickle in `data`: None, bool, int, float, str, bytes, PickledSequence, PickledMapping or
    PickledObject.

    Values can contain themselves. Raises NotAPickle, and nothing else.
    """
    try:
        return _walked(data)
    except NotAPickle:
        raise
    except Exception as exc:  # hostile bytes fail in many ways: wrong stack, bad numbers, broken text
        raise NotAPickle(f"not a readable pickle: {type(exc).__name__}") from None


def may_be_pickle(data: bytes) -> bool:
    """Whether the bytes start and end like a pickle of a compound value; with protocols 0 and 1 plain text can, too."""
    return data.startswith(_NEWER) or (data.startswith(_OLDER) and data.endswith(_LAST))


def read_beginning(data: bytes, opcodes: int = MAX_OPCODES) -> list[tuple[Any, Any]]:
    """Return the first pairs of a pickled dictionary of which `data` is only the beginning, with values as in `read`.

    [] for anything else. Never raises. Cost: at most `opcodes` steps.
    """
    walk = _PickleWalk()
    try:
        for count, (opcode, arg, _) in enumerate(pickletools.genops(data)):
            if count >= opcodes or opcode.name == "STOP":
                break
            walk.step(opcode.name, arg)
    except Exception:  # noqa: S110  hostile bytes fail in many ways, and those that are cut always do
        pass
    if not walk.stack or not isinstance(walk.stack[0], PickledMapping):
        return []
    # Items not yet in the dictionary are above its mark, keys and values alternating; the last one may be incomplete.
    above = walk.stack[2:] if len(walk.stack) > 1 and walk.stack[1] is _MARK else []
    begun = next((n for n, item in enumerate(above) if item is _MARK), len(above))
    above = above[:begun]
    if len(above) % 2 == 0 and above and isinstance(above[-1], PickledSequence | PickledMapping | PickledObject):
        del above[-2:]
    return [*walk.stack[0].pairs, *zip(above[::2], above[1::2], strict=False)]


def _walked(data: bytes) -> Any:
    walk = _PickleWalk()
    for count, (opcode, arg, _) in enumerate(pickletools.genops(data)):
        if count >= MAX_OPCODES:
            raise NotAPickle(f"more than {MAX_OPCODES} steps")
        if opcode.name == "STOP":
            return walk.pop()
        walk.step(opcode.name, arg)
    raise NotAPickle("not a readable pickle: unexpected end")


class _Mark:
    """Marks where a variable number of items starts on the stack."""


_MARK = _Mark()


class _PickleWalk:
    """The stack and the memo of one pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, arg: Any) -> None:
        """Apply one opcode."""
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            self.stack.append(bytes(arg) if isinstance(arg, bytearray) else arg)
        elif name in _STEPS:
            _STEPS[name](self, arg)
        elif name not in _IGNORED:
            raise NotAPickle(f"unknown step {name}")

    def pop(self) -> Any:
        """Pop the top of the stack; a mark there is an error."""
        item = self.stack.pop()
        if item is _MARK:
            raise NotAPickle("not a readable pickle: misplaced mark")
        return item

    def drop(self) -> None:
        """Discard the top of the stack, mark or not."""
        del self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        """Pop the items above the newest mark, in order."""
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise NotAPickle("not a readable pickle: no mark")

    def extend(self, items: list[Any]) -> None:
        """Append to the list or set on top; an object that is filled like a list gets the items as its state."""
        target = self.stack[-1]
        if isinstance(target, PickledObject):
            if not isinstance(target.state, PickledSequence):
                target.state = PickledSequence("list", [])
            target = target.state
        if isinstance(target, PickledSequence):
            target.items.extend(items)

    def put(self, items: list[Any]) -> None:
        """Set keys and values of the dictionary on top, or of an object that is filled like a dictionary."""
        target = self.stack[-1]
        if isinstance(target, PickledObject):
            if not isinstance(target.state, PickledMapping):
                target.state = PickledMapping([])
            target = target.state
        if isinstance(target, PickledMapping):
            target.pairs.extend(zip(items[::2], items[1::2], strict=True))

    def row(self, kind: str, count: int) -> None:
        """Replace the top `count` items by a sequence of them."""
        items = [self.pop() for _ in range(count)]
        self.stack.append(PickledSequence(kind, items[::-1]))

    def call(self, args: Any, made_of: Any) -> None:
        """Push the object that calling `made_of` would create."""
        what = made_of.what if isinstance(made_of, PickledObject) and not made_of.called else "?"
        self.stack.append(
            PickledObject(what, args if isinstance(args, PickledSequence) else PickledSequence("tuple", [args]))
        )

    def build(self) -> None:
        """Set the state of the object on top."""
        state = self.pop()
        if isinstance(self.stack[-1], PickledObject):
            self.stack[-1].state = state


def _join(kind: str) -> Callable[[_PickleWalk, Any], None]:
    return lambda walk, _: walk.stack.append(PickledSequence(kind, walk.pop_to_mark()))


def _dictionary(walk: _PickleWalk, _: Any) -> None:
    items = walk.pop_to_mark()
    walk.stack.append(PickledMapping([]))
    walk.put(items)


def _set_item(walk: _PickleWalk, _: Any) -> None:
    value, key = walk.pop(), walk.pop()
    walk.put([key, value])


def _set_items(walk: _PickleWalk, _: Any) -> None:
    walk.put(walk.pop_to_mark())


def _append(walk: _PickleWalk, _: Any) -> None:
    item = walk.pop()
    walk.extend([item])


def _name(walk: _PickleWalk, arg: Any) -> None:
    # The text format has "module name" in one string.
    walk.stack.append(PickledObject(".".join(str(arg).split(" ", 1))))


def _stack_name(walk: _PickleWalk, _: Any) -> None:
    name, module = walk.pop(), walk.pop()
    walk.stack.append(PickledObject(f"{_short(module)}.{_short(name)}"))


def _short(part: Any) -> str:
    return part[:500] if isinstance(part, str) else "?"


def _reduce(walk: _PickleWalk, _: Any) -> None:
    args = walk.pop()
    walk.call(args, walk.pop())


def _new_with_keywords(walk: _PickleWalk, _: Any) -> None:
    keywords, args = walk.pop(), walk.pop()
    walk.call(args, walk.pop())
    walk.stack[-1].state = keywords


def _instance(walk: _PickleWalk, arg: Any) -> None:
    args = PickledSequence("tuple", walk.pop_to_mark())
    _name(walk, arg)
    walk.call(args, walk.pop())


def _object(walk: _PickleWalk, _: Any) -> None:
    made_of, *args = walk.pop_to_mark()
    walk.call(PickledSequence("tuple", args), made_of)


def _elsewhere(walk: _PickleWalk, arg: Any) -> None:
    walk.stack.append(PickledObject(f"external object {str(arg)[:200]}"))


def _elsewhere_from_stack(walk: _PickleWalk, _: Any) -> None:
    item = walk.pop()
    _elsewhere(walk, item if isinstance(item, str | int) else "?")


def _remember(walk: _PickleWalk, arg: Any) -> None:
    walk.memo[len(walk.memo) if arg is None else arg] = walk.stack[-1]


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = frozenset({"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"})
_TEXTS = frozenset({"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"})
_BYTES = frozenset(
    {"STRING", "BINSTRING", "SHORT_BINSTRING"} | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
)
_LITERALS = _NUMBERS | _TEXTS | _BYTES
_IGNORED = frozenset({"PROTO", "FRAME", "READONLY_BUFFER"})
_STEPS: dict[str, Callable[[_PickleWalk, Any], None]] = {
    "MARK": lambda walk, _: walk.stack.append(_MARK),
    "POP": lambda walk, _: walk.drop(),
    "POP_MARK": lambda walk, _: walk.pop_to_mark().clear(),
    "DUP": lambda walk, _: walk.stack.append(walk.stack[-1]),
    "EMPTY_LIST": lambda walk, _: walk.stack.append(PickledSequence("list", [])),
    "EMPTY_TUPLE": lambda walk, _: walk.stack.append(PickledSequence("tuple", [])),
    "EMPTY_SET": lambda walk, _: walk.stack.append(PickledSequence("set", [])),
    "EMPTY_DICT": lambda walk, _: walk.stack.append(PickledMapping([])),
    "LIST": _join("list"),
    "TUPLE": _join("tuple"),
    "FROZENSET": _join("set"),
    "TUPLE1": lambda walk, _: walk.row("tuple", 1),
    "TUPLE2": lambda walk, _: walk.row("tuple", 2),
    "TUPLE3": lambda walk, _: walk.row("tuple", 3),
    "DICT": _dictionary,
    "APPEND": _append,
    "APPENDS": lambda walk, _: walk.extend(walk.pop_to_mark()),
    "ADDITEMS": lambda walk, _: walk.extend(walk.pop_to_mark()),
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "GLOBAL": _name,
    "STACK_GLOBAL": _stack_name,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _new_with_keywords,
    "INST": _instance,
    "OBJ": _object,
    "BUILD": lambda walk, _: walk.build(),
    "PERSID": _elsewhere,
    "BINPERSID": _elsewhere_from_stack,
    "EXT1": _elsewhere,
    "EXT2": _elsewhere,
    "EXT4": _elsewhere,
    "NEXT_BUFFER": _elsewhere,
    "PUT": _remember,
    "BINPUT": _remember,
    "LONG_BINPUT": _remember,
    "MEMOIZE": _remember,
    "GET": lambda walk, arg: walk.stack.append(walk.memo[arg]),
    "BINGET": lambda walk, arg: walk.stack.append(walk.memo[arg]),
    "LONG_BINGET": lambda walk, arg: walk.stack.append(walk.memo[arg]),
}
