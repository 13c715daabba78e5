"""Graphs of any shape come through NIR: held to NIR's own equations, computed node by node."""

from itertools import pairwise

import numpy as np
import pytest

from snnkit.engine import simulate
from snnkit.errors import DataError, ExportError, TooLargeError
from snnkit.events import EventBatch
from snnkit.graph import INPUT, Graph, Population, Projection
from snnkit.interop import nir as exchange
from tests.helpers.nir_interpreter import interpret

nir = pytest.importorskip("nir")
DT = 1e-4


def lif(n=1, tau=1e-3, r=10.0, threshold=1.0, leak=0.0):
    return nir.LIF(*(np.full(n, v) for v in (tau, r, leak, threshold)))


def run(graph, x):
    """The Graph's run on x [T, …], float64."""
    events = EventBatch.from_dense(x.reshape(len(x), 1, -1))
    return simulate(graph, events, len(x), record=["v"], dtype="float64")


def given(graph, x):
    """What the populations of the Graph's outputs give together, [T, N]."""
    steps, result = len(x), run(graph, x)
    read_out = [n for n in graph.outputs if graph.populations[n].neuron == "li"]
    spikes = [result.spikes[n].to_dense(steps)[:, 0] for n in graph.outputs if n not in read_out]
    return sum([*(result.recorded[n, "v"][:, 0] for n in read_out), *spikes])


def computed_alike(nodes, edges, order=None, steps=60, rate=0.4):
    """The Graph of these nodes, once it gives what the nodes give."""
    made = nir.NIRGraph(dict(nodes), list(edges), type_check=False)
    shape = tuple(nodes["input"].input_type["input"])
    x = (np.random.default_rng(1).random((steps, *shape)) < rate).astype(float)
    graph = exchange.from_nir(made)
    (output,) = [key for key, node in nodes.items() if type(node).__name__ == "Output"]
    want = interpret(made, {"input": x}, DT, order or list(nodes))
    result = run(graph, x)
    spikes = {key: want[key] for key, node in nodes.items() if type(node).__name__ in ("LIF", "IF")}
    assert sum(s.sum() for s in spikes.values()) > 0
    for key, s in spikes.items():
        np.testing.assert_array_equal(result.spikes[key].to_dense(steps)[:, 0], s.reshape(steps, -1))
    np.testing.assert_allclose(given(graph, x), want[output].reshape(steps, -1), atol=1e-9)
    return graph


def random_network(seed):
    """A chain of LIF, named in its order, with skips and loops through weights, scales and delays."""
    r = np.random.default_rng(seed)
    neurons = [f"n{k}" for k in range(r.integers(2, 5))]
    size = {key: int(r.integers(1, 5)) for key in ["input", *neurons]}
    nodes = {"input": nir.Input(np.array([size["input"]]))}
    edges = []

    def join(a, b, name):
        here = a
        if r.random() < 0.4:
            nodes[f"{name}.wait"] = nir.Delay(DT * r.integers(0, 4, size[a]))
            edges.append((here, f"{name}.wait"))
            here = f"{name}.wait"
        weight = r.normal(0.4, 0.8, (size[b], size[a]))
        affine = r.random() < 0.5
        nodes[name] = nir.Affine(weight, r.normal(0, 0.3, size[b])) if affine else nir.Linear(weight)
        edges.append((here, name))
        here = name
        if r.random() < 0.3:
            nodes[f"{name}.scale"] = nir.Scale(r.uniform(0.5, 1.5, size[b]))
            edges.append((here, f"{name}.scale"))
            here = f"{name}.scale"
        if r.random() < 0.4:
            nodes[f"{name}.late"] = nir.Delay(DT * r.integers(0, 4, size[b]))
            edges.append((here, f"{name}.late"))
            here = f"{name}.late"
        edges.append((here, b))

    def neuron(key):
        size_, v = size[key], r.uniform(0.6, 1.5, 2)
        if r.random() < 0.3:
            return nir.IF(np.full(size_, 6e3), np.full(size_, v[0]))
        return lif(size_, tau=1e-3 * v[1], threshold=v[0], leak=r.normal(0, 0.2))

    chain = ["input", *neurons]
    for number, key in enumerate(neurons):
        for k, before in enumerate(chain[: number + 1]):
            if k == number or r.random() < 0.3:
                join(before, key, f"w.{before}.{key}")
        nodes[key] = neuron(key)
    for a in neurons:
        for b in neurons[: neurons.index(a) + 1]:
            if r.random() < 0.3:
                join(a, b, f"back.{a}.{b}")
    nodes["output"] = nir.Output(np.array([size[neurons[-1]]]))
    edges.append((neurons[-1], "output"))
    return nodes, edges


def order_of(nodes):
    """A loop is broken at the neuron whose spikes lead back: what is behind it reads its last step."""
    back = [key for key in nodes if key.startswith("back.")]
    return ["input", *back, *(key for key in nodes if key not in ("input", *back))]


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_with_skips_and_loops_compute_what_their_nodes_say(seed):
    nodes, edges = random_network(seed)
    computed_alike(nodes, edges, order_of(nodes))


@pytest.mark.parametrize("seed", range(10))
def test_the_order_of_nodes_and_edges_in_a_file_does_not_matter(seed, tmp_path):
    nodes, edges = random_network(seed)
    r = np.random.default_rng(seed)
    x = (r.random((40, *nodes["input"].input_type["input"])) < 0.4).astype(float)
    want = given(exchange.from_nir(nir.NIRGraph(nodes, edges, type_check=False)), x)
    mixed = {k: nodes[k] for k in r.permutation(list(nodes))}
    other = nir.NIRGraph(mixed, [edges[k] for k in r.permutation(len(edges))], type_check=False)
    np.testing.assert_allclose(given(exchange.from_nir(other), x), want, atol=1e-9)
    nir.write(tmp_path / "a.nir", other)
    np.testing.assert_allclose(given(exchange.read(tmp_path / "a.nir"), x), want, atol=1e-9)


def random_graph(seed, names=("b", "a", "c10", "c9")):
    """LIF populations with delays, loops, biases and initial potentials, in no order of names."""
    r = np.random.default_rng(seed)
    graph = Graph({"in": Population("in", INPUT, (3,))}, [], 0.1, list(names))
    for name in names:
        params = {"decay": r.uniform(0.7, 0.95), "gain": 1.0, "v_th": 1.0, "v_reset": -0.1, "v_rest": 0.05}
        initial = {"v": r.uniform(0, 0.9, 4)} if r.random() < 0.5 else {}
        bias = r.normal(0.05, 0.05, 4) if r.random() < 0.5 else 0.0
        graph.populations[name] = Population(name, "lif", (4,), params, bias, initial=initial)
    ends = [("in", names[0])] + [
        (a, b) for a in ("in", *names) for b in names if r.random() < 0.45 or (a, b) in pairwise(names)
    ]
    for k, (a, b) in enumerate(ends):
        size = graph.populations[a].size
        delay = r.integers(0 if a == "in" else 1, 5, (4, size))
        graph.projections.append(Projection(f"p{k}", a, b, r.normal(0.2, 0.4, (4, size)), delay))
    return graph.validate()


@pytest.mark.parametrize("seed", range(30))
def test_graphs_with_loops_keep_their_spikes_on_the_way_there_and_back(seed, tmp_path):
    graph = random_graph(seed)
    x = (np.random.default_rng(seed).random((80, 3)) < 0.5).astype(float)
    want = given(graph, x)
    assert want.sum() > 5
    made = exchange.to_nir(graph)
    np.testing.assert_array_equal(given(exchange.from_nir(made, dt=0.1), x), want)
    exchange.write(graph, tmp_path / "a.nir")
    back = exchange.read(tmp_path / "a.nir")
    np.testing.assert_array_equal(given(back, x), want)
    assert [(p.name, p.source, p.target) for p in back.projections] == [
        (p.name, p.source, p.target) for p in graph.projections
    ]


CHAIN = [("input", "a"), ("a", "A"), ("A", "output")]


def weights(o, i, seed=0):
    return nir.Linear(np.random.default_rng(seed).normal(0.3, 1.0, (o, i)))


@pytest.mark.parametrize("copies", [2, 3])
def test_a_doubled_edge_counts_as_often_as_it_is_there(copies):
    nodes = {
        "input": nir.Input(np.array([3])),
        "a": weights(2, 3),
        "A": lif(2),
        "output": nir.Output(np.array([2])),
    }
    graph = computed_alike(nodes, [*CHAIN, *[("input", "a")] * (copies - 1)])
    assert len(graph.projections) == 1
    direct = {"input": nir.Input(np.array([2])), "A": lif(2), "output": nir.Output(np.array([2]))}
    computed_alike(direct, [*[("input", "A")] * copies, ("A", "output")])


def test_weights_that_lead_to_several_neurons_and_come_from_several():
    nodes = {
        "input": nir.Input(np.array([3])), "a": weights(2, 3), "A": lif(2), "B": lif(2, threshold=2.0),
        "c": nir.Affine(np.ones((1, 2)), np.array([0.4])), "C": lif(), "output": nir.Output(np.array([1])),
    }  # fmt: skip
    edges = [("input", "a"), ("a", "A"), ("a", "B"), ("A", "c"), ("B", "c"), ("c", "C"), ("C", "output")]
    graph = computed_alike(nodes, edges)
    assert sorted(p.name for p in graph.projections) == ["B.c.C", "a.A", "a.B", "c.C"]
    assert float(graph.populations["C"].bias[0]) == 0.4  # once, though two paths pass it


def test_an_input_may_lead_straight_to_several_neurons():
    nodes = {
        "input": nir.Input(np.array([3])), "A": lif(3), "B": lif(3, threshold=2.0),
        "output": nir.Output(np.array([3])),
    }  # fmt: skip
    computed_alike(nodes, [("input", "A"), ("input", "B"), ("A", "output"), ("B", "output")])


def test_biases_of_several_maps_into_one_output_add():
    affine = [nir.Affine(np.eye(2), np.array(b)) for b in ([1.0, 2.0], [10.0, 20.0])]
    nodes = {
        "input": nir.Input(np.array([3])), "a": weights(2, 3), "A": lif(2), "b": affine[0], "c": affine[1],
        "output": nir.Output(np.array([2])),
    }  # fmt: skip
    edges = [
        ("input", "a"),
        ("a", "A"),
        ("A", "b"),
        ("A", "c"),
        ("b", "output"),
        ("c", "output"),
        ("A", "output"),
    ]
    computed_alike(nodes, edges)


def test_delays_that_differ_are_kept_before_an_output_and_behind_weights():
    late = nir.Delay(np.array([1, 4]) * DT)
    nodes = {
        "input": nir.Input(np.array([3])),
        "a": weights(2, 3),
        "A": lif(2),
        "d": late,
        "output": nir.Output(np.array([2])),
    }
    computed_alike(nodes, [("input", "a"), ("a", "A"), ("A", "d"), ("d", "output")])
    computed_alike(
        nodes, [("input", "a"), ("a", "d"), ("d", "A"), ("A", "output")], ["input", "a", "d", "A", "output"]
    )


def test_a_bias_behind_a_delay_waits_as_long():
    nodes = {
        "input": nir.Input(np.array([3])), "a": nir.Affine(np.ones((2, 3)), np.array([0.6, 0.9])),
        "d": nir.Delay(np.array([0, 20]) * DT), "A": lif(2), "output": nir.Output(np.array([2])),
    }  # fmt: skip
    graph = computed_alike(nodes, [("input", "a"), ("a", "d"), ("d", "A"), ("A", "output")], rate=0.02)
    x = np.zeros((60, 3))
    again = exchange.from_nir(exchange.to_nir(graph), dt=0.1)
    assert given(graph, x).sum() > 3
    np.testing.assert_array_equal(given(again, x), given(graph, x))


@pytest.mark.parametrize("nested", [False, True])
def test_shapes_are_told_by_weights_where_parameters_are_scalars(nested):
    scalar = nir.LIF(*(np.array(v) for v in (1e-3, 10.0, 0.0, 1.0)))
    loop = nir.Linear(np.array([[0.0, 0.7], [-0.5, 0.0]]))
    nodes = {
        "input": nir.Input(np.array([3])),
        "a": weights(2, 3),
        "A": scalar,
        "w": loop,
        "output": nir.Output(np.array([2])),
    }
    edges = [*CHAIN, ("A", "w"), ("w", "A")]
    if not nested:
        computed_alike(nodes, edges, ["input", "a", "A", "w", "output"])
        return
    inner = nir.NIRGraph(
        {"input": nir.Input(np.array([2])), "A": scalar, "w": loop, "output": nir.Output(np.array([2]))},
        [("input", "A"), ("A", "w"), ("w", "A"), ("A", "output")],
        type_check=False,
    )
    outer = nir.NIRGraph({**nodes, "A": inner} | {"w": weights(1, 1)}, CHAIN, type_check=False)
    outer.nodes.pop("w")
    x = (np.random.default_rng(0).random((50, 3)) < 0.4).astype(float)
    flat = exchange.from_nir(nir.NIRGraph(nodes, edges, type_check=False))
    np.testing.assert_array_equal(given(exchange.from_nir(outer), x), given(flat, x))


def test_names_with_dots_are_names():
    nodes = {
        "input": nir.Input(np.array([3])), "fc.1": weights(2, 3), "lif.input": lif(2),
        "net.output": nir.Output(np.array([2])),
    }  # fmt: skip
    computed_alike(nodes, [("input", "fc.1"), ("fc.1", "lif.input"), ("lif.input", "net.output")])


def test_nodes_that_clash_and_values_that_do_not_fit_are_named():
    inner = nir.NIRGraph({"b": lif(2)}, [], type_check=False)
    with pytest.raises(DataError, match=r"two nodes are named 'a\.b'"):
        exchange.from_nir(nir.NIRGraph({"a.b": lif(2), "a": inner}, [], type_check=False))
    ports = {"input": nir.Input(np.array([2])), "more": nir.Input(np.array([2])), "A": lif(2)}
    nodes = {"input": nir.Input(np.array([2])), "net": nir.NIRGraph(ports, [], type_check=False)}
    with pytest.raises(ExportError, match="'net' has 2 nodes Input"):
        exchange.from_nir(nir.NIRGraph(nodes, [("input", "net")], type_check=False))
    nodes = {
        "input": nir.Input(np.array([3])),
        "a": weights(2, 3),
        "A": lif(4),
        "output": nir.Output(np.array([4])),
    }
    with pytest.raises(ExportError, match="2 values lead to node 'A', which has 4"):
        exchange.from_nir(nir.NIRGraph(nodes, CHAIN, type_check=False))
    nodes |= {"A": lif(2), "b": weights(3, 3), "c": weights(1, 3)}
    edges = [("input", "a"), ("input", "b"), ("b", "c"), ("a", "c"), ("c", "A"), ("A", "output")]
    with pytest.raises(ExportError, match="values of 2 and of 3 meet at node 'c'"):
        exchange.from_nir(nir.NIRGraph(nodes, edges, type_check=False))
    loop = nir.NIRGraph(
        {**nodes, "A": lif(3), "c": weights(3, 3)}, [("b", "c"), ("c", "b"), ("b", "A")], type_check=False
    )
    loop.nodes = {k: loop.nodes[k] for k in "bcA"}
    with pytest.raises(ExportError, match=r"nodes \['b', 'c', 'b'\] form a loop without a neuron"):
        exchange.from_nir(loop)


TWO = {"a": (1, 3), "b": (1, 3)}


@pytest.mark.parametrize(
    ("populations", "projections"),
    [
        (("in", "output"), ("p",)),
        (("input", "a"), ("a",)),
        (("i", "a"), ("i",)),
        (("i", "a"), ("output",)),
        (("ear.left", "a.b"), ("x.d2",)),
        (("i", "p.delay"), ("p", "p.d1")),
    ],
)
def test_populations_and_weights_may_have_any_names(populations, projections, tmp_path):
    r = np.random.default_rng(0)
    source, target = populations
    graph = Graph({source: Population(source, INPUT, (3,))}, [], 1.0, [target])
    graph.populations[target] = Population(
        target, "lif", (4,), {"decay": 0.9, "gain": 1.0, "v_th": 1.0, "v_reset": 0.0, "v_rest": 0.0}
    )
    for name in projections:
        graph.projections.append(
            Projection(name, source, target, r.normal(0.3, 1, (4, 3)), r.integers(0, 4, (4, 3)))
        )
    x = (r.random((40, 3)) < 0.4).astype(float)
    exchange.write(graph, tmp_path / "a.nir")
    back = exchange.read(tmp_path / "a.nir")
    assert list(back.populations) == list(graph.populations)
    assert [p.name for p in back.projections] == list(projections)
    np.testing.assert_array_equal(given(back, x), given(graph, x))
    np.testing.assert_array_equal(
        given(exchange.from_nir(exchange.to_nir(graph), dt=1.0), x), given(graph, x)
    )


def test_what_nir_cannot_say_is_refused():
    graph = random_graph(0)
    graph.populations["a"].initial = {}
    graph.populations["b"] = Population(
        "b",
        "cuba",
        (4,),
        {"decay_syn": 0.5, "decay_mem": 0.8, "v_th": 1.0, "v_reset": 0.0},
        initial={"i": np.ones(4)},
    )
    with pytest.raises(ExportError, match="'b' starts with i other than 0"):
        exchange.to_nir(graph)
    graph = Graph({"in": Population("in", INPUT, (1,))}, [], 1.0, ["y"])
    for name in "xy":
        graph.populations[name] = random_graph(0).populations["a"]
        graph.populations[name].name, graph.populations[name].initial = name, {}
    ends = [("in", "x", (4, 1), 0), ("x", "y", (4, 4), 1), ("y", "x", (4, 4), 0)]
    graph.projections = [Projection(a + b, a, b, np.ones(s), np.array(d)) for a, b, s, d in ends]
    with pytest.raises(ExportError, match=r"'yx' \(y → x\) leads back with a delay of 0 steps"):
        exchange.to_nir(graph)


IMAGES = {
    "pool, conv": [("pool", 2, 2, 0), ("conv", 3, 1, 1, 1)],
    "average, conv": [("average", 2, 2, 0), ("conv", 3, 1, 1, 1)],
    "conv, pool": [("conv", 3, 1, 1, 1), ("pool", 2, 2, 0)],
    "conv, conv": [("conv", 3, 2, 1, 1), ("conv", 3, 1, 0, 1)],
    "grouped": [("conv", 3, 1, 0, 2), ("conv", 3, 1, 0, 2)],
    "scale, conv": [("scale",), ("conv", 3, 2, 1, 2)],
    "conv, scale": [("conv", 3, 2, 1, 2), ("scale",)],
    "pool, conv, pool": [("pool", 2, 2, 0), ("conv", 3, 1, 1, 1), ("average", 2, 2, 0)],
}
OTHERS = {
    "overlapping pool, padded conv": [("pool", 3, 2, 0), ("conv", 3, 1, 1, 1)],
    "pool that leaves a row over, padded conv": [("pool", 2, 2, 0), ("conv", 3, 1, 1, 1)],
    "conv, uneven scale": [("conv", 3, 1, 0, 1), ("uneven",)],
    "dilated": [("conv", 3, 2, 0, 1), ("conv", 2, 1, 0, 1, 2)],
    "conv, flatten, linear": [("conv", 3, 2, 0, 1), ("flatten",)],
}


def image_network(steps, shape=(4, 12, 12)):
    """Input → the steps → LIF → Output, whose sizes are found by running the steps once."""
    r = np.random.default_rng(3)
    nodes = {"input": nir.Input(np.array(shape))}
    here = np.ones(shape)
    for k, (kind, *how) in enumerate(steps):
        key, channels = f"s{k}", here.shape[0]
        if kind == "conv":
            size, stride, padding, groups, dilation = (*how, 1)[:5]
            weight = r.normal(0.02, 0.15, (6 if k else channels, channels // groups, size, size))
            bias = r.normal(0, 0.1, len(weight))
            nodes[key] = nir.Conv2d(None, weight, stride, padding, dilation, groups, bias)
        elif kind in ("pool", "average"):
            node = nir.SumPool2d if kind == "pool" else nir.AvgPool2d
            nodes[key] = node(*(np.array([n, n]) for n in how))
        elif kind == "flatten":
            nodes[key] = nir.Flatten(np.array(here.shape), 0, -1)
            nodes["linear"] = nir.Linear(r.normal(0, 0.2, (7, here.size)))
        else:
            factors = np.ones(here.shape) * r.uniform(0.5, 1.5, (channels, 1, 1))
            nodes[key] = nir.Scale(factors * r.uniform(0.9, 1.1, here.shape) if kind == "uneven" else factors)
        probe = {"input": nodes["input"], key: nodes[key]} | (
            {"linear": nodes["linear"]} if kind == "flatten" else {}
        )
        line = nir.NIRGraph(probe, list(pairwise(probe)), type_check=False)
        here = interpret(line, {"input": here[None]}, DT, list(probe))[list(probe)[-1]][0]
    nodes["A"] = lif(here.shape, r=20.0)
    nodes["output"] = nir.Output(np.array(here.shape))
    return nodes, list(pairwise(nodes))


@pytest.mark.parametrize("steps", IMAGES.values(), ids=IMAGES)
def test_a_convolution_stays_one_behind_what_can_be_put_into_it(steps):
    graph = computed_alike(*image_network(steps), steps=15, rate=0.3)
    assert [p.kind for p in graph.projections] == ["conv"]


@pytest.mark.parametrize("steps", OTHERS.values(), ids=OTHERS)
def test_products_that_are_no_convolution_are_exact_and_store_no_zeros(steps):
    nodes, edges = image_network(steps, (4, 11, 11))
    graph = computed_alike(nodes, edges, steps=15, rate=0.3)
    (p,) = graph.projections
    assert p.kind == ("dense" if "linear" in nodes else "sparse")
    assert (p.weight != 0).all()


@pytest.mark.parametrize("late", [[2.0, 0.0, 1.0, 3.0, 0.0, 2.0], None])
def test_delays_behind_a_convolution_are_a_channels_or_a_synapses_own(late):
    nodes, _ = image_network([("conv", 3, 2, 1, 2), ("conv", 3, 1, 0, 1)])
    shape = nodes["A"].tau.shape
    steps = np.random.default_rng(0).integers(0, 3, shape) if late is None else np.array(late)[:, None, None]
    nodes = {k: v for k, v in nodes.items() if k not in ("A", "output")} | {
        "late": nir.Delay(DT * np.broadcast_to(steps, shape).astype(float)),
        **{k: nodes[k] for k in ("A", "output")},
    }  # fmt: skip
    graph = computed_alike(nodes, list(pairwise(nodes)), steps=15, rate=0.3)
    assert (
        "sparse" in {p.kind for p in graph.projections}
        if late is None
        else graph.projections[0].kind == "conv"
    )


def test_memory_is_asked_before_a_product_is_made(monkeypatch):
    monkeypatch.setattr("snnkit.interop.nir.weights.available_memory", lambda: 10_000)
    for steps in (OTHERS["conv, uneven scale"], IMAGES["pool, conv"], OTHERS["conv, flatten, linear"]):
        nodes, edges = image_network(steps)
        with pytest.raises(TooLargeError, match=r"takes 0\.0 GB"):
            exchange.from_nir(nir.NIRGraph(nodes, edges, type_check=False))
