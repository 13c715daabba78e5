"""Generators draw what they promise, from the seed alone."""

import h5py
import numpy as np
import pytest
from scipy import stats

from snnkit.engine import Array, EventFile, Poisson, Regular
from snnkit.engine.generators import _half
from snnkit.errors import DataError, ParameterError


def rows(generator, size, start, stop, seed=0, sample=0, dt=1.0):
    dense = np.zeros((stop - start, size))
    times, neurons, values = generator.source(size, dt, sample, seed, np.float64).events(start, stop)
    np.add.at(dense, (times - start, neurons), values if len(values) else 1)
    return dense


@pytest.mark.parametrize("mean", [0.003, 0.4, 2.5, 30.0])
def test_poisson_counts_follow_the_law(mean):
    counts = rows(Poisson(mean * 1000), 1100, 0, 200).ravel().astype(int)
    edges = np.arange(stats.poisson.ppf(1e-4, mean), stats.poisson.ppf(1 - 1e-4, mean) + 1)
    expected = len(counts) * np.append(
        stats.poisson.pmf(edges[:-1], mean), stats.poisson.sf(edges[-1] - 1, mean)
    )
    expected[0] += len(counts) * stats.poisson.cdf(edges[0] - 1, mean)
    found = np.bincount(
        np.clip(counts, edges[0], edges[-1]).astype(int) - int(edges[0]), minlength=len(edges)
    )
    chosen = expected > 5
    statistic = ((found - expected)[chosen] ** 2 / expected[chosen]).sum()
    assert stats.chi2.sf(statistic, chosen.sum() - 1) > 1e-3


def test_poisson_draws_are_independent_over_neurons_and_steps():
    counts = rows(Poisson(700.0), 600, 0, 600)
    counts = (counts - counts.mean()) / counts.std()
    limit = 4.5 / np.sqrt(counts.size)
    for lag in (1, 2, 3, 17, 256):
        assert abs((counts[lag:] * counts[:-lag]).mean()) < limit
        assert abs((counts[:, lag:] * counts[:, :-lag]).mean()) < limit
    # neither neurons nor steps differ more than chance lets them
    for axis in (0, 1):
        assert 0.8 < counts.mean(axis).std() * np.sqrt(600) < 1.2


def test_poisson_depends_on_seed_and_sample_and_not_on_how_it_is_read():
    noise = Poisson(1500.0)
    whole = rows(noise, 1500, 0, 30, seed=3)
    pieces = [rows(noise, 1500, a, b, seed=3) for a, b in ((0, 1), (1, 17), (17, 30))]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    np.testing.assert_array_equal(rows(noise, 40, 0, 30, seed=3), whole[:, :40])
    for seed, sample in ((4, 0), (3, 1)):
        other = rows(noise, 1500, 0, 30, seed, sample)
        assert 0.1 < (other == whole).mean() < 0.5
    source = noise.source(1500, 1.0, 0, 3, np.float32)
    np.testing.assert_array_equal(source.dense(0, 30, threads=2)[0], whole)


def test_poisson_takes_a_rate_for_each_neuron():
    rate = np.array([0.0, 100.0, 1000.0, 100.0])
    counts = rows(Poisson(rate), 4, 0, 4000).mean(0)
    np.testing.assert_allclose(counts, rate / 1000, atol=4 * np.sqrt(rate.max() / 1000 / 4000))
    assert counts[0] == 0


def test_mixing_is_a_permutation_that_flips_half_the_bits():
    numbers = np.arange(1 << 16, dtype=np.uint32) * np.uint32(65537)
    mixed = np.array([_half(z) for z in numbers], np.uint32)
    assert len(np.unique(mixed)) == len(numbers)
    flipped = np.array([_half(z ^ np.uint32(1 << 7)) for z in numbers[:2000]], np.uint32)
    changed = np.unpackbits((flipped ^ mixed[:2000]).view(np.uint8)).reshape(2000, 32)
    assert 0.47 < changed.mean() < 0.53
    assert (np.abs(changed.mean(0) - 0.5) < 0.06).all()


def test_regular_spikes_come_at_their_interval():
    x = rows(Regular(np.array([3, 5]), np.array([1, 0])), 2, 0, 12)
    np.testing.assert_array_equal(np.flatnonzero(x[:, 0]), [1, 4, 7, 10])
    np.testing.assert_array_equal(np.flatnonzero(x[:, 1]), [0, 5, 10])
    np.testing.assert_array_equal(rows(Regular(4), 2, 6, 12).sum(0), [1, 1])


def test_a_file_of_events_is_read_as_the_array_it_holds(tmp_path, monkeypatch):
    monkeypatch.setattr("snnkit.engine.generators.EventFileSource.PIECE", 7)
    rng = np.random.default_rng(0)
    times, neurons = np.sort(rng.integers(0, 50, 100)), rng.integers(0, 4, 100)
    values = rng.integers(1, 5, 100)
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["some/times"], file["some/neurons"], file["some/values"] = times, neurons, values
    array = Array(times, neurons, values)
    source = EventFile(tmp_path / "in.h5", "some").source(4, 1.0, 0, 0, np.float64)
    for start, stop in ((0, 3), (3, 4), (4, 30), (30, 60), (0, 60)):
        dense = np.zeros((stop - start, 4))
        t, n, v = source.events(start, stop)
        np.add.at(dense, (t - start, n), v)
        np.testing.assert_array_equal(dense, rows(array, 4, start, stop))


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        (Poisson([1.0, 2.0]), "2 rates for a population of 3"),
        (Poisson(-1.0), "not negative"),
        (Poisson(float("nan")), "finite"),
        (Poisson(1e6), "1000 spikes a step"),
        (Poisson(1e-4), "1e-07 spikes a step is below the resolution"),
        (Regular(0), "interval must be integer steps ≥ 1"),
        (Regular(2.5), "interval must be integer steps"),
        (Regular(2, -1), "phase must be integer steps ≥ 0"),
    ],
)
def test_generators_refuse_what_they_cannot_draw(generator, message):
    with pytest.raises(ParameterError, match=message):
        generator.source(3, 1.0, 0, 0, np.float32)


@pytest.mark.parametrize(
    ("times", "neurons", "message"),
    [([3, 2], [0, 0], "earlier"), ([0, 1], [0, 3], "outside 0..2"), ([-1], [0], "outside its sample")],
)
def test_given_spikes_must_be_in_order_and_in_range(times, neurons, message, tmp_path):
    with pytest.raises(DataError, match=message):
        Array(times, neurons).source(3, 1.0, 0, 0, np.float32)
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["times"], file["neurons"] = times, neurons
    with pytest.raises(DataError, match=message):
        EventFile(tmp_path / "in.h5").source(3, 1.0, 0, 0, np.float32).events(0, 9)


def test_an_event_must_carry_a_number():
    with pytest.raises(DataError, match=r"event 1 (carries|is) nan"):
        Array([0, 1], [0, 0], [1.0, float("nan")]).source(3, 1.0, 0, 0, np.float32)


def test_a_file_without_events_is_named(tmp_path):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["times"] = [0]
    with pytest.raises(DataError, match="no datasets 'times' and 'neurons'"):
        EventFile(tmp_path / "in.h5").source(3, 1.0, 0, 0, np.float32)
    with pytest.raises(DataError, match="does not exist"):
        EventFile(tmp_path / "other.h5").source(3, 1.0, 0, 0, np.float32)
