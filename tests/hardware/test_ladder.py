"""The ladder: it passes what is right, and finds what is wrong and where."""

import numpy as np
import pytest

from snnkit.engine import readout, simulate
from snnkit.errors import GraphError, ParameterError
from snnkit.graph import Graph
from snnkit.hardware import netx
from snnkit.hardware.ladder import Outcome, compare, ladder, outcome
from snnkit.hardware.quantise import quantise
from tests.helpers import networks


@pytest.fixture(scope="module")
def case():
    graph, events = networks.network(gain=1.5, decay=0.3), networks.spikes(samples=12)
    return graph, quantise(graph, calibration=events), events, readout.scores(graph, events).argmax(1)


def test_the_ladder_has_its_rungs_and_passes(case, tmp_path):
    graph, integer, events, labels = case
    found = ladder(
        graph,
        integer,
        events,
        labels,
        above={"float": lambda: outcome(graph, events, dtype="float32")},
        below={"lava": lambda: outcome(integer, events, batch=5)},
        tolerance=0.3,
    )
    assert [r.name for r in found.rungs] == ["float", "rounded", "quantised", "integer", "lava"]
    assert found.rungs[0].equal is None
    assert found.rungs[1].accuracy == 1.0
    assert 0.85 < found.rungs[2].equal < 1
    assert found.rungs[3].equal > 0.98
    assert (found.rungs[4].equal, found.rungs[4].first) == (1.0, None)
    assert found.status == 0
    assert "first to differ" in str(found)
    for path, write, read in (("a.net", netx.write, netx.read), ("a.h5", Graph.save, Graph.load)):
        write(integer, tmp_path / path)
        assert ladder(graph, read(tmp_path / path), events, labels).rungs[-1] == found.rungs[3]


def test_a_rung_that_must_be_exact_fails_by_one_spike(case):
    graph, integer, events, labels = case
    broken = outcome(integer, events)
    first = broken.spikes["hidden1"]
    e = int(np.argmin(first.times))
    where = f"hidden1, step {first.times[e]}, neuron {first.neurons[e]} "
    neuron = first.neurons.copy()
    neuron[e] = (neuron[e] + 1) % first.size
    changed = type(first)(first.times, neuron, first.offsets, first.lengths, first.size)
    below = {"lava": lambda: Outcome(broken.scores, broken.spikes | {"hidden1": changed})}
    found = ladder(graph, integer, events, labels, below=below, tolerance=1.0)
    assert found.status == 1
    assert 0.99 < found.rungs[-1].equal < 1
    assert found.rungs[-1].first.startswith(where.rsplit(" ", 2)[0].rsplit(",", 1)[0])


def test_a_loss_of_accuracy_beyond_the_tolerance_fails(case):
    graph, _, events, labels = case
    coarse = quantise(graph, bits=2, calibration=events)
    assert ladder(graph, coarse, events, labels, tolerance=0.0).status == 1
    assert ladder(graph, coarse, events, labels, tolerance=1.0).status == 0


def test_networks_that_do_not_belong_together_are_named(case):
    graph, integer, events, labels = case
    with pytest.raises(GraphError, match="'hidden0' has 34 neurons, in the exported network 20"):
        ladder(networks.network(), quantise(networks.network((21, 20, 33, 7))), events)
    with pytest.raises(ParameterError, match="3 labels for 12 samples"):
        ladder(graph, integer, events, labels[:3])


def test_spikes_are_compared_one_by_one():
    """Against sets of tuples."""
    a = networks.spikes(seed=1)
    b = networks.spikes(seed=2)

    def tuples(x):
        return {
            (s, int(t), int(n))
            for s, one in enumerate(x)
            for t, n in zip(one.times, one.neurons, strict=True)
        }

    share, first = compare({"n": a}, {"n": b})
    assert share == pytest.approx(2 * len(tuples(a) & tuples(b)) / (len(tuples(a)) + len(tuples(b))))
    t = min(t for _, t, _ in tuples(a) ^ tuples(b))
    assert first.startswith(f"n, step {t}, ")
    assert compare({"n": a}, {"n": a}) == (1.0, None)


@pytest.mark.parametrize("how", ["softmax_sum", "max_over_time", "last_step", "mean", "spike_count"])
def test_readouts_are_those_of_training(how):
    """`READOUTS` on tensors of the same potentials, with lengths that differ."""
    torch = pytest.importorskip("torch")
    from snnkit.readouts import READOUTS
    from snnkit.training.losses import valid_steps

    graph, events = networks.network(), networks.spikes()
    if how == "spike_count":
        graph.populations["out"] = networks.lif("out", 7)
    graph.metadata |= {"readout": how, "steps_tail": 9}
    dense = events.to_dense()
    lengths = np.array([60, 40, 55, 60, 31, 59])
    for b, length in enumerate(lengths):
        dense[length:, b] = 0
    events = type(events).from_dense(dense, lengths)
    result = simulate(graph, events, record=[("out", "v")], dtype="float64")
    v = (
        result.spikes["out"].to_dense(dtype=np.float64)
        if how == "spike_count"
        else result.recorded["out", "v"]
    )
    v = torch.from_numpy(np.ascontiguousarray(v))
    mask = valid_steps(len(v), torch.from_numpy(lengths + 9))
    np.testing.assert_allclose(readout.classify(result, graph, lengths), READOUTS[how](v, mask), rtol=1e-9)
