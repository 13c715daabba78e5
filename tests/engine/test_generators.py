"""Generators draw what they promise, from the seed alone."""

import h5py
import numpy as np
import pytest
from scipy import stats

from snnkit.engine import Array, Engine, EventFile, Poisson, Regular, simulate
from snnkit.engine.generators import _half
from snnkit.errors import DataError, ParameterError
from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection


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


def noise_graph(names, size=400):
    """One input and one population that passes every spike on, for each name."""
    populations, projections = {}, []
    for name in names:
        populations[name] = Population(name, "input", (size,))
        populations[f"{name}.copy"] = Population(
            f"{name}.copy", "li", (size,), {"decay": np.zeros(()), "gain": np.ones(())}
        )
        projections.append(
            Projection(name, name, f"{name}.copy", np.ones(size, np.float32), kind="one_to_one")
        )
    return Graph(populations, projections, 1.0, [f"{n}.copy" for n in names]).validate()


def drawn(names, rate, steps=30, **options):
    """Counts [T, B, N] of each input, by simulate."""
    record = [(f"{n}.copy", "v") for n in names]
    graph = noise_graph(names)
    batch = options.pop("batch", 1)
    given = {n: Poisson(rate) for n in names}
    if batch > 1:  # an input without spikes says how many samples there are
        graph.populations["clock"] = Population("clock", "input", (1,))
        given["clock"] = EventBatch.from_dense(np.zeros((steps, batch, 1)))
    result = simulate(graph, given, steps, record=record, seed=5, **options)
    return {n: result.recorded[f"{n}.copy", "v"] for n in names}


BACKENDS = [{}, {"threads": 2}, {"backend": "reference"}]


@pytest.mark.parametrize("options", BACKENDS, ids=str)
@pytest.mark.parametrize("rate", [200.0, 2000.0])
def test_populations_samples_and_steps_draw_apart(options, rate):
    counts = drawn(["a", "b", "c"], rate, batch=2, **options)
    trains = [x[:, b].ravel() for x in counts.values() for b in range(x.shape[1])]
    trains += [np.roll(trains[0].reshape(30, -1), k, axis=0).ravel() for k in (1, 2)]
    correlation = np.corrcoef(trains)
    others = correlation[~np.eye(len(trains), dtype=bool)]
    assert (np.abs(others) < 5 / np.sqrt(trains[0].size)).all()


@pytest.mark.parametrize("options", BACKENDS[1:], ids=str)
def test_what_a_population_draws_is_its_own_on_every_back_end(options):
    want = drawn(["a", "b"], 700.0)
    for names in (["a", "b"], ["b", "a"], ["b"]):
        got = drawn(names, 700.0, **options)
        for name in names:
            np.testing.assert_array_equal(got[name], want[name])
    engine = Engine(noise_graph(["b"]), generators={"b": Poisson(700.0)}, seed=5, record=["v"])
    pieces = [engine.advance(t).recorded["b.copy", "v"] for t in (7, 30)]
    np.testing.assert_array_equal(np.concatenate(pieces), want["b"])


@pytest.mark.parametrize("seed", [-1, 1.5, True])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(ParameterError, match="seed must be a whole number of at least 0"):
        simulate(noise_graph(["a"]), Poisson(10.0), 3, seed=seed)
