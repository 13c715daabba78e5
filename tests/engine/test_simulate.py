"""The engine gives what the dense reference gives, on every kind of network."""

import numpy as np
import pytest

from snnkit.engine import simulate
from snnkit.errors import GraphError
from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection
from tests.helpers.engine_graphs import conv_graph, events, integer_graph, random_graph


def assert_same(got, want):
    for name, spikes in want.spikes.items():
        np.testing.assert_array_equal(got.spikes[name].to_dense(), spikes.to_dense())
        np.testing.assert_array_equal(got.spikes[name].times, spikes.times)
    for key, rows in want.recorded.items():
        np.testing.assert_array_equal(got.recorded[key], rows)
    for kind in ("spikes", "spike_sum", "updates", "synops", "synops_effective"):
        for name, counts in want.counts[kind].items():
            np.testing.assert_array_equal(got.counts[kind][name], counts, err_msg=f"{kind} {name}")
    np.testing.assert_array_equal(got.steps, want.steps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("neuron", "options"),
    [
        ("lif", {}),
        ("lif", {"reset": "soft"}),
        ("lif", {"refractory": True}),
        ("if", {"reset": "none"}),
        ("li", {}),
        ("lif", {"strict": True}),
        ("cuba", {"reset": "soft", "floor": True}),
        ("if", {"reset": "soft", "max_spikes": 4, "floor": True}),
        ("cuba", {"max_spikes": 3, "strict": True}),
    ],
    ids=str,
)
def test_spikes_and_potentials_are_the_references(neuron, options, dtype):
    spiked = summed = 0
    for seed in range(6):
        graph = random_graph(seed, neuron, options)
        batch = events(np.random.default_rng(seed), 5, [23, 1, 40], values=seed % 2)
        run = {"record": ["v", "h", "x", "rate"], "dtype": dtype}
        want = simulate(graph, batch, backend="reference", **run)
        assert_same(simulate(graph, batch, backend="numba", **run), want)
        spiked += want.counts["spikes"]["b"].sum()
        summed += want.counts["spike_sum"]["b"].sum()
    assert spiked > 0 or neuron == "li"
    assert (summed > spiked) == ("max_spikes" in options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 1},
        {"stride": (1, 2), "padding": (2, 0), "dilation": (2, 1)},
        {"groups": 2, "padding": 1, "dilation": 2},
    ],
    ids=str,
)
def test_convolutions_are_the_references(options, dtype):
    graph = conv_graph(np.random.default_rng(3), options)
    batch = events(np.random.default_rng(4), 4 * 6 * 7, [9, 12], rate=0.1, values=True)
    run = {"record": ["v"], "dtype": dtype}
    want = simulate(graph, batch, backend="reference", **run)
    assert want.counts["spikes"]["map"].sum() > 10
    assert_same(simulate(graph, batch, backend="numba", **run), want)


@pytest.mark.parametrize("shift", [0, 3, -2])
def test_integer_networks_shift_each_group_as_the_reference_does(shift):
    graph = integer_graph(np.random.default_rng(5), shift)
    batch = events(np.random.default_rng(6), 6, [30, 17], values=True)
    want = simulate(graph, batch, backend="reference", record=["v", "x"])
    assert want.recorded["a", "v"].dtype == np.int32
    assert 0 < want.counts["spikes"]["a"].sum() < 47 * 5
    assert_same(simulate(graph, batch, backend="numba", record=["v", "x"]), want)


def test_a_spike_of_several_is_one_event_with_a_value():
    """2.5 thresholds: two spikes, which reach the next neuron as twice the weight, in one SynOp."""
    params = {"decay": 1.0, "gain": 1.0, "v_th": 2.0, "v_reset": 0.0, "v_rest": 0.0}
    graph = Graph(
        {
            "in": Population("in", "input", (1,)),
            "a": Population("a", "if", (1,), params, options={"reset": "soft", "max_spikes": None}),
            "out": Population("out", "li", (1,), {"decay": 0.0, "gain": 1.0}),
        },
        [
            Projection("w1", "in", "a", np.array([[5.0]])),
            Projection("w2", "a", "out", np.array([[0.25]]), np.array(1)),
        ],
        outputs=["out"],
    )
    batch = EventBatch.from_dense(np.array([1.0, 1.0, 0.0])[:, None, None])
    for chosen in ("reference", "numba"):
        result = simulate(graph, batch, 4, record=["v"], backend=chosen)
        a = result.spikes["a"]
        assert a.times.tolist() == [0, 1]
        assert a.values.tolist() == [2.0, 3.0]
        assert result.recorded["a", "v"][:, 0, 0].tolist() == [1.0, 0.0, 0.0, 0.0]
        assert result.recorded["out", "v"][:, 0, 0].tolist() == [0.0, 0.5, 0.75, 0.0]
        assert result.counts["spikes"]["a"].tolist() == result.counts["synops"]["w2"].tolist() == [2]
        assert result.counts["spike_sum"]["a"].tolist() == [5.0]


def test_a_threshold_of_0_has_no_multiples():
    graph = random_graph(0, "lif", {"max_spikes": None})
    graph.populations["b"].params = graph.populations["b"].params | {"v_th": np.zeros(())}
    with pytest.raises(GraphError, match=r"population 'b': v_th must be above 0 .*max_spikes.*got 0"):
        simulate(graph, events(np.random.default_rng(0), 5, [3]))
