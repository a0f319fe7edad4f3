"""Patterns of names: the same names as those of a shell with `*` and `?` alone."""

from __future__ import annotations

import fnmatch
import random

import pytest

from dashboard.globs import GLOB_LIMIT, glob_matches, is_glob, merged


def test_they_fit_what_a_shell_would_take(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(5000):
        glob = "".join(dice.choices("ab*?.", k=dice.randint(1, 8)))
        name = "".join(dice.choices("ab.\n", k=dice.randint(0, 9)))
        assert glob_matches(glob, name) == fnmatch.fnmatchcase(name, glob), (glob, name)


def test_nothing_else_is_a_sign() -> None:
    assert glob_matches("[ab]*", "[ab]c")
    assert not glob_matches("[ab]*", "ac")
    assert not glob_matches("Mail*", "mail")


def test_neighbouring_stars_are_one() -> None:
    assert merged("**a***?**") == "*a*?*"


@pytest.mark.parametrize("text", ["", "a" * (GLOB_LIMIT + 1), "[ab]", "a]", "a\\*"])
def test_what_is_none(text: str) -> None:
    assert not is_glob(text)
