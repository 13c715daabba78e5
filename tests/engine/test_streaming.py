"""Laws: cutting a run, sharing it between threads or shifting its input changes nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkit.engine import Engine, Poisson, Record, simulate
from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection
from tests.helpers.engine_graphs import NEURONS, conv_graph, events, integer_graph, random_graph


def rough(graph, seed):
    """The same network with weights whose sums are rounded: their order shows in the last bits."""
    rng = np.random.default_rng(seed)
    for p in graph.projections:
        p.weight = p.weight * rng.uniform(0.9, 1.1, p.weight.shape)
    return graph


def between(batch, start, stop):
    chosen = (batch.times >= start) & (batch.times < stop)
    count = int(chosen.sum())
    values = None if batch.values is None else batch.values[chosen]
    return EventBatch(
        batch.times[chosen], batch.neurons[chosen], [0, count], batch.lengths, batch.size, values
    )


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    cuts=st.lists(st.integers(0, 60), max_size=5),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_a_stream_in_pieces_is_the_whole_run_bit_for_bit(seed, cuts, dtype):
    several = {"reset": "soft", "max_spikes": 3, "floor": True} if seed % 3 == 0 else {}
    graph = rough(random_graph(seed, options=several), seed)
    batch = events(np.random.default_rng(seed), 5, [60], values=bool(seed % 2))
    whole = simulate(graph, batch, record=["v", "x"], dtype=dtype)

    engine = Engine(graph, record=["v", "x"], dtype=dtype)
    pieces, start = [], 0
    for cut in [*sorted(cuts), 60]:
        engine.push(between(batch, start, cut))
        pieces.append(engine.advance(cut))
        start = cut

    for name, spikes in whole.spikes.items():
        times = np.concatenate([p.spikes[name].times for p in pieces])
        neurons = np.concatenate([p.spikes[name].neurons for p in pieces])
        np.testing.assert_array_equal(times, spikes.times)
        np.testing.assert_array_equal(neurons, spikes.neurons)
        if several:
            values = [p.spikes[name].values for p in pieces if len(p.spikes[name].times)]
            np.testing.assert_array_equal(np.concatenate(values), spikes.values)
    for key, rows in whole.recorded.items():
        got = np.concatenate([p.recorded[key] for p in pieces])
        np.testing.assert_array_equal(got.view(np.uint8), rows.view(np.uint8))
    for kind, entries in whole.counts.items():
        for name, total in entries.items():
            if kind not in ("updates_done", "ring_reads"):
                assert sum(p.counts[kind][name][0] for p in pieces) == total[0], (kind, name)


def test_after_reset_a_stream_starts_anew():
    graph = random_graph(3)
    batch = events(np.random.default_rng(3), 5, [40])
    engine = Engine(graph)
    engine.push(batch)
    first = engine.advance(40)
    engine.reset()
    engine.push(batch)
    again = engine.advance(40)
    assert first.spikes["b"].times.size > 5
    np.testing.assert_array_equal(first.spikes["b"].times, again.spikes["b"].times)
    assert again.counts["spikes"]["b"] == first.counts["spikes"]["b"]


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 30))
def test_input_later_by_k_is_output_later_by_k(seed, k):
    graph = random_graph(seed, sizes=(5, 6, 3))
    for population in graph.populations.values():
        population.bias = np.zeros(())
    batch = events(np.random.default_rng(seed), 5, [40])
    later = EventBatch(batch.times + k, batch.neurons, batch.offsets, batch.lengths + k, batch.size)
    want, got = simulate(graph, batch, dtype="float64"), simulate(graph, later, dtype="float64")
    for name, spikes in want.spikes.items():
        np.testing.assert_array_equal(got.spikes[name].times, spikes.times + k)
        np.testing.assert_array_equal(got.spikes[name].neurons, spikes.neurons)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_renumbering_neurons_renumbers_their_spikes(seed):
    rng = np.random.default_rng(seed)
    graph = random_graph(seed)
    order = rng.permutation(7)  # new neuron n is old neuron order[n]
    where = np.argsort(order)
    moved = random_graph(seed)
    moved.populations["a"].bias = np.broadcast_to(graph.populations["a"].bias, 7)[order]
    for p in moved.projections:
        delay = p.delays
        if p.kind == "sparse":
            if p.source == "a":
                rows = [np.arange(p.indptr[i], p.indptr[i + 1]) for i in order]
                p.indptr = np.concatenate([[0], np.cumsum([len(r) for r in rows])])
                rows = np.concatenate(rows).astype(int)
                p.indices, p.weight, delay = p.indices[rows], p.weight[rows], delay[rows]
            if p.target == "a":
                p.indices = where[p.indices]
        elif p.kind == "one_to_one":
            p.weight, delay = p.weight[order], delay[order]
        else:
            if p.source == "a":
                p.weight, delay = p.weight[:, order], delay[:, order]
            if p.target == "a":
                p.weight, delay = p.weight[order], delay[order]
        p.delay = delay
    batch = events(rng, 5, [40])
    want, got = simulate(graph, batch), simulate(moved, batch)
    np.testing.assert_array_equal(got.spikes["a"].to_dense(), want.spikes["a"].to_dense()[:, :, order])
    np.testing.assert_array_equal(got.spikes["b"].to_dense(), want.spikes["b"].to_dense())


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("kind", ["mixed", "several", "conv", "integer", "noise"])
def test_any_number_of_threads_gives_the_same_bits(kind, threads):
    rng = np.random.default_rng(8)
    if kind == "mixed":
        graph, batch = rough(random_graph(8, sizes=(5, 70, 33)), 8), events(rng, 5, [50], values=True)
    elif kind == "several":
        options = {"reset": "soft", "max_spikes": 3}
        graph, batch = rough(random_graph(8, "if", options, (5, 70, 33)), 8), events(rng, 5, [50])
    elif kind == "conv":
        graph, batch = rough(conv_graph(rng, {"padding": 1}), 8), events(rng, 168, [20], rate=0.1)
    elif kind == "integer":
        graph, batch = integer_graph(rng, 3), events(rng, 6, [40], values=True)
    else:
        graph, batch = driven(2500), Poisson(900.0)
    one, many = (simulate(graph, batch, 40, record=["v", "x"], threads=n) for n in (1, threads))
    assert sum(s.times.size for s in one.spikes.values()) > 10
    for name, spikes in one.spikes.items():
        np.testing.assert_array_equal(many.spikes[name].times, spikes.times)
        np.testing.assert_array_equal(many.spikes[name].neurons, spikes.neurons)
        assert (spikes.values is not None and spikes.values.max() > 1) == (kind == "several")
        np.testing.assert_array_equal(many.spikes[name].to_dense(), spikes.to_dense())
    for key, rows in one.recorded.items():
        np.testing.assert_array_equal(many.recorded[key].view(np.uint8), rows.view(np.uint8))
    assert many.counts == one.counts


def driven(size):
    """Poisson noise, neuron to neuron, on a population without any other input."""
    return Graph(
        {
            "noise": Population("noise", "input", (size,)),
            "a": Population("a", "lif", (size,), NEURONS["lif"] | {"v_th": 2.0}),
        },
        [Projection("drive", "noise", "a", np.full(size, 0.7), np.int64(2), "one_to_one")],
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_samples_of_a_batch_do_not_touch_each_other(threads):
    graph = rough(random_graph(11), 11)
    batch = events(np.random.default_rng(11), 5, [30, 7, 0, 30, 22], values=True)
    together = simulate(graph, batch, record=["v"], threads=threads)
    for b, alone in enumerate(batch):
        want = simulate(graph, alone, record=["v"])
        np.testing.assert_array_equal(together.spikes["b"][b].times, want.spikes["b"].times)
        np.testing.assert_array_equal(
            together.recorded["a", "v"][: len(want.recorded["a", "v"]), b], want.recorded["a", "v"][:, 0]
        )
        assert together.counts["synops"]["a→b"][b] == want.counts["synops"]["a→b"][0]


def test_a_silent_population_is_not_computed_and_wakes_unchanged():
    graph = random_graph(4, sizes=(5, 6, 3))
    for population in graph.populations.values():
        population.bias = np.zeros(())
    for p in graph.projections[2:]:
        p.weight = p.weight / 8  # too weak to keep itself going
    times = np.concatenate([np.repeat(np.arange(5), 5), np.repeat(np.arange(9000, 9005), 5)])
    burst = EventBatch(times, np.tile(np.arange(5), 10), [0, 50], [9010], 5)
    result = simulate(graph, burst, dtype="float32")
    assert result.counts["updates_done"]["b"][0] < 0.6 * result.counts["updates"]["b"][0]
    want = simulate(graph, burst, dtype="float32", record=["v"])  # recorded: every step is computed
    np.testing.assert_array_equal(result.spikes["b"].times, want.spikes["b"].times)
    assert (result.spikes["b"].times >= 9000).any()


def test_recording_thins_alike_however_the_run_is_cut():
    graph = random_graph(5)
    batch = events(np.random.default_rng(5), 5, [31])
    record = [Record("a", "v", [4, 0], every=3), Record("b", "rate", every=7)]
    full = simulate(graph, batch, record=["v", "rate"])
    whole = simulate(graph, batch, record=record)
    np.testing.assert_array_equal(whole.recorded["a", "v"], full.recorded["a", "v"][::3, :, [4, 0]])
    rate = full.recorded["b", "rate"]
    want = np.stack([rate[k : k + 7].mean(0) for k in range(0, 31, 7)])
    np.testing.assert_allclose(whole.recorded["b", "rate"], want, rtol=1e-12)

    engine = Engine(graph, record=record)
    engine.push(batch)
    pieces = [engine.advance(t) for t in (2, 3, 13, 28)]
    for key, rows in (("a", "v"), whole.recorded["a", "v"][:10]), (("b", "rate"), want[:4]):
        np.testing.assert_allclose(np.concatenate([p.recorded[key] for p in pieces]), rows, rtol=1e-12)
