"""The arguments in the text of a job: as JSON, Python and Ruby write them, cut or hostile."""

from __future__ import annotations

import time

import pytest

from dashboard.backends.payloads.arguments import (
    MAX_ARGUMENTS,
    TEXT_LIMIT,
    arguments_in,
    arguments_in_call,
    fields_in,
)
from dashboard.model import Argument
from dashboard.redact import MASK, mask_text

HOSTILE = ('"\\' * 4096, "'\\\"" * 3000, "{" * 8192, "[" * 8192, "," * 8192, "a=" * 4096, "=" * 8192, '"' * 8191)


def shown(found: tuple[Argument, ...]) -> list[str]:
    """Each argument as `name=text`, with a question mark if it is cut."""
    return [f"{each.name}={each.text}{'?' if each.cut else ''}" for each in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '{"to":"a@b.c","n":1,"deep":{"a":[1,{"x":"}"}]}}\nError: no, n: 1',
            ['to="a@b.c"', "n=1", 'deep={"a":[1,{"x":"}"}]}'],
        ),
        ('[1, "a, b", {"c": 2}]', ["1=1", '2="a, b"', '3={"c": 2}']),
        ("{'x': 1, 'y': (1, 2)}", ["x=1", "y=(1, 2)"]),
        ('[{"user_id": 3, "name": "x"}]', ["user_id=3", 'name="x"']),
        ("('a',)", ["1='a'"]),
        ('{"a": 1, "b": "never en', ["a=1", 'b="never en?']),
        ('{"a": 1, "b": {"c": ', ["a=1", 'b={"c":?']),
        ("{}", []),
        ("[]", []),
        ("", []),
        ("Error: a, b", []),
        ('"text"', []),
    ],
)
def test_the_fields_of_an_object_and_the_elements_of_a_list_are_arguments(text: str, expected: list[str]) -> None:
    assert shown(arguments_in(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4, 'x, y', to='b', n={'a': 1}", ["1=4", "2='x, y'", "to='b'", "n={'a': 1}"]),
        ("(1, 2), b=3", ["1=(1, 2)", "b=3"]),
        ("[1], 2", ["1=[1]", "2=2"]),
        ('1, {"user"=>3}', ["1=1", '2={"user"=>3}']),
        ('{"user"=>3, "a"=>[1]}', ["user=3", "a=[1]"]),
        ("datetime.datetime(2026, 1, 2), x == y", ["1=datetime.datetime(2026, 1, 2)", "x== y"]),
        ("1, 'long…", ["1=1", "2='long…?"]),
        ("", []),
    ],
)
def test_the_arguments_of_a_call_keep_their_names_and_positions(text: str, expected: list[str]) -> None:
    assert shown(arguments_in_call(text)) == expected


def test_masked_values_stay_masked_and_are_one_argument() -> None:
    masked = mask_text('{"user": 1, "password": "hunter2, hunter3", "n": 2}')
    assert shown(arguments_in(masked)) == ["user=1", f'password="{MASK}"', "n=2"]


def test_the_fields_of_a_job_are_found_behind_long_ones() -> None:
    text = '{"traceback": "' + "x" * TEXT_LIMIT * 2 + '", "args": [1], "kwargs": {"a": 2}}'
    assert fields_in(text, ("args", "kwargs", "body")) == {"args": "[1]", "kwargs": '{"a": 2}'}
    assert fields_in(text[:-4], ("args", "kwargs")) == {"args": "[1]"}
    assert fields_in("[1]", ("args",)) == {}


def test_only_the_first_arguments_are_read() -> None:
    many = ", ".join(f"a{n}={n}" for n in range(100))
    assert [each.name for each in arguments_in_call(many)] == [f"a{n}" for n in range(MAX_ARGUMENTS)]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_takes_no_longer_than_its_length(text: str) -> None:
    started = time.process_time()
    for _ in range(10):
        arguments_in_call(text)
        arguments_in("[" + text)
        fields_in("{" + text, ("args",))
    assert time.process_time() - started < 1.0
