"""NIR: round trips with delays, the published example graphs, and the frameworks' own spikes."""

import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest

from snnkit.engine import simulate
from snnkit.errors import DataError, ExportError, ParameterError
from snnkit.events import EventBatch
from snnkit.graph import INPUT, Graph, Population, Projection
from snnkit.interop import nir as exchange
from snnkit.interop.nir import convention, links, reading, writing
from snnkit.neurons.neuron import NEURONS, Neuron
from tests.helpers import networks
from tests.helpers.graphs import assert_same_graph

nir = pytest.importorskip("nir")
PLACES = [
    Path(os.environ.get("SNNKIT_NIR_GRAPHS", "no such folder")),
    Path(os.environ.get("SNNKIT_DATA", "no such folder")) / "peers" / "nir",
]
"""The example graphs of NIR's repository (paper/ and tests/), which are not kept here."""


def published(name):
    """Path of one of them; the test is skipped where it is not to be had."""
    found = [place / name for place in PLACES if (place / name).is_file()]
    if not found:
        pytest.skip(f"{name} is neither in SNNKIT_NIR_GRAPHS nor in SNNKIT_DATA/peers/nir")
    return found[0]


def mixed_network():
    """Convolution with a delay, one-to-one, sparse with delays, cuba, branches."""
    r = np.random.default_rng(0)
    graph = Graph({"input": Population("input", INPUT, (2, 5, 6))}, [], 2.0, ["out"], {"readout": "mean"})
    graph.populations["c"] = networks.lif("c", (4, 3, 3), 0.5, bias=0.1 * r.normal(size=(4, 1, 1)))
    graph.populations["cuba"] = Population(
        "cuba", "cuba", 36, {"decay_syn": 0.4, "decay_mem": 0.8, "v_th": 1.2, "v_reset": 0.0}
    )
    graph.populations["out"] = Population("out", "li", 3, {"decay": 0.9, "gain": 0.1})
    indptr = np.arange(0, 3 * 36 + 1, 3)
    graph.projections = [
        Projection(
            "a", "input", "c", r.normal(size=(4, 1, 3, 3)), np.array(2), "conv", None, None,
            {"stride": [2, 2], "padding": [1, 1], "dilation": [1, 1], "groups": 2},
        ),
        Projection("b", "c", "cuba", r.normal(size=36), r.integers(0, 3, 36), "one_to_one"),
        Projection(
            "d", "cuba", "out", r.normal(size=108), r.integers(0, 9, 108), "sparse", indptr,
            np.tile([0, 1, 2], 36),
        ),
        Projection("e", "c", "out", r.normal(size=(3, 36)), r.integers(0, 9, (3, 36))),
    ]  # fmt: skip
    return graph.validate()


@pytest.mark.parametrize(
    "graph",
    [
        networks.network(),
        networks.network(recurrent=True),
        networks.network(decay=1.0, longest=1),
        mixed_network(),
    ],
    ids=["delays", "recurrent", "no leak", "mixed"],
)
def test_what_is_written_is_read_back(graph, tmp_path):
    exchange.write(graph, tmp_path / "a.nir")
    assert_same_graph(graph, exchange.read(tmp_path / "a.nir"), rtol=1e-12)


def test_delays_are_nirs_own_nodes_and_merge_without_our_notes(tmp_path):
    """Another tool sees Delay → Affine groups, one for each delay; they come back as one matrix."""
    graph = networks.network((9, 8, 4), longest=5, recurrent=True)
    exchange.write(graph, tmp_path / "a.nir")
    with h5py.File(tmp_path / "a.nir", "a") as file:
        del file["snnkit"]
    node = nir.read(tmp_path / "a.nir")
    delays = {k: float(n.delay[0]) for k, n in node.nodes.items() if isinstance(n, nir.Delay)}
    assert sorted(v for k, v in delays.items() if k.startswith("input→hidden0")) == pytest.approx(
        [0.01, 0.02, 0.03, 0.04]
    )
    again = exchange.read(tmp_path / "a.nir", dt=10.0)
    found = {(p.source, p.target): p for p in again.projections}
    assert len(found) == len(again.projections) == 3
    for p in graph.projections:
        np.testing.assert_array_equal(found[p.source, p.target].weight, p.weight)
        np.testing.assert_array_equal(found[p.source, p.target].delays, p.delays)
    events = networks.spikes(9)
    a, b = simulate(graph, events, 60, dtype="float64"), simulate(again, events, 60, dtype="float64")
    assert len(a.spikes["hidden0"].times) > 20
    np.testing.assert_array_equal(a.spikes["hidden0"].to_dense(60), b.spikes["hidden0"].to_dense(60))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": {"reset": "soft"}}, "reset 'soft'"),
        ({"options": {"refractory": True}}, "refractory period"),
        ({"neuron": "adlif"}, "kind 'adlif' have no NIR node"),
        ({"params": {"decay": np.linspace(0.1, 1, 34)}}, r"decay is 1.0"),
    ],
)
def test_what_nir_lacks_is_refused(change, message):
    graph = networks.network()
    p = graph.populations["hidden0"]
    change = dict(change)
    if "params" in change:
        change["params"] = p.params | change["params"]
    graph.populations["hidden0"] = replace(p, **change)
    with pytest.raises(ExportError, match=message):
        exchange.to_nir(graph)


def test_integer_graphs_are_refused():
    from snnkit.hardware.quantise import quantise

    with pytest.raises(ExportError, match="'hidden0' is in the chip's integers"):
        exchange.to_nir(quantise(networks.network()))


@pytest.mark.parametrize(
    ("file", "convention", "populations", "decay"),
    [
        ("two_lif_neurons", "nir", 3, 0.99),
        ("lif_norse", "norse-seconds", 2, 0.6),
        ("lif_rockpool", "rockpool", 2, np.exp(-1e-4 / 0.0025)),
        ("cnn_sinabs", "sinabs", 6, 1.0),
        ("braille_snntorch", "snntorch", 3, None),
        ("braille_noDelay_bias_zero", "snntorch", 3, None),
        ("braille_noDelay_noBias_subtract", "snntorch", 3, None),
    ],
)
def test_the_published_graphs_are_read(file, convention, populations, decay):
    graph = exchange.read(published(f"{file}.nir"), convention)
    neurons = [p for p in graph.populations.values() if p.neuron != INPUT]
    assert len(graph.populations) == populations
    if decay is not None:
        np.testing.assert_allclose(neurons[0].params["decay"], decay, rtol=1e-6)
    assert len(graph.outputs) == 1
    steps, size = 60, graph.populations[graph.inputs[0]].size
    x = (np.random.default_rng(0).random((steps, 2, size)) < 0.3).astype(np.float32)
    assert simulate(graph, EventBatch.from_dense(x)).spikes[neurons[0].name].size == neurons[0].size


@pytest.mark.parametrize("name", ["bias_zero", "noBias_subtract"])
def test_a_published_graph_whose_edges_lead_nowhere_is_refused(name):
    with pytest.raises(DataError, match="lif"):
        exchange.read(published(f"braille_noDelay_{name}_subgraph.nir"))


def test_the_published_convolutional_network_computes_what_its_nodes_say():
    """The five weight layers of the Sinabs network by torch, one step of integrate-and-fire each, which
    spikes once for each threshold that it reaches."""
    torch = pytest.importorskip("torch")
    graph = exchange.read(published("cnn_sinabs.nir"), "sinabs")
    node = nir.read(published("cnn_sinabs.nir"), type_check=False)
    r = np.random.default_rng(0)
    x = torch.from_numpy((r.random((1, 2, 34, 34)) < 0.3).astype(np.float64))
    want = {}
    for key in sorted(node.nodes, key=lambda k: int(k) if k.isdigit() else 99):
        n = node.nodes[key]
        if isinstance(n, nir.Conv2d):
            w, b = torch.from_numpy(n.weight).double(), torch.from_numpy(n.bias).double()
            x = torch.nn.functional.conv2d(x, w, b, tuple(n.stride), tuple(n.padding), tuple(n.dilation))
        elif isinstance(n, nir.IF):
            want[key] = x.reshape(-1).numpy()
            x = torch.floor(x).clamp(min=0)
        elif isinstance(n, nir.SumPool2d):
            x = torch.nn.functional.avg_pool2d(x, tuple(n.kernel_size), tuple(n.stride)) * 4
        elif isinstance(n, nir.Flatten):
            x = x.flatten(1)
        elif isinstance(n, nir.Affine):
            x = x @ torch.from_numpy(n.weight).double().T + torch.from_numpy(n.bias).double()
    r = np.random.default_rng(0)
    first = (r.random((1, 2, 34, 34)) < 0.3).reshape(1, 1, -1).astype(np.float64)
    result = simulate(graph, EventBatch.from_dense(first), 1, record=["h"], dtype="float64")
    for key, value in want.items():
        np.testing.assert_allclose(result.recorded[key, "h"][0, 0], value, atol=1e-5)


def test_files_that_are_no_nir_are_named(tmp_path):
    with h5py.File(tmp_path / "a.nir", "w") as file:
        file["x"] = 1
    with pytest.raises(DataError, match=r"no NIR file: /node is missing"):
        exchange.read(tmp_path / "a.nir")
    with h5py.File(tmp_path / "b.nir", "w") as file:
        file["node/type"] = "NIRGraph"
    with pytest.raises(DataError, match=r"b\.nir is a damaged NIR file"):
        exchange.read(tmp_path / "b.nir")
    exchange.write(networks.network(), tmp_path / "c.nir")
    with pytest.raises(ParameterError, match=r"no NIR convention 'nest', known are nir"):
        exchange.read(tmp_path / "c.nir", "nest")


def chain(*nodes):
    names = ["input", *map(str, range(len(nodes))), "output"]
    last = np.array([1])
    made = dict(zip(names, [nir.Input(np.array([2])), *nodes, nir.Output(last)], strict=True))
    return nir.NIRGraph(made, list(pairwise(names)), type_check=False)


def test_nodes_without_a_place_and_odd_delays_are_named():
    lif = nir.LIF(*(np.full(1, v) for v in (0.01, 1.0, 0.0, 1.0)))
    weights = nir.Linear(np.ones((1, 2)))
    with pytest.raises(ExportError, match=r"node '1' is a Threshold"):
        exchange.from_nir(chain(weights, nir.Threshold(np.ones(1)), lif))
    with pytest.raises(
        ExportError, match=r"delay before '1', 0.15 ms, is no whole number of steps of 0.1 ms"
    ):
        exchange.from_nir(chain(nir.Delay(np.full(2, 1.5e-4)), weights, lif))
    with pytest.raises(ExportError, match=r"node '0' has weights \(1, 3\), but gets 2 inputs"):
        exchange.from_nir(chain(nir.Linear(np.ones((1, 3))), lif))
    with pytest.raises(ExportError, match=r"time constant of 10 ms is below the step of 20 ms"):
        exchange.from_nir(chain(weights, lif), dt=20.0)


def test_inputs_may_be_delayed_each_by_its_own_time():
    lif = nir.LIF(*(np.full(1, v) for v in (0.01, 1.0, 0.0, 1.0)))
    graph = exchange.from_nir(chain(nir.Delay(np.array([1e-4, 5e-4])), nir.Linear(np.ones((1, 2))), lif))
    assert graph.projections[0].delays.tolist() == [[1, 5]]


def test_a_network_that_ends_in_weights_gets_a_memoryless_readout():
    graph = exchange.from_nir(chain(nir.Affine(np.array([[2.0, 3.0]]), np.array([0.5]))))
    x = np.eye(2, dtype=np.float32)[:, None]
    v = simulate(graph, EventBatch.from_dense(x), 3, record=["v"]).recorded[graph.outputs[0], "v"]
    assert v[:, 0, 0].tolist() == [2.5, 3.5, 0.5]


def fading(v, x, leak, theta):
    h = (1 - leak) * v + 2 * x
    return h >= theta, h, (h < theta) * h


def test_a_neuron_from_outside_gets_its_node_by_one_row_and_comes_back_by_another(monkeypatch):
    def node(nir, p, dt):
        leak, ones = writing.parameter(p, "leak"), np.ones(p.shape)
        return nir.LIF(
            tau=dt / leak,
            r=2 / leak,
            v_leak=0 * ones,
            v_threshold=writing.parameter(p, "theta"),
            v_reset=0 * ones,
        )

    def population(how, key, node, shape):
        leak = 1 - reading.leak(how, key, node.tau, shape)[0]
        params = {"leak": leak, "theta": reading.fit(node.v_threshold, shape)}
        return Population(key, "fading", shape, params), np.ones(int(np.prod(shape)))

    monkeypatch.setitem(NEURONS, "fading", lambda: Neuron("fading", ("leak", "theta"), ("v",), fading))
    graph = networks.network((9, 8, 4), bias=0.0)
    p = graph.populations["hidden0"]
    graph.populations["hidden0"] = replace(p, neuron="fading", params={"leak": 0.25, "theta": 1.0})
    with pytest.raises(ExportError, match="kind 'fading' have no NIR node; lif, if, li and cuba have"):
        exchange.to_nir(graph)
    monkeypatch.setitem(writing.NODES, "fading", node)
    made = exchange.to_nir(graph)
    back = exchange.from_nir(made, dt=graph.dt).populations["hidden0"]
    assert (back.neuron, float(back.params["decay"])) == ("lif", pytest.approx(0.75))
    monkeypatch.setitem(reading.NEURONS, "LIF", population)
    back = exchange.from_nir(made, dt=graph.dt).populations["hidden0"]
    assert back.neuron == "fading"
    np.testing.assert_allclose(back.param("leak"), 0.25)
    np.testing.assert_array_equal(back.param("theta"), 1.0)


def test_a_node_between_neurons_and_a_framework_are_one_row_each(monkeypatch):
    """A Threshold that passes all on; a framework that writes time constants in ms."""
    lif = nir.LIF(*(np.full(1, v) for v in (10.0, 1.0, 0.0, 1.0)))
    made = chain(nir.Threshold(np.zeros(2)), nir.Linear(np.ones((1, 2))), lif)
    monkeypatch.setitem(links.LINKS, "Threshold", lambda key, node, shape: links.Step(shape))
    ours = replace(convention.CONVENTIONS["nir"], dt=1e-3, tau=lambda tau, dt: tau * 1e-3)
    monkeypatch.setitem(convention.CONVENTIONS, "ours", ours)
    graph = exchange.from_nir(made, "ours")
    assert graph.dt == 1.0
    assert float(graph.populations["2"].params["decay"]) == 0.9


@pytest.mark.parametrize(
    ("convention", "tau", "warned"),
    [("norse", 0.01, 1), ("norse", 1e-5, 0), ("norse-seconds", 0.01, 0), ("nir", 2.0, 0)],
)
def test_a_norse_file_that_may_be_in_seconds_is_warned_of(convention, tau, warned, caplog):
    lif = nir.LIF(*(np.full(1, v) for v in (tau, 1.0, 0.0, 1.0)))
    exchange.from_nir(chain(nir.Linear(np.ones((1, 2))), lif), convention)
    assert sum("norse-seconds" in record.getMessage() for record in caplog.records) == warned
