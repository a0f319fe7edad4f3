"""Amounts as people type them."""

from __future__ import annotations

import random

import pytest

from dashboard.web.forms.units import read_amount, write_amount


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("300", "s", 300),
        ("5 min", "s", 300),
        ("1h 30 min", "s", 5400),
        ("0.5 s", "s", 0.5),
        ("2 D", "s", 172_800),
        ("80 %", "ratio", 0.8),
        ("0.07", "ratio", 0.07),
        ("7%", "ratio", 0.07),
        ("64 MiB", "bytes", 64 * 1024**2),
        ("12,431", "count", 12_431),
        ("1", "flag", 1),
        ("-3", "count", -3),
    ],
)
def test_usual_spellings_are_understood(text: str, unit: str, value: float) -> None:
    assert read_amount(text, unit) == value


@pytest.mark.parametrize(
    ("text", "unit", "told"),
    [
        ("5 min", "count", "a number"),
        ("80 %", "s", "a duration"),
        ("64 MiB", "ratio", "a ratio"),
        ("five", "count", "a number"),
        ("", "s", "a duration"),
        ("nan", "count", "a number"),
        ("1 2", "s", "a duration"),
        ("5 %%", "ratio", "a ratio"),
        ("1" * 50, "count", "a number"),
        ("1,00", "count", "a number"),
    ],
)
def test_an_amount_in_another_unit_is_refused(text: str, unit: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"^expected {told}"):
        read_amount(text, unit)


@pytest.mark.parametrize("unit", ["s", "ratio", "bytes", "count"])
def test_what_is_written_is_read_as_the_very_same(unit: str) -> None:
    chance = random.Random(unit)
    values = [round(chance.uniform(0, 10**power), places) for power in range(13) for places in range(4)]
    assert [read_amount(write_amount(value, unit), unit) for value in values] == values


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(300, "s", "5 min"), (90, "s", "90 s"), (0.05, "ratio", "5%"), (65_536, "bytes", "64 KiB"), (0, "s", "0 s")],
)
def test_amounts_are_short(value: float, unit: str, text: str) -> None:
    assert write_amount(value, unit) == text
