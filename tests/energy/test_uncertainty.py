"""Ranges, and how many figures they leave."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import floats, just, lists, one_of

from snnkit.energy import human, human_time, measure, price, uncertainty
from snnkit.energy.uncertainty import bootstrap, figures
from snnkit.errors import ParameterError
from tests.helpers.energy_networks import chain


def test_the_bootstrap_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(200):
        low, high = bootstrap(rng.exponential(1.0, 60), resamples=300, seed=seed)
        inside += low < 1.0 < high
    assert 0.88 <= inside / 200 <= 0.99


def test_one_sample_has_no_width():
    assert bootstrap(np.array([3.0])) == (3.0, 3.0)
    with pytest.raises(ParameterError, match="no samples"):
        bootstrap(np.array([]))
    with pytest.raises(ParameterError, match="level"):
        bootstrap(np.array([1.0]), level=95)


def test_both_doubts_widen_the_range():
    counts = measure(*chain(batch=12))
    p = price(counts, "lemaire45")
    r = uncertainty(p)
    assert r.low < r.constants_low < r.value < r.constants_high < r.high
    assert r.constants_low < r.samples_low < r.value < r.samples_high < r.constants_high
    assert uncertainty(p) == r


def test_no_energy_has_no_range():
    r = uncertainty(price(measure(*chain(rate=0.0)), "cmos45"))
    assert (r.value, r.low, r.high) == (0, 0, 0)
    assert str(r) == "0 pJ"


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (5.94e6, 1.6e6, 7.5e6, "6 µJ (1.6–7.5)"),
        (5.94e6, 5.86e6, 6.03e6, "5.94 µJ (5.86–6.03)"),
        (82109.0, 80000.0, 84000.0, "82 nJ (80–84)"),
        (1.0, 1.0, 1.0, "1.00 pJ"),
        (3.440571e9, 3.0e9, 3.9e9, "3.4 mJ (3.0–3.9)"),
        (0.0, 0.0, 0.0, "0 pJ"),
        (0.012, 0.012, 0.012, "0.0120 pJ"),
        (2.5e13, 1e13, 4e13, "20 J (10–40)"),
    ],
)
def test_figures_match_the_range(value, low, high, text):
    assert human(value, low, high) == text


@pytest.mark.parametrize("show", [human, human_time])
@given(
    bounds=lists(floats(1e-3, 1e15), min_size=2, max_size=2).map(sorted),
    where=one_of(just(0.0), just(1.0), floats(0, 1)),
)
def test_a_value_is_printed_within_its_printed_range(show, bounds, where):
    low, high = bounds
    value = min(max(low + where * (high - low), low), high)
    printed = re.match(r"(\S+) \S+(?: \((\S+)–(\S+)\))?$", show(value, low, high)).groups()
    assert (printed[1] is None) == (low == high)
    if low < high:
        shown, least, most = map(float, printed)
        assert least <= shown <= most


def test_a_value_at_the_end_of_its_range_gets_the_figures_that_keep_it_there():
    assert human_time(341.0, 341.0, 1500.0) == "340 µs (340–1500)"
    assert human(949e6, 66e6, 949e6) == "900 µJ (66–950)"


def test_times_read_well():
    assert human_time(2010.0, 505.0, 10_000.0) == "2 ms (0.51–10)"
    assert human_time(151.4, 151.4, 151.4) == "151 µs"
    assert human(1234.5) == "1.23 nJ"


def test_more_certainty_allows_more_figures():
    assert [figures(1234.0, 1234.0 - w, 1234.0 + w) for w in (1500, 500, 50, 5, 0.5)] == [1, 2, 3, 4, 4]
