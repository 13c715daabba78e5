"""Graphs written for a framework: its from_nir makes a network of the same spikes, or the reason is named."""

from dataclasses import replace

import numpy as np
import pytest

from snnkit.engine import simulate
from snnkit.errors import ExportError, ParameterError
from snnkit.events import EventBatch
from snnkit.graph import INPUT, Graph, Population, Projection
from snnkit.interop.nir import to_nir
from snnkit.interop.nir.targets import TARGETS, Target, parameter

pytest.importorskip("nir")
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")

STEPS = 250
ALIKE = ("snntorch", "spikingjelly")
"""Frameworks whose layers have one threshold, SpikingJelly's one decay too."""


def population(convention, kind, name, size, r):
    """Neurons with the framework's options, each with its own parameters where it has them."""

    def drawn(low, high):
        one = convention in ALIKE
        return np.full(size, r.uniform(low, high)) if one else r.uniform(low, high, size)

    v_th = drawn(0.8, 1.2)
    options = {k: v for k, v in TARGETS[convention].options.items() if (k, v) != ("max_spikes", 1) and v}
    if TARGETS[convention].options["max_spikes"] is None:
        options["max_spikes"] = None
    if kind == "cuba":
        params = {"decay_syn": drawn(0.3, 0.6), "decay_mem": drawn(0.6, 0.9), "v_th": v_th, "v_reset": 0.0}
    else:
        params = {"decay": 1.0 if kind == "if" else drawn(0.6, 0.9), "gain": r.uniform(0.5, 1.5, size)}
        params |= {"v_th": v_th, "v_reset": 0.0, "v_rest": 0.0}
        if convention == "sinabs" and kind == "if":
            params, options = params | {"v_min": -v_th}, options | {"floor": True}
    return Population(name, kind, size, params, 0.1 * r.normal(size=size), options)


def network(convention, kind, seed=0, recurrent=False, dt=1.0):
    r = np.random.default_rng(seed)
    populations = {"x": Population("x", INPUT, 7)}
    populations |= {n: population(convention, kind, n, size, r) for n, size in (("a", 6), ("b", 4))}
    projections = [
        Projection("x→a", "x", "a", r.normal(0.2, 0.6, (6, 7))),
        Projection("a→b", "a", "b", r.normal(0.2, 0.6, (4, 6))),
    ]
    if recurrent:
        projections += [
            Projection("a→a", "a", "a", r.normal(-0.3, 0.3, (6, 6)), np.array(1)),
            Projection("b→b", "b", "b", np.full(4, -0.2), np.array(1), "one_to_one"),
        ]
    return Graph(populations, projections, dt, ["b"]).validate()


def stepwise(net, x, dtype):
    """A module that takes and gives its state beside a step; spikes [T, N]."""
    state, rows = None, []
    for row in torch.from_numpy(x).to(dtype):
        y, state = net(row[None]) if state is None else net(row[None], state)
        rows.append(y.numpy()[0])
    return np.stack(rows)


def snntorch(made, graph, x):
    load = pytest.importorskip("snntorch.import_nir").import_from_nir
    return stepwise(load(made), x, torch.float32)


def spikingjelly(made, graph, x):
    pytest.importorskip("spikingjelly.activation_based")
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    net = import_from_nir(made, dt=graph.dt * 1e-3, dtype=torch.float64)
    return stepwise(net, x, torch.float64)


def norse(made, graph, x):
    load = pytest.importorskip("norse.torch").from_nir
    return stepwise(load(made, dt=graph.dt * 1e-3), x, torch.float32)


def sinabs(made, graph, x):
    load = pytest.importorskip("sinabs.nir").from_nir
    return load(made, batch_size=1)(torch.from_numpy(x).float())[0].numpy()


def rockpool(made, graph, x):
    load = pytest.importorskip("rockpool.nn.modules").from_nir
    return load(made)(torch.from_numpy(x).float()[None])[0][0].numpy()


LOAD = {"snntorch": snntorch, "spikingjelly": spikingjelly, "norse": norse, "sinabs": sinabs}
LOAD |= {"rockpool": rockpool}
CASES = [
    (convention, kind, recurrent)
    for convention, target in TARGETS.items()
    for kind in target.nodes
    if kind != "li" and (convention, kind) != ("rockpool", "lif")
    for recurrent in ([False, True] if target.loops else [False])
]


@pytest.mark.parametrize("rate", [0.05, 0.6], ids=["few", "many"])
@pytest.mark.parametrize(("convention", "kind", "recurrent"), CASES, ids=str)
def test_the_framework_makes_the_same_network_of_it(convention, kind, recurrent, rate):
    graph = network(convention, kind, recurrent=recurrent, dt=2.0 if convention == "norse" else 1.0)
    x = (np.random.default_rng(1).random((STEPS, 7)) < rate).astype(float)
    with torch.no_grad():
        want = LOAD[convention](to_nir(graph, convention), graph, x)
    got = simulate(graph, EventBatch.from_dense(x[:, None]), STEPS, dtype="float64").spikes["b"]
    assert 0 < (want > 0).mean() < 1
    np.testing.assert_array_equal(got.to_dense(STEPS)[:, 0], want)


def convolutional(convention, kind, groups=1):
    """(2, 7, 6) → convolution of 4 channels, each with its own gain → 3 neurons."""
    r = np.random.default_rng(5)
    p = population(convention, kind, "a", 4, r)
    params = {k: np.reshape(v, (4, 1, 1)) if np.ndim(v) else v for k, v in p.params.items()}
    maps = Population("a", kind, (4, 3, 5), params, p.bias.reshape(4, 1, 1), p.options)
    options = {"stride": [2, 1], "padding": [1, 0], "dilation": [2, 1], "groups": groups}
    weight = r.normal(0.1, 0.6, (4, 2 // groups, 3, 2))
    return Graph(
        {"x": Population("x", INPUT, (2, 7, 6)), "a": maps, "b": population(convention, kind, "b", 3, r)},
        [
            Projection("x→a", "x", "a", weight, kind="conv", options=options),
            Projection("a→b", "a", "b", r.normal(0.02, 0.2, (3, 60))),
        ],
        1.0,
        ["b"],
    ).validate()


@pytest.mark.parametrize(
    ("convention", "kind"),
    [("snntorch", "lif"), ("spikingjelly", "lif"), ("norse", "lif"), ("norse", "if"), ("sinabs", "if")],
)
def test_convolutions_are_the_frameworks(convention, kind):
    graph = convolutional(convention, kind)
    x = (np.random.default_rng(1).random((STEPS, 2, 7, 6)) < 0.2).astype(float)
    with torch.no_grad():
        want = LOAD[convention](to_nir(graph, convention), graph, x)
    got = simulate(graph, EventBatch.from_dense(x.reshape(STEPS, 1, -1)), STEPS, dtype="float64").spikes["b"]
    assert 0 < (want > 0).mean() < 1
    np.testing.assert_array_equal(got.to_dense(STEPS)[:, 0], want)


def test_convolutions_that_a_framework_does_not_read_are_refused():
    for convention in ("snntorch", "spikingjelly", "norse"):
        with pytest.raises(ExportError, match=f"'x→a' is a grouped convolution, which {convention}'s"):
            to_nir(convolutional(convention, "lif", groups=2), convention)
    with pytest.raises(ExportError, match="'x→a' is a convolution, which rockpool's"):
        to_nir(convolutional("rockpool", "cuba"), "rockpool")
    with pytest.raises(
        ExportError, match=r"'a' has the shape \(4, 3, 5\); sinabs' from_nir reads a LIF of one"
    ):
        to_nir(convolutional("sinabs", "lif"), "sinabs")


def test_resting_potentials_are_kept_where_the_framework_has_them():
    x = (np.random.default_rng(1).random((STEPS, 7)) < 0.3).astype(float)
    for convention, params in (
        ("norse", {"v_rest": -0.2}),
        ("spikingjelly", {"v_rest": -0.2, "v_reset": -0.2}),
    ):
        graph = network(convention, "lif")
        for p in graph.populations.values():
            if p.neuron != INPUT:
                p.params |= {k: np.asarray(v) for k, v in params.items()}
                p.initial = {"v": np.asarray(-0.2)}
        with torch.no_grad():
            want = LOAD[convention](to_nir(graph, convention), graph, x)
        got = simulate(graph, EventBatch.from_dense(x[:, None]), STEPS, dtype="float64").spikes["b"]
        np.testing.assert_array_equal(got.to_dense(STEPS)[:, 0], want)


def test_a_readout_follows_that_of_sinabs():
    x = (np.random.default_rng(1).random((STEPS, 7)) < 0.3).astype(float)
    graph = network("sinabs", "lif")
    leak = {"decay": np.array([0.9, 0.8, 0.7, 0.6]), "gain": np.array([0.1, 0.2, 0.3, 0.4])}
    graph.populations["b"] = Population("b", "li", 4, leak, np.full(4, 0.1))
    with torch.no_grad():
        want = LOAD["sinabs"](to_nir(graph, "sinabs"), graph, x)
    got = simulate(graph, EventBatch.from_dense(x[:, None]), STEPS, record=["v"], dtype="float64")
    np.testing.assert_allclose(want, got.recorded["b", "v"][:, 0], rtol=1e-4, atol=1e-4)


def changed(graph, **changes):
    p = graph.populations["a"]
    if "params" in changes:
        changes["params"] = p.params | {k: np.asarray(v) for k, v in changes["params"].items()}
    if "initial" in changes:
        changes["initial"] = {"v": np.asarray(changes["initial"])}
    return replace(graph, populations=graph.populations | {"a": replace(p, **changes)})


@pytest.mark.parametrize(
    ("convention", "kind", "changes", "words"),
    [
        ("snntorch", "lif", {"options": {}}, "'a': strict = False; snntorch's from_nir makes .* of True"),
        ("snntorch", "lif", {"params": {"v_rest": 0.1}}, "'a': v_rest is 0.1; snnTorch's Leaky rests at"),
        ("snntorch", "lif", {"params": {"v_th": np.linspace(1, 2, 6)}}, "'a': v_th is 1.2; all neurons"),
        ("snntorch", "lif", {"params": {"decay": 1.0}}, "'a': decay is 1; snnTorch reads an IF as"),
        ("snntorch", "cuba", {"params": {"v_reset": 0.1}}, "v_reset is 0.1"),
        ("spikingjelly", "lif", {"options": {"max_spikes": 2}}, "'a': max_spikes = 2; spikingjelly's"),
        ("spikingjelly", "lif", {"params": {"decay": np.linspace(0.1, 0.6, 6)}}, "'a': decay is 0.2"),
        (
            "spikingjelly",
            "lif",
            {"params": {"v_reset": 0.1}},
            "initial v is 0; SpikingJelly starts at v_reset",
        ),
        ("spikingjelly", "if", {"initial": 0.1}, "initial v is 0.1"),
        ("norse", "lif", {"params": {"v_reset": 0.1}}, "v_reset is 0.1; Norse's from_nir resets to 0"),
        ("norse", "lif", {"params": {"v_rest": 0.1}}, "initial v is 0; Norse starts at v_leak"),
        ("norse", "lif", {"options": {"strict": True, "floor": True}}, "'a': v_min, a floor"),
        ("sinabs", "if", {"options": {"reset": "soft", "max_spikes": None}}, "'a': no v_min; sinabs'"),
        ("sinabs", "if", {"params": {"v_min": -0.5}}, "v_min is -0.5; sinabs' from_nir gives"),
        ("sinabs", "lif", {"options": {"max_spikes": None}}, "'a': reset = hard; sinabs's"),
        (
            "sinabs",
            "lif",
            {"neuron": "cuba"},
            "neurons of kind 'cuba', which sinabs's from_nir does not read",
        ),
        ("rockpool", "cuba", {"params": {"decay_syn": 0.0}}, r"decay_syn is 0; a time constant needs"),
        ("rockpool", "cuba", {"neuron": "lif"}, "neurons of kind 'lif'"),
        ("rockpool", "cuba", {"options": {"reset": "soft"}}, "max_spikes = 1; rockpool's .* of 65536"),
    ],
)
def test_what_a_framework_reads_otherwise_is_refused(convention, kind, changes, words):
    with pytest.raises(ExportError, match=words):
        to_nir(changed(network(convention, kind), **changes), convention)


@pytest.mark.parametrize("convention", TARGETS)
def test_networks_that_a_framework_does_not_run_are_refused(convention):
    graph = network(convention, next(iter(TARGETS[convention].nodes)))
    delayed = replace(graph, projections=[replace(p, delay=np.array(1)) for p in graph.projections])
    with pytest.raises(ExportError, match=f"'x→a' has delays, and {convention} reads no Delay nodes"):
        to_nir(delayed, convention)
    around = [*graph.projections, Projection("b→a", "b", "a", np.ones((6, 4)), np.array(1))]
    with pytest.raises(ExportError, match=r"loop of several populations|a second path"):
        to_nir(replace(graph, projections=around), convention)
    skip = [*graph.projections, Projection("x→b", "x", "b", np.ones((4, 7)))]
    if not TARGETS[convention].branches:
        with pytest.raises(ExportError, match=r"'x→b': a second path from 'x' or to 'b'"):
            to_nir(replace(graph, projections=skip), convention)
    if not TARGETS[convention].loops:
        back = [*graph.projections, Projection("a→a", "a", "a", np.ones((6, 6)), np.array(1))]
        with pytest.raises(ExportError, match=r"'a→a' leads back"):
            to_nir(replace(graph, projections=back), convention)


def test_paths_that_join_are_run_by_spikingjelly_and_snntorch():
    x = (np.random.default_rng(1).random((STEPS, 7)) < 0.3).astype(float)
    for convention in ALIKE:
        graph = network(convention, "lif")
        weight = np.random.default_rng(2).normal(0.1, 0.5, (4, 7))
        graph = replace(graph, projections=[*graph.projections, Projection("x→b", "x", "b", weight)])
        with torch.no_grad():
            want = LOAD[convention](to_nir(graph, convention), graph, x)
        got = simulate(graph, EventBatch.from_dense(x[:, None]), STEPS, dtype="float64").spikes["b"]
        np.testing.assert_array_equal(got.to_dense(STEPS)[:, 0], want)


def test_another_framework_is_one_row(monkeypatch):
    """One that counts time in steps of 1 s and takes its threshold off the weights."""

    def node(nir, p, dt):
        ones = np.ones(p.shape)
        return nir.IF(r=dt * ones, v_threshold=ones), 1 / parameter(p, "v_th")

    ours = Target(options={"reset": "soft", "strict": False, "max_spikes": 1}, nodes={"if": node}, dt=1.0)
    monkeypatch.setitem(TARGETS, "ours", ours)
    graph = network("ours", "if")
    made = to_nir(graph, "ours")
    assert made.nodes["a"].r.tolist() == [1.0] * 6
    v_th = graph.populations["a"].params["v_th"][:, None]
    np.testing.assert_allclose(made.nodes["x→a"].weight, graph.projections[0].weight / v_th)
    with pytest.raises(
        ExportError, match="'a': neurons of kind 'lif', which ours's from_nir does not read; if"
    ):
        to_nir(network("ours", "lif"), "ours")


def test_options_that_nir_does_not_hold_are_refused_without_a_convention():
    for convention, option in (("norse", "strict = True"), ("sinabs", "reset 'soft'")):
        with pytest.raises(ExportError, match=f"population 'a': .*{option}"):
            to_nir(network(convention, "lif"))
    with pytest.raises(ExportError, match=r"option max_spikes = 3.*to_nir\(graph, convention\)"):
        to_nir(changed(network("spikingjelly", "lif"), options={"max_spikes": 3}))
    with pytest.raises(ParameterError, match=r"NIR can be written for nir, snntorch, .*not for 'nest'"):
        to_nir(network("norse", "lif"), "nest")
