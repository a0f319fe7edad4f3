"""Durations, sizes and numbers as text, and back."""

from __future__ import annotations

import math
import random

import pytest

from dashboard.units import (
    UNKNOWN,
    format_count,
    format_duration,
    format_figure,
    format_number,
    format_percent,
    format_size,
    read_amount,
    shorten_at_least,
    shorten_number,
    write_amount,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (7, "7"),
        (0.25, "0.25"),
        (0.001, "<0.01"),
        (0.005, "0.01"),
        (9.999, "10"),
        (42.06, "42.1"),
        (940, "940"),
        (999.4, "999"),
        (1000, "1k"),
        (12431, "12.4k"),
        (99949, "99.9k"),
        (99960, "100k"),
        (999_499, "999k"),
        (999_500, "1M"),
        (3_100_000, "3.1M"),
        (7e15, "7000T"),
        (-12431, "-12.4k"),
    ],
)
def test_short_numbers(value: float, text: str) -> None:
    assert shorten_number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0+"), (7, "7+"), (10, "10+"), (999.9, "999+"), (12_499, "12.4k+"), (1_269_999, "1.2M+"), (999_999, "999k+")],
)
def test_a_lower_bound_is_never_rounded_up(value: float, text: str) -> None:
    assert shorten_at_least(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0000954, "<1 ms"),
        (-0.0001, "<1 ms"),
        (0.0005, "1 ms"),
        (-0.0, "0 s"),
        (0.24, "240 ms"),
        (0.9999, "1 s"),
        (3.21, "3.2 s"),
        (9.99, "10 s"),
        (59.6, "1 m"),
        (250, "4 m 10 s"),
        (3600, "1 h"),
        (4320, "1 h 12 m"),
        (273_600, "3 d 4 h"),
        (86400 * 400, "400 d"),
        (-90, "-1 m 30 s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (0, "0%"),
        (0.0004, "<0.1%"),
        (0.004, "0.4%"),
        (0.1234, "12%"),
        (0.994, "99%"),
        (0.9961, "99.6%"),
        (0.9996, ">99.9%"),
        (1, "100%"),
    ],
)
def test_percentages(ratio: float, text: str) -> None:
    assert format_percent(ratio) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1024**2 - 1, "1 MiB"),
        (1_260_000, "1.2 MiB"),
        (150 * 1024**3, "150 GiB"),
        (5000 * 1024**4, "5000 TiB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    assert format_size(count) == text


@pytest.mark.parametrize(
    "function", [shorten_number, shorten_at_least, format_number, format_duration, format_percent, format_size]
)
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_not_known_is_a_dash_and_never_a_zero(function: object, value: float | None) -> None:
    assert callable(function)
    assert function(value) == UNKNOWN


def test_numbers_keep_two_decimals() -> None:
    assert [format_number(value) for value in (12431, 0.25, 1234567.5, 100)] == ["12,431", "0.25", "1,234,567.5", "100"]


def test_a_number_near_zero_is_not_zero() -> None:
    assert [format_number(value) for value in (0.004, -0.0003, 1e-9, 0)] == ["0.004", "-0.0003", "1e-09", "0"]


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (None, "s", UNKNOWN),
        (None, "flag", UNKNOWN),
        (math.nan, "count", UNKNOWN),
        (0.05, "ratio", "5%"),
        (0.125, "ratio", "12.5%"),
        (12.5, "ratio", "1250%"),
        (0.9996, "ratio", "99.96%"),
        (1, "ratio", "100%"),
        (12004, "count", "12,004"),
        (64 * 1024 * 1024, "bytes", "64 MiB"),
        (310, "s", "5 m 10 s"),
        (3.25, "per_min", "3.25 per minute"),
        (0.004, "per_h", "0.004 per hour"),
        (1234.5, "count", "1,234.5"),
        (1, "flag", "yes"),
    ],
)
def test_figures_have_their_unit(value: float | None, unit: str, words: str) -> None:
    assert format_figure(value, unit) == words


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("300", "s", 300),
        ("5 min", "s", 300),
        ("5m", "s", 300),
        ("250 ms", "s", 0.25),
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
def test_what_people_write_is_understood(text: str, unit: str, value: float) -> None:
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
        ("1 2 min", "s", "a duration"),
        ("1 MiB 2 KiB", "bytes", "a size"),
        ("9e999d", "s", "a duration"),
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
    [(300, "s", "5 m"), (90, "s", "90 s"), (0.05, "ratio", "5%"), (65_536, "bytes", "64 KiB"), (0, "s", "0 s")],
)
def test_amounts_are_short(value: float, unit: str, text: str) -> None:
    assert write_amount(value, unit) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 jobs"), (1, "1 job"), (2345, "2,345 jobs")])
def test_a_count_has_its_noun(count: int, text: str) -> None:
    assert format_count(count, "job") == text
