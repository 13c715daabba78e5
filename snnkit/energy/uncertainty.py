"""Ranges: constants between low and high, samples by bootstrap, and as many figures as that allows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import ParameterError
from .price import Price

TIMES = (("s", 1e6), ("ms", 1e3), ("µs", 1.0))
FIGURES = 17
"""Significant figures that tell any two float64 apart."""
UNITS = (("J", 1e12), ("mJ", 1e9), ("µJ", 1e6), ("nJ", 1e3), ("pJ", 1.0))


@dataclass(frozen=True)
class Range:
    """A mean energy with its two sources of doubt, pJ.

    low, high                  both together
    constants_low, _high       all constants at their low, high; the samples as they are
    samples_low, _high         interval of the mean over the samples; the constants as they are
    """

    value: float
    low: float
    high: float
    constants_low: float
    constants_high: float
    samples_low: float
    samples_high: float

    def __str__(self) -> str:
        return human(self.value, self.low, self.high)


def bootstrap(
    values: np.ndarray, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean of ``values [B]``; a single sample gives no width.

    Raises `ParameterError` if there are no samples, or `level` is not between 0 and 1.
    """
    values = np.asarray(values, float)
    if not len(values):
        raise ParameterError("there are no samples to resample.")
    if not 0 < level < 1:
        raise ParameterError(f"level must lie between 0 and 1, got {level}.")
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for start in range(0, resamples, 100):
        stop = min(start + 100, resamples)
        means[start:stop] = values[rng.integers(0, len(values), (stop - start, len(values)))].mean(1)
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def uncertainty(price: Price, level: float = 0.95, seed: int = 0) -> Range:
    """The range of a price: constants at low and high, times the bootstrap interval over samples."""
    value = price.total_pj
    low, high = bootstrap(price.per_inference, level, seed=seed)
    below, above = (low / value, high / value) if value else (1.0, 1.0)
    return Range(
        value=value,
        low=price.low_pj * below,
        high=price.high_pj * above,
        constants_low=price.low_pj,
        constants_high=price.high_pj,
        samples_low=low,
        samples_high=high,
    )


def figures(value: float, low: float, high: float) -> int:
    """Significant figures that a range allows: the last one is worth no more than half its width."""
    width = (high - low) / 2
    if value == 0:
        return 1
    if width <= 0:
        return 3
    return max(1, min(4, math.floor(math.log10(abs(value))) - math.floor(math.log10(width)) + 1))


def human(value: float, low: float | None = None, high: float | None = None) -> str:
    """``3.4 µJ (2.9–4.1)``: an energy in pJ, in the unit that fits, rounded as its range allows.

    A value within its range is printed within the printed one, with more figures where it takes them.
    """
    return _human(value, low, high, UNITS)


def human_time(value: float, low: float | None = None, high: float | None = None) -> str:
    """``1.5 ms (1.2–1.9)``: a time in µs, likewise."""
    return _human(value, low, high, TIMES)


def _human(value: float, low: float | None, high: float | None, units: tuple[tuple[str, float], ...]) -> str:
    unit, size = next(((u, s) for u, s in units if abs(value) >= s), units[-1])
    if low is None or high is None:
        return f"{_rounded(value / size, 3)} {unit}"
    for digits in range(figures(value, low, high), FIGURES + 1):
        numbers = [
            _rounded(x / size, n) for x, n in ((value, digits), *((x, max(digits, 2)) for x in (low, high)))
        ]
        if float(numbers[1]) <= float(numbers[0]) <= float(numbers[2]) or not low <= value <= high:
            break
    shown, least, most = numbers
    return f"{shown} {unit} ({least}–{most})" if high > low else f"{shown} {unit}"


def _rounded(value: float, digits: int) -> str:
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, places):.{max(places, 0)}f}"
