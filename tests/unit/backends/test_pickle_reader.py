"""Pickles are read as text: everything plain comes back, nothing is imported or called, nothing runs away."""

from __future__ import annotations

import collections
import datetime
import decimal
import os
import pickle
import pickletools
import random
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from dashboard.backends.payloads import pickle_reader
from dashboard.backends.payloads.pickle_display import describe
from dashboard.backends.payloads.pickle_reader import NotAPickle, read
from tests.counting import calls_of

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Order:
    """An object with attributes."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.lines = ["a", "b"]


class Slots:
    """An object without a dictionary."""

    __slots__ = ("left",)


class Colour:
    """Rebuilt by a call of its class, as enumerations are (by which function depends on the release of Python)."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return Colour, (1,)


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def shown(value: Any, protocol: int = pickle.HIGHEST_PROTOCOL) -> Any:
    return describe(read(pickle.dumps(value, protocol)))


PLAIN = (
    None,
    True,
    0,
    -1,
    255,
    65536,
    2**31,
    -(2**63),
    2**100,
    1.5,
    "",
    "ünï 🐇",
    "x" * 300,
    [],
    [1, [2, [3]]],
    {},
    {"a": {"b": [1, None]}, "c": "d"},
    [{"x": 1}] * 3,
    list(range(2000)),
)


def test_plain_values_come_back() -> None:
    wrong = [(value, protocol) for value in PLAIN for protocol in PROTOCOLS if shown(value, protocol) != value]
    assert wrong == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tuples_and_sets_are_shown_as_lists(protocol: int) -> None:
    assert shown(((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)), protocol) == [[], [1], [1, 2], [1, 2, 3], [1, 2, 3, 4]]
    if protocol >= 4:
        assert sorted(shown({1, 2, 3}, protocol)) == [1, 2, 3]
        assert shown(frozenset({7}), protocol) == [7]
    assert shown({1: "one", (2, 3): "pair"}, protocol) == {"1": "one", "[2, 3]": "pair"}


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_bytes_are_shown_as_in_python(protocol: int) -> None:
    assert shown([b"", b"\x00\xff", b"x" * 300], protocol) == ["b''", "b'\\x00\\xff'", repr(b"x" * 300)]
    if protocol == 5:
        assert shown(bytearray(b"ab"), protocol) == "b'ab'"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_objects_are_shown_by_name(protocol: int) -> None:
    here = __name__
    assert shown(Order(5), protocol) == {f"{here}.Order()": {"number": 5, "lines": ["a", "b"]}}
    assert shown(Colour(), protocol) == f"{here}.Colour(1)"
    assert shown(decimal.Decimal("1.50"), protocol) == "decimal.Decimal('1.50')"
    assert shown(Order, protocol) == f"{here}.Order"
    ordered = shown(collections.OrderedDict(a=1), protocol)
    assert ordered == {"collections.OrderedDict()": {"a": 1}}


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_times_and_uuids_are_shown_in_their_usual_form(protocol: int) -> None:
    moment = datetime.datetime(2031, 12, 30, 23, 59, 58, 7, tzinfo=datetime.UTC)
    assert shown(moment, protocol) == "2031-12-30 23:59:58.000007+00:00"
    east = moment.astimezone(datetime.timezone(datetime.timedelta(hours=5, minutes=30)))
    assert shown(east, protocol) == str(east)
    assert shown(moment.replace(tzinfo=None), protocol) == "2031-12-30 23:59:58.000007"
    assert shown(moment.date(), protocol) == "2031-12-30"
    assert shown(uuid.UUID(int=7), protocol) == str(uuid.UUID(int=7))


def test_nothing_is_imported_or_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = Trap(tmp_path / "ran")
    bait = [pickle.dumps(("f", None, (trap,), {"k": [trap]}), protocol) for protocol in PROTOCOLS]
    evil = b"cantigravity\nfly\n(S'x'\ntR."  # importing antigravity would open a browser
    with monkeypatch.context() as patched:
        for name in ("loads", "load", "Unpickler"):
            patched.setattr(pickle, name, None)
        for data in bait:
            described = describe(read(data))
            assert f"posix.system('touch {trap.path}')" in str(described)
        assert describe(read(evil)) == "antigravity.fly('x')"
    assert "antigravity" not in sys.modules
    assert not trap.path.exists()
    pickle.loads(bait[-1])
    assert trap.path.exists()


def test_values_that_hold_themselves_end() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert "…" in str(shown(loop))
    table: dict[str, Any] = {}
    table["me"] = table
    assert "…" in str(shown(table))


def test_a_thousand_laughs_stay_small() -> None:
    laugh: list[Any] = ["ha"] * 10
    for _ in range(12):
        laugh = [laugh] * 10
    packed = pickle.dumps(laugh)
    assert len(str(describe(read(packed)))) < 1_000_000
    assert calls_of(lambda: describe(read(packed))) < 1_000_000


def test_deep_nesting_is_cut() -> None:
    # As pickle itself would write a hundred thousand lists in each other, which it refuses to.
    with pytest.raises(NotAPickle, match="steps"):
        read(b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".")
    deep = describe(read(b"\x80\x04" + b"]" * 5000 + b"a" * 4999 + b"."))
    assert str(deep).count("[") < 100


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b"\x80\x05.",
        b"\x80\x05(.",
        b"garbage",
        b"\x80\x04]a.",
        b"\x80\x04(((.",
        b"\x80\x04h\x05.",
        b"I99999999999999999999999999999999x\n.",
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        b"\x80\x04\x8b\xff\xff\xff\x7f\x01.",
        b"V\\ud800\n" + b"\x93.",
        b"\x80\x04R.",
        b"\x80\x04N\x85\x85R.",
        b"\x80\x04}(K\x01u.",
        pickle.dumps({"a": [1, 2, 3]})[:-4],
    ],
)
def test_broken_pickles_are_unreadable(data: bytes) -> None:
    with pytest.raises(NotAPickle):
        read(data)


def test_random_bytes_never_fail_otherwise() -> None:
    chance = random.Random(7)
    whole = pickle.dumps(("f", None, (Order(1), datetime.datetime(2020, 1, 1)), {"k": {1, 2}}))  # noqa: DTZ001
    codes = [ord(code.code) for code in pickletools.opcodes]
    for _ in range(3000):
        changed = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            changed[chance.randrange(len(changed))] = chance.choice(codes) if chance.random() < 0.7 else 255
        try:
            str(describe(read(bytes(changed)))).encode("utf-8", "surrogatepass")
        except NotAPickle:
            continue


def test_a_huge_number_is_shown_by_its_size() -> None:
    assert shown(2**100_000) == "a number of 100001 bits"
    assert shown(float("nan")) == "nan"


def test_long_texts_are_cut() -> None:
    assert len(shown("x" * 200_000)) < 21_000
    assert len(shown(b"x" * 200_000)) < 21_000


def test_the_number_of_steps_is_bounded() -> None:
    with pytest.raises(NotAPickle, match=str(pickle_reader.MAX_OPCODES)):
        read(pickle.dumps(list(range(50_000))))


def test_objects_without_a_dictionary() -> None:
    item = Slots()
    item.left = 3
    assert shown(item) == {f"{__name__}.Slots()": [None, {"left": 3}]}
