"""Totals estimated from random samples, with the error that they have in 95 of 100 cases. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

# Standard errors on each side of the estimate.
SPREAD = 1.96


class Estimate(NamedTuple):
    """A number of bytes, and the variance of its error: 0 for what was measured as a whole."""

    total_bytes: float = 0.0
    variance: float = 0.0

    @property
    def error_bytes(self) -> float:
        """By how much the total can differ, in 95 of 100 cases."""
        return SPREAD * math.sqrt(self.variance)

    @property
    def error_ratio(self) -> float:
        """The error as a share of the total; 0 for a total of 0."""
        return self.error_bytes / self.total_bytes if self.total_bytes else 0.0


def estimate_total(sampled: Sequence[int], population: int) -> Estimate:
    """The sum over `population` values of which `sampled` were chosen at random, without repetition.

    A single value of several says little: its error is as large as its estimate.
    """
    count = min(len(sampled), population)
    if not count:
        return Estimate()
    mean = sum(sampled) / len(sampled)
    total = mean * population
    if count >= population:
        return Estimate(total)
    if count == 1:
        return Estimate(total, (total / SPREAD) ** 2)
    spread = sum((value - mean) ** 2 for value in sampled) / (len(sampled) - 1)
    return Estimate(total, population**2 * spread / count * (1 - count / population))


def estimate_share(sampled: Sequence[int], matching: int, scanned: int, population: int) -> Estimate:
    """The sum over those of `population` values that match, if `matching` of `scanned` random ones did.

    `sampled` are the values of some of the matching ones.
    """
    if not sampled or not scanned:
        return Estimate()
    if scanned >= population:
        return estimate_total(sampled, matching)
    share = matching / scanned
    within = estimate_total(sampled, max(1, round(share * population)))
    mean = sum(sampled) / len(sampled)
    of_share = (population * mean) ** 2 * share * (1 - share) / scanned * (1 - scanned / population)
    return Estimate(mean * share * population, within.variance + of_share)


def add_estimates(estimates: Iterable[Estimate]) -> Estimate:
    """The sum of independent estimates."""
    found = list(estimates)
    return Estimate(sum(each.total_bytes for each in found), sum(each.variance for each in found))
