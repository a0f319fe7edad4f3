"""The pump finds what makes a regular expression slow, and lets pass what is linear."""

from __future__ import annotations

import re

import pytest

from tests import pumping


@pytest.fixture(autouse=True)
def low_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no bound is ended soon: only that it is ended counts here."""
    monkeypatch.setattr(pumping, "CEILING_S", 0.3)


@pytest.mark.parametrize(
    "pattern",
    [
        r"\beyJ[\w-]{8,}\.",  # froze the process with 128 KiB of -eyJ-eyJ
        r"(a+)+b",
        r"\s+x",
        r"a*\w*-",
        r"https?://\S*@",
        r'"((?:[^"\\]|\\.){0,300})":',
        r"(?<!\w)“[^”\n]{0,1000}”",
        r"[A-Z]++(?![a-z])|[A-Z]",
        r"<!--.*?-->",
    ],
)
def test_the_pump_finds_what_is_not_linear(pattern: str) -> None:
    assert pumping.slowest(re.compile(pattern), {"search"}).ratio > pumping.LIMIT


@pytest.mark.parametrize("pattern", [r"(?<![\w-])eyJ[\w-]{8,}+\.", r"\w+", r"\A\s*x", r"<!--[^<]*+-->"])
def test_the_pump_lets_pass_what_is_linear(pattern: str) -> None:
    assert pumping.slowest(re.compile(pattern), {"search"}).ratio <= pumping.LIMIT


def test_a_pattern_that_is_only_matched_at_one_place_is_not_searched() -> None:
    assert pumping.slowest(re.compile(r"\s+x"), {"match"}).ratio <= pumping.LIMIT
