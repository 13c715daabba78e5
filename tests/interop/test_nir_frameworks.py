"""Networks of other frameworks, through the NIR that they write themselves: every spike and every count.

The oracle is the framework, run as its own documentation runs it, in float64 where it can (snnTorch, sinabs
and Rockpool make float32 spikes of any potential, which are cast between layers). Inputs are few or many
a step, so that neurons fire rarely, often, and where they can several times.
"""

from itertools import pairwise

import numpy as np
import pytest

from snnkit.engine import simulate
from snnkit.errors import ExportError, ParameterError
from snnkit.events import EventBatch
from snnkit.graph import INPUT
from snnkit.interop import nir as exchange

nir = pytest.importorskip("nir")
torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore")
RATES = {"few": (0.05, 3.0), "many": (0.6, 8.0)}
"""Share of input neurons that spike in a step, and what random weights are multiplied by."""
each_rate = pytest.mark.parametrize("rate", RATES)


def drive(rate, steps=300, size=7):
    return (np.random.default_rng(3).random((steps, size)) < RATES[rate][0]).astype(np.float64)


def linear(inputs, outputs, rate, seed=0, gain=1.0, dtype=torch.float64):
    """Weights that excite more than they inhibit; `gain` makes up for neurons that take a share of them."""
    torch.manual_seed(seed)
    made = torch.nn.Linear(inputs, outputs).to(dtype)
    with torch.no_grad():
        made.weight.mul_(RATES[rate][1]).add_(0.2).mul_(gain)
    return made


def neurons(graph):
    return [n for n, p in graph.populations.items() if p.neuron != INPUT]


def assert_spikes(graph, want, x, several=False):
    """The output's spikes [T, N] are the framework's."""
    events = EventBatch.from_dense(x[:, None])
    got = simulate(graph, events, len(x), dtype="float64").spikes[neurons(graph)[-1]].to_dense(len(x))[:, 0]
    assert 0 < (want > 0).mean() < 1
    assert (want.max() > 1) == several
    np.testing.assert_array_equal(got, want)


def stepwise(network, x, dtype=torch.float64):
    """A torch.nn.Sequential that keeps its own state, its layers fed in `dtype`; spikes [T, N]."""
    rows = []
    with torch.no_grad():
        for row in torch.from_numpy(x).to(dtype):
            y = row[None]
            for part in network:
                y = part(y.to(dtype))
                y = y[0] if isinstance(y, tuple) else y
            rows.append(y.numpy()[0])
    return np.stack(rows).astype(np.float64)


@each_rate
@pytest.mark.parametrize("kind", ["Leaky", "Synaptic", "RLeaky"])
def test_snntorch(kind, rate):
    """Not RSynaptic: without reset_delay, snnTorch 1.0 resets it by the spikes that it is given."""
    snn, export = pytest.importorskip("snntorch"), pytest.importorskip("snntorch.export_nir")
    dtype = torch.float32 if kind.startswith("R") else torch.float64  # the recurrence takes its own spikes
    common = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}

    def neuron(n, seed):
        torch.manual_seed(seed)
        beta, alpha = (torch.rand(n, dtype=dtype) * 0.4 + 0.5 for _ in range(2))
        options = common | {"threshold": torch.rand(n, dtype=dtype) + 0.8}
        if kind == "Leaky":
            return snn.Leaky(beta=beta, **options)
        if kind == "Synaptic":
            return snn.Synaptic(alpha=alpha, beta=beta, **options)
        return snn.RLeaky(beta=beta, linear_features=n, **options)

    parts = [
        linear(7, 9, rate, 1, dtype=dtype),
        neuron(9, 2),
        linear(9, 5, rate, 3, dtype=dtype),
        neuron(5, 4),
    ]
    x = drive(rate)
    want = stepwise(torch.nn.Sequential(*parts), x, dtype)
    names = ["input", "a", "b", "c", "d", "output"]
    nodes = [
        nir.Input(np.array([7])),
        *(export._extract_snntorch_module(p) for p in parts),
        nir.Output(np.array([5])),
    ]
    edges = list(pairwise(names))
    made = nir.NIRGraph(dict(zip(names, nodes, strict=True)), edges, type_check=False)
    assert_spikes(exchange.from_nir(made, "snntorch"), want, x)


@each_rate
@pytest.mark.parametrize("kind", ["LIFNode", "LIFNode decay_input", "IFNode", "CUBALIFNode"])
def test_spikingjelly(kind, rate):
    pytest.importorskip("spikingjelly.activation_based")
    from spikingjelly.activation_based import layer, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    def node():
        made = {
            "LIFNode": lambda: neuron.LIFNode(tau=3.0, decay_input=False, v_reset=-0.1),
            "LIFNode decay_input": lambda: neuron.LIFNode(tau=2.0, v_reset=0.1),
            "IFNode": lambda: neuron.IFNode(v_reset=-0.3),
            "CUBALIFNode": lambda: neuron.CUBALIFNode(c_decay=0.5, v_decay=0.7, v_reset=0.2),
        }[kind]()
        made.step_mode = "m"
        return made

    def weights(n, m, seed):
        made = layer.Linear(n, m, step_mode="m").double()
        made.load_state_dict(linear(n, m, rate, seed, 2.0 if kind.endswith("input") else 1.0).state_dict())
        return made

    net = torch.nn.Sequential(weights(7, 9, 1), node(), weights(9, 5, 2), node())
    x = drive(rate)
    with torch.no_grad():
        want = net(torch.from_numpy(x)[:, None]).numpy()[:, 0]
    graph = exchange.from_nir(export_to_nir(net, torch.from_numpy(x)[:, None]), "spikingjelly")
    assert_spikes(graph, want, x)


@each_rate
@pytest.mark.parametrize("kind", ["LIFBoxCell", "LIFCell", "IAFCell"])
def test_norse(kind, rate):
    norse = pytest.importorskip("norse.torch")

    def cell(n):
        def of(value):
            return torch.full((n,), value, dtype=torch.float64)

        common = {"v_th": of(0.5), "v_reset": of(0.0)}
        if kind == "IAFCell":
            return norse.IAFCell(norse.IAFParameters(**common))
        common |= {"tau_mem_inv": of(200.0)}
        if kind == "LIFBoxCell":
            return norse.LIFBoxCell(norse.LIFBoxParameters(v_leak=of(-0.1), **common))
        return norse.LIFCell(norse.LIFParameters(tau_syn_inv=of(300.0), v_leak=of(0.0), **common))

    gain = 1.0 if kind == "IAFCell" else 5.0
    net = norse.SequentialState(linear(7, 9, rate, 1, gain), cell(9), linear(9, 5, rate, 2, gain), cell(5))
    x, state, rows = drive(rate), None, []
    with torch.no_grad():
        for row in torch.from_numpy(x):
            s, state = net(row[None], state)
            rows.append(s.numpy()[0])
        made = norse.to_nir(net, torch.zeros(1, 7, dtype=torch.float64))
    assert_spikes(exchange.from_nir(made, "norse"), np.stack(rows), x)


SINABS = {
    "IAF": ({}, {}),
    "IAF, floor": ({"min_v_mem": -0.4}, {"v_min": -0.4}),
    "LIF": ({"tau_mem": 6.0}, {}),
    "LIF, whole input": ({"tau_mem": 6.0, "norm_input": False}, {"norm_input": False}),
    "LIF, single": ({"tau_mem": 6.0, "spike_fn": "SingleSpike"}, {"max_spikes": 1}),
    "LIF, three": ({"tau_mem": 6.0, "spike_fn": 3}, {"max_spikes": 3}),
    "LIF, hard": ({"tau_mem": 6.0, "reset_fn": "MembraneReset"}, {"reset": "hard"}),
}
"""Arguments of sinabs' layer, which its NIR does not hold, and what says so when it is read."""


@each_rate
@pytest.mark.parametrize("kind", SINABS)
def test_sinabs(kind, rate):
    sl = pytest.importorskip("sinabs.layers")
    from sinabs import activation
    from sinabs.nir import to_nir

    given, choices = SINABS[kind]
    given = dict(given)
    if "reset_fn" in given:
        given["reset_fn"] = activation.MembraneReset()
    if "spike_fn" in given:
        most = given["spike_fn"]
        given["spike_fn"] = activation.SingleSpike if most == "SingleSpike" else activation.MaxSpike(most)

    def layer():
        made = sl.IAFSqueeze if kind.startswith("IAF") else sl.LIFSqueeze
        return made(batch_size=1, spike_threshold=torch.tensor(0.7), **given).double()

    gain = 5.0 if kind.startswith("LIF") and kind != "LIF, whole input" else 1.0
    net = torch.nn.Sequential(linear(7, 9, rate, 1, gain), layer(), linear(9, 5, rate, 2, gain), layer())
    x = drive(rate)
    want = stepwise(net, x)
    for part in net[1::2]:
        part.reset_states()
    single = torch.nn.Sequential(*(part.float() for part in net))
    made = to_nir(single, torch.zeros(1, 7))
    net.double()
    for name, part in made.nodes.items():  # traced in float32, which MultiSpike takes; values in float64
        if name.isdigit():
            for key in ("weight", "bias"):
                if hasattr(part, key):
                    setattr(part, key, getattr(net[int(name)], key).detach())
    assert_spikes(exchange.from_nir(made, "sinabs", **choices), want, x, several=want.max() > 1)


@each_rate
@pytest.mark.parametrize("kind", ["LIFTorch", "LIFNeuronTorch", "LIFTorch, at most 2"])
def test_rockpool(kind, rate):
    modules = pytest.importorskip("rockpool.nn.modules")
    from rockpool.nn.combinators import Sequential

    def neuron(n, seed):
        torch.manual_seed(seed)
        common = {"tau_mem": torch.rand(n) * 0.01 + 0.01, "threshold": torch.rand(n) + 0.7, "dt": 1e-3}
        if kind == "LIFNeuronTorch":
            return modules.LIFNeuronTorch(n, **common)
        most = {"max_spikes_per_dt": torch.tensor(2.0)} if kind.endswith("2") else {}
        return modules.LIFTorch(n, tau_syn=torch.rand(n, 1) * 0.005 + 0.002, **common, **most)

    def weights(n, m, seed):
        made = modules.LinearTorch((n, m), has_bias=True)
        given = linear(n, m, rate, seed, dtype=torch.float32)
        made.weight.data, made.bias.data = 0.5 * given.weight.data.T.contiguous(), given.bias.data
        return made

    net = Sequential(weights(7, 9, 1), neuron(9, 2), weights(9, 5, 3), neuron(5, 4))
    x = drive(rate)
    with torch.no_grad():
        want = net(torch.from_numpy(x).float()[None])[0][0].numpy()
    choices: dict = {"max_spikes": 2} if kind.endswith("2") else {}
    graph = exchange.from_nir(modules.to_nir(net, torch.zeros(1, 7)), "rockpool", **choices)
    assert graph.dt == pytest.approx(1.0, rel=1e-6)
    assert_spikes(graph, want, x, several=want.max() > 1)


@each_rate
def test_snntorchs_own_export(rate):
    """A whole network through export_to_nir, in float32 as snnTorch has it."""
    snn, export = pytest.importorskip("snntorch"), pytest.importorskip("snntorch.export_nir")
    common = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
    parts = []
    for k, (n, m) in enumerate(((7, 9), (9, 5))):
        beta = torch.rand(m) * 0.4 + 0.5
        parts += [linear(n, m, rate, k, dtype=torch.float32), snn.Leaky(beta, torch.ones(m), **common)]
    net, x = torch.nn.Sequential(*parts), drive(rate)
    want = stepwise(net, x, torch.float32)
    net[1].reset_mem(), net[3].reset_mem()
    made = export.export_to_nir(net, torch.zeros(1, 7), ignore_dims=[0])
    assert_spikes(exchange.from_nir(made, "snntorch"), want, x)


CONVOLUTIONS = ("snntorch", "spikingjelly", "norse", "sinabs")


def convolutional(convention):
    """Conv2d → neuron → Flatten → Linear → neuron of a framework, in float32, and its NIR and spikes."""
    torch.manual_seed(4)
    conv = torch.nn.Conv2d(2, 4, 3, stride=2, padding=1)
    last = torch.nn.Linear(4 * 4 * 4, 3)
    with torch.no_grad():
        conv.weight.mul_(3).add_(0.1)
        last.weight.mul_(3).add_(0.05)
    x = (np.random.default_rng(6).random((200, 2, 7, 7)) < 0.2).astype(np.float32)
    sample, rows = torch.zeros(1, 2, 7, 7), torch.from_numpy(x)[:, None]
    if convention == "spikingjelly":
        from spikingjelly.activation_based import functional, neuron
        from spikingjelly.activation_based.nir_exchange import export_to_nir

        net = torch.nn.Sequential(conv, neuron.LIFNode(tau=3.0, decay_input=False), torch.nn.Flatten())
        net.extend([last, neuron.IFNode()])
        made = export_to_nir(net, sample)
        functional.reset_net(net)
        return made, np.stack([net(row).numpy()[0] for row in rows]), x
    if convention == "snntorch":
        import snntorch as snn
        from snntorch.export_nir import export_to_nir

        common = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
        shapes = (4, 4, 4), (3,)
        cells = [snn.Leaky(torch.full(n, 0.8), torch.ones(n), **common) for n in shapes]
        net = torch.nn.Sequential(conv, cells[0], torch.nn.Flatten(), last, cells[1])
        want = np.stack([net(row).numpy()[0] for row in rows])
        for cell in cells:
            cell.reset_mem()
        return export_to_nir(net, sample, ignore_dims=[0]), want, x
    if convention == "sinabs":
        import sinabs.layers as sl
        from sinabs.nir import to_nir

        net = torch.nn.Sequential(conv, sl.IAFSqueeze(batch_size=1), torch.nn.Flatten())
        net.extend([last, sl.IAFSqueeze(batch_size=1)])
        want = net(torch.from_numpy(x)).numpy()
        return to_nir(net, sample), want, x
    import norse.torch as norse

    values = {"tau_mem_inv": 600.0, "v_leak": 0.0, "v_th": 0.4, "v_reset": 0.0}
    p = norse.LIFBoxParameters(**{k: torch.tensor([v]) for k, v in values.items()})
    net = norse.SequentialState(conv, norse.LIFBoxCell(p))  # its to_nir leaves Flatten out
    state, found = None, []
    for row in rows:
        s, state = net(row, state)
        found.append(s.numpy()[0].reshape(-1))
    return norse.to_nir(net, sample), np.stack(found), x


@pytest.mark.parametrize("convention", CONVOLUTIONS)
def test_convolutions_of_a_framework_stay_its_own(convention):
    pytest.importorskip({"snntorch": "snntorch", "norse": "norse.torch"}.get(convention, convention))
    with torch.no_grad():
        made, want, x = convolutional(convention)
    graph = exchange.from_nir(made, convention)
    assert [p.kind for p in graph.projections] == (["conv"] if convention == "norse" else ["conv", "dense"])
    assert_spikes(graph, want, x.reshape(200, -1), several=want.max() > 1)


AT = np.array([1, 0, 0, 0, 1, 0, 0, 0], np.float64)[:, None]
"""Inputs that bring a neuron exactly to its threshold of 1."""


def one(node):
    nodes = {"in": nir.Input(np.array([1])), "w": nir.Linear(np.ones((1, 1))), "a": node}
    nodes["out"] = nir.Output(np.array([1]))
    return nir.NIRGraph(nodes, [("in", "w"), ("w", "a"), ("a", "out")], type_check=False)


def spikes_of_one(made, convention, **choices):
    graph = exchange.from_nir(made, convention, **choices)
    events = EventBatch.from_dense(AT[:, None])
    return simulate(graph, events, len(AT), dtype="float64").spikes["a"].to_dense(len(AT)).ravel().tolist()


def test_a_potential_at_the_threshold_fires_where_the_framework_does():
    """snnTorch and Norse above it, SpikingJelly, sinabs and Rockpool at it."""
    ones, zeros = np.ones(1), np.zeros(1)
    found = {
        "norse": spikes_of_one(one(nir.IF(ones, ones)), "norse"),
        "spikingjelly": spikes_of_one(one(nir.IF(1e4 * ones, ones)), "spikingjelly"),
        "sinabs": spikes_of_one(one(nir.IF(ones, ones)), "sinabs"),
    }
    want = {}
    norse = pytest.importorskip("norse.torch")
    cell, state, want["norse"] = norse.IAFCell(), None, []
    for x in torch.from_numpy(AT):
        s, state = cell(x[None].float(), state)
        want["norse"].append(float(s))
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron").IFNode()
    want["spikingjelly"] = [float(neuron(x)) for x in torch.from_numpy(AT)]
    sl = pytest.importorskip("sinabs.layers")
    made = sl.IAFSqueeze(batch_size=1)(torch.from_numpy(AT).float())
    want["sinabs"] = made.detach().numpy().ravel().tolist()
    snn, export = pytest.importorskip("snntorch"), pytest.importorskip("snntorch.export_nir")
    leaky = snn.Leaky(torch.tensor([0.5]), torch.ones(1), reset_mechanism="zero", reset_delay=False)
    mem, want["snntorch"] = torch.zeros(1), []
    for x in torch.from_numpy(AT).float():
        s, mem = leaky(x, mem)
        want["snntorch"].append(float(s))
    found["snntorch"] = spikes_of_one(one(export._extract_snntorch_module(leaky)), "snntorch")
    assert found == want
    assert found["norse"] == found["snntorch"] == [0, 0, 0, 0, 1, 0, 0, 0] != found["sinabs"]
    cuba = nir.CubaLIF(1e-3 * ones, 2e-2 * ones, 2e1 * np.exp(-0.05) * ones, zeros, np.exp(-1) * ones)
    assert spikes_of_one(one(cuba), "rockpool")[0] == 1


def test_a_norse_network_of_if_is_not_scaled_by_the_step():
    """72 spikes of Norse, which came in as none."""
    norse = pytest.importorskip("norse.torch")
    torch.manual_seed(0)
    net = norse.SequentialState(torch.nn.Linear(7, 5), norse.IAFCell(norse.IAFParameters(v_th=torch.ones(5))))
    with torch.no_grad():
        net[0].weight.mul_(2)
        net[0].bias.abs_()
    x, state, rows = (np.random.default_rng(3).random((120, 7)) < 0.4).astype(np.float64), None, []
    with torch.no_grad():
        for row in torch.from_numpy(x).float():
            s, state = net(row[None], state)
            rows.append(s.numpy()[0])
    graph = exchange.from_nir(norse.to_nir(net, torch.zeros(1, 7)), "norse")
    assert_spikes(graph, np.stack(rows), x)


def test_neurons_that_a_framework_does_not_have_and_unknown_choices_are_named():
    ones, zeros = np.ones(1), np.zeros(1)
    for convention in ("snntorch", "rockpool"):
        with pytest.raises(ExportError, match=r"node 'a' is of type IF, which the framework"):
            exchange.from_nir(one(nir.IF(ones, ones)), convention)
    cuba = nir.CubaLIF(ones, ones, ones, zeros, ones)
    with pytest.raises(ExportError, match=r"node 'a' is of type CubaLIF, which the framework"):
        exchange.from_nir(one(cuba), "sinabs")
    with pytest.raises(ParameterError, match=r"'min_v_mem' is no choice; there are dt, reset, .*v_min"):
        exchange.from_nir(one(cuba), "rockpool", min_v_mem=-1.0)
    with pytest.raises(ExportError, match=r"node 'a' may spike several times .*v_leak 0; pass max_spikes=1"):
        exchange.from_nir(one(nir.IF(ones, zeros)), "sinabs")
