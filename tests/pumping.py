"""Texts that make a regular expression slow, derived from the expression itself, and how its cost grows with them.

A backtracking matcher is slow where a run can be begun, or given up, at many places: so each way into a repetition is
followed by very many rounds of it and an end that does not fit, and each beginning of a match is itself repeated. The
characters are one of each kind that the expression tells apart.
"""

from __future__ import annotations

import functools
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

# What characters are told apart by: ASCII, and some of what words, quotes and line ends are beyond it.
ALPHABET = "".join(map(chr, range(128))) + "é٣ſ“”‘’\x85\u2028\u3000\U0001f600"
# What may stand between two beginnings so that each counts as one, and what ends a match.
SEPARATORS = ("", "-", " ", "\n", "x", ":")
ENDS = ("", "\x00", "\n")
MANY = 9  # a repetition of more rounds than this is a run
# All texts are tried at the first size, the slowest of them at the next ones. What is looked at again from each of its
# characters is far above LIMIT at the second.
SIZES = ((300, 16), (8_000, 1), (1_000_000, 1))
# So many of the slowest at the first size are measured again before they are chosen from.
SHORTLIST = 64
# The last is as long as takes so much CPU time if the cost goes on as it did, and no shorter than the least.
ENOUGH_S, LEAST = 0.03, 64_000
# CPU time as a multiple of that of a scan of the same text, character by character.
LIMIT = 40.0
AGAIN = 4  # so often more is measured what seems to be above it
# Nothing runs longer than this: what takes longer grows without a bound.
CEILING_S = 1.5

_REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT)
_SINGLE = (ops.LITERAL, ops.NOT_LITERAL, ops.ANY, ops.IN)
_CATEGORY = {
    ops.CATEGORY_DIGIT: r"\d",
    ops.CATEGORY_NOT_DIGIT: r"\D",
    ops.CATEGORY_SPACE: r"\s",
    ops.CATEGORY_NOT_SPACE: r"\S",
    ops.CATEGORY_WORD: r"\w",
    ops.CATEGORY_NOT_WORD: r"\W",
}
Text = str | bytes


class Pumped(NamedTuple):
    """The slowest text that was found: how it is made, and its CPU time as a multiple of a linear scan of it."""

    ratio: float
    size: int
    recipe: tuple[str, str, str]

    def text(self, size: int) -> str:
        """The text of about `size` characters."""
        return _made(self.recipe, size)


def slowest(pattern: re.Pattern[Any], methods: set[str], most: int = SIZES[-1][0]) -> Pumped:
    """The text on which `pattern` is slowest, used by `methods`, with at most `most` characters.

    A text on which the cost grows faster than its length is not made longer than it takes to see that.
    """
    with _ending():
        return _slowest(pattern, _runner(pattern, methods), most)


def _slowest(pattern: re.Pattern[Any], run: Callable[[Any], None], most: int) -> Pumped:
    recipes = list(dict.fromkeys(_recipes(pattern)))
    worst = Pumped(0.0, 0, ("", "", ""))
    for longest in sorted({min(size, most) for size, _ in SIZES}):
        size = longest
        if size > LEAST:
            size = min(size, max(LEAST, int(ENOUGH_S / max(worst.ratio, 0.01) / _scan_s(size) * size)))
        found = []
        for recipe in recipes:
            one = Pumped(_ratio(run, pattern, recipe, size), size, recipe)
            if one.ratio > (LIMIT if size > SIZES[0][0] else 10 * LIMIT):
                return one
            found.append(one)
        found.sort(reverse=True)
        if size <= SIZES[0][0]:  # of a moment as short as that the machine may have its share
            again = [one._replace(ratio=min(one.ratio, *_ratios(run, pattern, one))) for one in found[:SHORTLIST]]
            found = sorted(again, reverse=True)
        worst = max(worst, found[0]) if size > SIZES[0][0] or size == most else worst
        recipes = [one.recipe for one in found[: next((kept for at, kept in SIZES if at >= size), 1)]]
    return worst


_SCAN = re.compile(r"(?:[a-m]|[^a-m])*+", re.DOTALL)


def _scan_now_s(size: int) -> float:
    """CPU time of a linear scan of so many characters; the shortest of some, without what else the machine did."""
    text = "an ordinary text; " * 2000
    return min(_seconds(lambda: _SCAN.match(text)) for _ in range(5)) * size / len(text)


@functools.cache
def _scan_per_character_s() -> float:
    return _scan_now_s(1)


def _scan_s(size: int) -> float:
    return _scan_per_character_s() * size


def _ratio(run: Callable[[Any], None], pattern: re.Pattern[Any], recipe: tuple[str, str, str], size: int) -> float:
    text: Text = _made(recipe, size)
    if isinstance(pattern.pattern, bytes):
        text = text.encode("utf-8", "replace")
    cost = _seconds(lambda: run(text))
    ratio = cost / _scan_s(size)
    if ratio > LIMIT and cost < CEILING_S:
        # The processor may be slower now than when the scan was measured: both again, one right after the other.
        ratio = min([ratio, *(_seconds(lambda: run(text)) / _scan_now_s(size) for _ in range(AGAIN))])
    return ratio


def _ratios(run: Callable[[Any], None], pattern: re.Pattern[Any], one: Pumped) -> list[float]:
    return [_ratio(run, pattern, one.recipe, one.size) for _ in range(2)]


def _seconds(call: Callable[[], object]) -> float:
    """CPU time of a call inside `_ending`, or infinity when it is ended after CEILING_S."""
    started = time.thread_time()
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, CEILING_S)
        try:
            call()
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except TimeoutError:
        return float("inf")
    return time.thread_time() - started


@contextmanager
def _ending() -> Iterator[None]:
    """What runs inside may be ended by the timer of `_seconds`; the matcher looks at signals while it works."""

    def end(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGVTALRM, before)


def _runner(pattern: re.Pattern[Any], methods: set[str]) -> Callable[[Any], None]:
    """All that is done with the pattern: a search goes on after each match, as `sub`, `split` and `findall` do."""
    anchored = methods <= {"match", "fullmatch"}

    def run(text: Any) -> None:
        if not anchored:
            for _ in pattern.finditer(text):
                pass
        for name in methods & {"match", "fullmatch"}:
            getattr(pattern, name)(text)

    return run


def _made(recipe: tuple[str, str, str], size: int) -> str:
    head, round_, end = recipe
    return head + round_ * max(1, (size - len(head) - len(end)) // len(round_)) + end


def _recipes(pattern: re.Pattern[Any]) -> Iterator[tuple[str, str, str]]:
    tree = parser.parse(pattern.pattern, pattern.flags)
    walk = _Walk(tree, pattern.flags)
    ends = tuple(dict.fromkeys((*ENDS, *walk.kinds[:2], *walk.chars[:4])))
    for char in walk.chars:
        for end in ENDS:
            yield "", char, end
    for one in walk.kinds:
        for other in walk.kinds:
            if one != other:
                yield "", one + other, "\x00"
    for head, body in walk.runs:
        for round_ in body:
            if round_:
                for end in ends:
                    yield head, round_, end
    for head in walk.beginnings:
        for separator in dict.fromkeys((*SEPARATORS, *walk.kinds)):
            yield "", separator + head, ""
            yield "", head + separator, "\x00"


class _Walk:
    """What there is in a parsed expression: its beginnings, its runs with a way to each, its kinds of characters."""

    def __init__(self, tree: Any, flags: int) -> None:
        self._folds = bool(flags & re.IGNORECASE)
        self._dotall = bool(flags & re.DOTALL)
        self._known: dict[str, frozenset[str]] = {}  # one element is come to many times
        self._sets: list[frozenset[str]] = []
        self._run_sets: list[frozenset[str]] = []
        self._collect(tree, repeated=False)
        self.chars = self._representatives(self._sets)[:40]
        self.kinds = self._representatives(self._run_sets)[:8]
        self.runs: list[tuple[str, list[str]]] = []
        self.beginnings: list[str] = []
        self._ways(tree, [""])
        self.beginnings = list(dict.fromkeys(filter(None, self.beginnings)))[:40]

    def _collect(self, tree: Any, *, repeated: bool) -> None:
        for op, value in tree:
            if op in _SINGLE:
                members = self._members(op, value)
                self._sets.append(members)
                if repeated:
                    self._run_sets.append(members)
            for inner in _inner(op, value):
                self._collect(inner, repeated=repeated or (op in _REPEATS and value[1] > MANY))

    def _representatives(self, sets: list[frozenset[str]]) -> list[str]:
        """One character of each kind: in the same sets as all others of it; those in most sets first."""
        kinds: dict[tuple[bool, ...], str] = {}
        for char in sorted(ALPHABET, key=lambda char: (not char.isalnum(), char)):
            kinds.setdefault(tuple(char in members for members in sets), char)
        return [char for _, char in sorted(kinds.items(), key=lambda kind: -sum(kind[0]))]

    def _members(self, op: Any, value: Any) -> frozenset[str]:
        element = f"{op} {value}"
        if element not in self._known:
            self._known[element] = self._found(op, value)
        return self._known[element]

    def _found(self, op: Any, value: Any) -> frozenset[str]:
        found = frozenset(char for char in ALPHABET if self._is_in(char, op, value))
        if self._folds:
            found |= {char.swapcase() for char in found if len(char.swapcase()) == 1}
        return found or frozenset(chr(value) if op is ops.LITERAL else "\x00")

    def _is_in(self, char: str, op: Any, value: Any) -> bool:
        if op is ops.LITERAL:
            return ord(char) == value
        if op is ops.NOT_LITERAL:
            return ord(char) != value
        if op is ops.ANY:
            return self._dotall or char != "\n"
        if op is ops.RANGE:
            return bool(value[0] <= ord(char) <= value[1])
        if op is ops.CATEGORY:
            return re.match(_CATEGORY[value], char) is not None
        assert op is ops.IN, op
        negated = value[0][0] is ops.NEGATE
        return any(self._is_in(char, *each) for each in value if each[0] is not ops.NEGATE) != negated

    def _examples(self, op: Any, value: Any) -> list[str]:
        """Some texts that one element matches, the shortest first."""
        if op in _SINGLE:
            members = self._members(op, value)
            liked = [char for char in (*self.kinds, *self.chars) if char in members]
            return list(dict.fromkeys(liked))[:3] or sorted(members)[:1]
        if op in _REPEATS:
            least, _, body = value
            return [each * least for each in self._text(body)][:2] if least else ["", *self._text(body)[:2]]
        if op is ops.BRANCH:
            return [text for branch in value[1] for text in self._text(branch)[:1]][:6]
        if op in (ops.SUBPATTERN, ops.ATOMIC_GROUP):
            return self._text(_inner(op, value)[0])
        return [""]  # where it stands, or what stood before

    def _text(self, tree: Any) -> list[str]:
        texts = [""]
        for op, value in tree:
            following = self._examples(op, value)
            texts = [text + more for n, text in enumerate(texts) for more in following[: 2 if n < 2 else 1]][:4]
        return texts

    def _ways(self, tree: Any, heads: list[str]) -> list[str]:
        """Go through an element after another; `heads` = texts that lead to it. The texts that lead behind the last."""
        for op, value in tree:
            if op in _REPEATS:
                least, most, body = value
                inside = self._ways(body, heads)
                if most > MANY:
                    rounds = self._rounds(body)
                    self.runs += [(head, rounds) for head in heads[:2]]
                if least > 1:
                    inside = [head + text for head in heads[:2] for text in self._examples(op, value)]
                heads = [*inside, *heads][:4] if least == 0 else inside
            elif op is ops.BRANCH:
                heads = [way for branch in value[1] for way in self._ways(branch, heads)[:1]][:12]
            elif op in (ops.SUBPATTERN, ops.ATOMIC_GROUP):
                heads = self._ways(_inner(op, value)[0], heads)
            elif op in (ops.ASSERT, ops.ASSERT_NOT):
                self._ways(value[1], heads)
                continue
            else:
                heads = [head + text for head in heads[:3] for text in self._examples(op, value)[:2]][:4]
            self.beginnings += heads[:4]
        return heads

    def _rounds(self, body: Any) -> list[str]:
        if len(body) == 1 and body[0][0] in _SINGLE:
            members = self._members(*body[0])
            return [char for char in dict.fromkeys((*self.kinds, *self.chars)) if char in members][:8]
        return self._text(body)


def _inner(op: Any, value: Any) -> list[Any]:
    if op in _REPEATS:
        return [value[2]]
    if op is ops.BRANCH:
        return list(value[1])
    if op is ops.SUBPATTERN:
        return [value[3]]
    if op is ops.ATOMIC_GROUP:
        return [value]
    if op in (ops.ASSERT, ops.ASSERT_NOT):
        return [value[1]]
    return []
