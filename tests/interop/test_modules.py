"""Networks of SpikingJelly, Norse, snnTorch and sinabs, with snnkit's layers among them, as Graphs.

Whole networks in float64, 150 steps, beside the framework itself: every spike, every potential of a read-out.
"""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from snnkit.delays import AxonalDelay, DelayedConv2d, DelayedLinear
from snnkit.engine import simulate
from snnkit.errors import GraphError
from snnkit.events import EventBatch
from snnkit.interop.modules import to_snnkit
from snnkit.neurons import LIF
from snnkit.training import lower
from snnkit.training.tracing import FRAMEWORKS, LEADS
from snnkit.training.tracing.others import OTHERS

functional = pytest.importorskip("spikingjelly.activation_based.functional")
norse = pytest.importorskip("norse.torch")
snntorch = pytest.importorskip("snntorch")
sinabs = pytest.importorskip("sinabs.layers")
from sinabs import activation  # noqa: E402
from snntorch import utils  # noqa: E402
from spikingjelly.activation_based import layer, neuron  # noqa: E402

STEPS, BATCH, INPUTS, OUTPUTS = 150, 2, 12, 7
READOUTS = ("li", "cuba_li")
RATES = {"low": (0.05, 9.0), "high": (0.6, 4.0)}
"""Rate of the input and factor of the weights."""


@pytest.fixture(autouse=True)
def in_float64():
    torch.manual_seed(3)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def spikes(rate, *shape):
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(STEPS, BATCH, *shape, generator=generator) < rate).double()


def in_its_dtype(module, given):
    """Spikes of snnTorch and sinabs are float32 whatever the network's dtype is."""
    return (given[0].to(module.weight.dtype),)


def scaled(network, factor):
    """The network in evaluation mode, with new weights times a factor, most of them above 0."""
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.Linear | nn.Conv2d | DelayedLinear | DelayedConv2d):
                part.register_forward_pre_hook(in_its_dtype)
                part.weight.abs_().mul_(factor * torch.empty_like(part.weight).uniform_(-0.4, 1))
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.running_mean.uniform_(-0.2, 0.2)
                part.running_var.uniform_(0.5, 1.5)
    return network.double().eval()


def simulated(network, x):
    """Spikes of the lowered network's output, or its potentials, [T, B, …] flattened; and the Graph."""
    graph = lower(network, tuple(x.shape[2:]), 1.0)
    (out,) = graph.outputs
    potential = graph.populations[out].neuron in READOUTS
    events = EventBatch.from_dense(x.flatten(2).numpy())
    record = [(out, "v")] if potential else []
    result = simulate(graph, events, steps=STEPS, record=record, dtype="float64")
    made = result.recorded[out, "v"] if potential else result.spikes[out].to_dense(STEPS)
    return made, graph


def agrees(network, run, x, most=1):
    made, graph = simulated(network, x)
    with torch.no_grad():
        want = run(network, x).flatten(2).numpy()
    if graph.populations[graph.outputs[0]].neuron in READOUTS:
        assert np.abs(want).max() > 0.1
        np.testing.assert_allclose(made, want, rtol=1e-9, atol=1e-9)
    else:
        assert want.sum() > 20, "the network must spike"
        assert (want == 0).any(), "and not always"
        assert want.max() == 1 if most == 1 else want.max() > 1
        np.testing.assert_array_equal(made, want)
    return graph


# SpikingJelly


def in_time(network, x):
    functional.reset_net(network)
    return network(x)


def by_step(network, x):
    functional.reset_net(network)
    return torch.stack([network(one) for one in x])


def jelly(**options):
    """Nodes that spike on such inputs."""
    nodes = {
        "LIFNode": lambda: neuron.LIFNode(tau=2.5, decay_input=False, **options),
        "LIFNode, input decays": lambda: neuron.LIFNode(tau=1.5, v_threshold=0.4, **options),
        "ParametricLIFNode": lambda: neuron.ParametricLIFNode(init_tau=3.0, v_threshold=0.3, **options),
        "IFNode": lambda: neuron.IFNode(**options),
    }
    return nodes


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("reset", [0.0, None, -0.3], ids=["hard", "soft", "below 0"])
@pytest.mark.parametrize("kind", jelly())
def test_spikingjellys_nodes(kind, reset, mode, rate):
    make = jelly(v_reset=reset)[kind]
    network = nn.Sequential(
        layer.Linear(INPUTS, 20), make(), layer.Dropout(0.5), layer.Linear(20, OUTPUTS), make()
    )
    functional.set_step_mode(network, mode)
    share, factor = RATES[rate]
    agrees(scaled(network, factor), in_time if mode == "m" else by_step, spikes(share, INPUTS))


def test_a_spikingjelly_network_of_its_own_forward_with_convolutions_and_pooling():
    class Block(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.conv, self.norm = layer.Conv2d(channels, 4, 3, padding=1), layer.BatchNorm2d(4)
            self.node = neuron.IFNode(v_reset=None)

        def forward(self, x):
            return self.node(self.norm(self.conv(x)))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.Sequential(Block(2), layer.AvgPool2d(2), Block(4))
            self.head = nn.Sequential(layer.Flatten(), layer.Linear(4 * 9, OUTPUTS))
            self.out = neuron.LIFNode(v_threshold=0.5)

        def forward(self, x):
            return self.out(self.head(self.blocks(x)))

    network = Network()
    functional.set_step_mode(network, "m")
    graph = agrees(scaled(network, 2.0), in_time, spikes(0.3, 2, 6, 6))
    assert [p.kind for p in graph.projections] == ["conv", "conv", "dense"]
    assert list(graph.populations) == ["input", "blocks.0.node", "blocks.2.node", "out"]


def test_snnkits_delays_between_spikingjellys_nodes():
    def node(**options):
        return neuron.LIFNode(tau=2.0, step_mode="m", **options)

    network = nn.Sequential(
        DelayedLinear(INPUTS, 20, max_delay=10), node(), AxonalDelay(20, max_delay=5),
        layer.SeqToANNContainer(nn.Linear(20, 20), nn.BatchNorm1d(20)), node(), layer.Delay(3, step_mode="m"),
        DelayedLinear(20, OUTPUTS, max_delay=10), LIF(tau_mem=3.0),
    )  # fmt: skip
    graph = agrees(scaled(network, 3.0), in_time, spikes(0.3, INPUTS))
    assert [p.max_delay > 0 for p in graph.projections] == [True] * 3


@pytest.mark.parametrize("rate", RATES)
def test_spikingjellys_containers_of_loops_and_steps(rate):
    looped = layer.LinearRecurrentContainer(neuron.LIFNode(v_reset=None), 20, 20, step_mode="m")
    steps = layer.MultiStepContainer(nn.Linear(20, OUTPUTS), neuron.CUBALIFNode(0.5, 0.7, v_threshold=2.0))
    network = nn.Sequential(layer.Linear(INPUTS, 20), neuron.IFNode(step_mode="m"), looped, steps)
    share, factor = RATES[rate]
    graph = agrees(scaled(network, factor), in_time, spikes(share, INPUTS))
    (loop,) = [p for p in graph.projections if p.source == p.target]
    assert (loop.source, loop.delay.tolist(), loop.weight.shape) == ("2", 1, (20, 20))


def test_linear_layers_before_loops_with_weights_of_their_own_are_multiplied():
    jellys = nn.Sequential(
        layer.Linear(INPUTS, 20),
        layer.LinearRecurrentContainer(neuron.LIFNode(v_threshold=0.5), 20, 20, step_mode="m"),
        layer.Linear(20, OUTPUTS),
        neuron.LIFNode(step_mode="m", v_threshold=0.3),
    )
    graph = agrees(scaled(jellys, 2.0), in_time, spikes(0.3, INPUTS))
    assert [p.weight.shape for p in graph.into("1")] == [(20, INPUTS), (20, 20)]
    p = parameters(norse.LIFParameters, tau_syn_inv=400.0, tau_mem_inv=300.0, v_th=0.5)
    norses = norse.SequentialState(
        nn.Linear(INPUTS, 20), norse.LIFRecurrentCell(20, 20, p), nn.Linear(20, OUTPUTS), norse.LIFCell(p)
    )
    agrees(scaled(norses, 2.0), with_state, spikes(0.3, INPUTS))


def test_what_spikingjelly_has_and_a_graph_does_not_is_named():
    def refused(message, *parts, mode="m"):
        network = nn.Sequential(*parts)
        functional.set_step_mode(network, mode)
        with pytest.raises(GraphError, match=message):
            lower(network, (2, 4, 4), 1.0)

    conv, node = layer.Conv2d(2, 3, 3), neuron.IFNode()
    refused(r"'2' \(MaxPool2d\).* their OR, which no sum of synapses gives", conv, node, layer.MaxPool2d(2))
    refused(
        r"'0' \(QIFNode\).* of spikingjelly's neurons LIFNode, ParametricLIFNode.* have", neuron.QIFNode()
    )
    refused(r"'0' \(SynapseFilter\) filters spikes over time", layer.SynapseFilter(tau=2.0))
    looped = layer.LinearRecurrentContainer(nn.Sequential(nn.Linear(4, 4), neuron.IFNode()), 4, 4)
    with pytest.raises(GraphError, match=r"'0' \(LinearRecurrentContainer\): its sub_module is Sequential"):
        lower(nn.Sequential(looped), 4, 1.0)
    mixed = nn.Sequential(neuron.IFNode(step_mode="m"), nn.Linear(4, 4), neuron.IFNode(step_mode="s"))
    with pytest.raises(GraphError, match=r"'2' \(IFNode\) takes \[B, …\] and gets \[T, B, …\]"):
        lower(mixed, 4, 1.0)
    single = nn.Sequential(DelayedLinear(4, 4), neuron.IFNode(step_mode="s"))
    with pytest.raises(
        GraphError, match=r"'0' \(DelayedLinear\) takes \[T, B, …\] and gets \[B, …\]; called step"
    ):
        lower(single, 4, 1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: neuron.IFNode(step_mode="m"),
        lambda: layer.LinearRecurrentContainer(neuron.IFNode(), 4, 4, step_mode="m"),
        lambda: snntorch.Leaky(beta=0.9, init_hidden=True),
        lambda: sinabs.IAF(),
    ],
)
def test_neurons_that_keep_their_state_are_used_once(make):
    node = make()
    with pytest.raises(GraphError, match=r"'1' \(\w+\) is used twice and keeps its state from one use"):
        lower(nn.Sequential(nn.Linear(4, 4), node, nn.Linear(4, 4), node), 4, 1.0)


def test_norses_cells_whose_state_is_given_are_used_as_often_as_one_likes():
    cell = NORSE["LIFBoxCell"]()
    network = norse.SequentialState(nn.Linear(INPUTS, 20), cell, nn.Linear(20, OUTPUTS), cell)
    graph = agrees(scaled(network, 5.0), with_state, spikes(0.3, INPUTS))
    assert list(graph.populations) == ["input", "1", "1@2"]


# Norse


def with_state(network, x):
    """Cells that are called for each step."""
    state, made = None, []
    for one in x:
        out, state = network(one, state)
        made.append(out)
    return torch.stack(made)


def parameters(kind, **values):
    return kind(**{name: torch.tensor(value) for name, value in values.items()})


NORSE = {
    "LIFBoxCell": lambda: norse.LIFBoxCell(
        parameters(norse.LIFBoxParameters, tau_mem_inv=300.0, v_leak=0.1, v_th=0.6, v_reset=-0.2)
    ),
    "LIFBoxCell, subtracted": lambda: norse.LIFBoxCell(
        parameters(norse.LIFBoxParameters, tau_mem_inv=300.0, v_th=0.6)._replace(
            reset_method=norse.functional.reset.reset_subtract
        )
    ),
    "LIFCell": lambda: norse.LIFCell(
        parameters(
            norse.LIFParameters, tau_syn_inv=400.0, tau_mem_inv=300.0, v_th=0.5, v_leak=0.1, v_reset=-0.1
        )
    ),
    "IAFCell": lambda: norse.IAFCell(parameters(norse.IAFParameters, v_th=1.5, v_reset=0.2)),
}


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("kind", NORSE)
def test_norses_cells(kind, rate):
    make = NORSE[kind]
    network = norse.SequentialState(nn.Linear(INPUTS, 20), make(), nn.Linear(20, OUTPUTS), make())
    share, factor = RATES[rate]
    agrees(scaled(network, factor), with_state, spikes(share, INPUTS))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("current", [False, True], ids=["LIBoxCell", "LICell"])
def test_norses_loops_and_readouts(current, rate):
    p = parameters(norse.LIFParameters, tau_syn_inv=400.0, tau_mem_inv=300.0, v_th=0.5, v_leak=0.1)
    network = norse.SequentialState(
        norse.LIFRecurrentCell(INPUTS, 20, p),
        norse.SequentialState(nn.Linear(20, OUTPUTS), nn.Dropout(0.5)),
        norse.LICell(parameters(norse.LIParameters, tau_syn_inv=90.0, tau_mem_inv=150.0))
        if current
        else norse.LIBoxCell(parameters(norse.LIBoxParameters, tau_mem_inv=150.0)),
    )
    share, factor = RATES[rate]
    agrees(scaled(network, factor), lambda net, x: with_state(net, x), spikes(share, INPUTS))


def test_norses_layers_in_time_with_snnkits_delays():
    p = parameters(norse.LIFParameters, tau_syn_inv=400.0, tau_mem_inv=300.0, v_th=0.5)
    network = norse.SequentialState(
        norse.Lift(nn.Conv2d(2, 3, 3)), norse.LIF(p), norse.Lift(nn.AvgPool2d(2)), nn.Flatten(2),
        DelayedLinear(12, 20, max_delay=6), norse.LIF(p), norse.LIFRecurrent(20, 20, p),
        norse.Lift(nn.Linear(20, OUTPUTS)), norse.IAF(),
    )  # fmt: skip
    graph = agrees(scaled(network, 5.0), lambda net, x: net(x)[0], spikes(0.3, 2, 6, 6))
    assert list(graph.populations)[1:] == ["1", "5", "6", "8"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: norse.LSNNCell(), r"'1' \(LSNNCell\) has no place .* of norse's neurons IAFCell, .* have"),
        (lambda: norse.LICell(norse.LIParameters(v_leak=torch.tensor(1.0))), r"v_leak of a read-out must"),
        (lambda: norse.ConstantCurrentLIFEncoder(20), r"'1' \(ConstantCurrentLIFEncoder\) has no place"),
        (
            lambda: norse.LIBoxCell(norse.LIBoxParameters(v_leak=torch.tensor(1.0))),
            r"v_leak of a read-out must",
        ),
    ],
)
def test_what_norse_has_and_a_graph_does_not_is_named(make, message):
    with pytest.raises(GraphError, match=message):
        lower(norse.SequentialState(nn.Linear(4, 4), make()), 4, 1.0)


# snnTorch


def kept(network, x):
    """Neurons that keep their state themselves."""
    utils.reset(network)
    made = [network(one) for one in x]
    return torch.stack([one[0] if isinstance(one, tuple) else one for one in made])


def heaviside(mem):
    """snnTorch's own give float32."""
    return (mem > 0).to(mem.dtype)


SNNTORCH = {
    "Leaky": lambda **o: snntorch.Leaky(beta=0.9, threshold=0.8, **o),
    "Leaky, own beta each": lambda **o: snntorch.Leaky(beta=torch.linspace(0.5, 0.95, 20), **o),
    "Synaptic": lambda **o: snntorch.Synaptic(alpha=0.6, beta=0.8, threshold=1.5, **o),
    "Lapicque": lambda **o: snntorch.Lapicque(R=2.0, C=1.5, threshold=0.4, **o),
    "RLeaky": lambda **o: snntorch.RLeaky(beta=0.8, linear_features=20, **o),
    "RLeaky, one to one": lambda **o: snntorch.RLeaky(beta=0.8, all_to_all=False, V=-0.4, **o),
    "RSynaptic": lambda **o: snntorch.RSynaptic(alpha=0.5, beta=0.8, linear_features=20, **o),
}


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(
    ("kind", "way"),
    [
        (kind, way)
        for kind in SNNTORCH
        for way in ("subtract", "zero", "none", "zero at once")
        if way != "zero at once" or kind not in ("Lapicque", "RSynaptic")  # no such option; it fails itself
    ],
)
def test_snntorchs_neurons(kind, way, rate):
    options = {"reset_mechanism": way.split()[0], "init_hidden": True, "spike_grad": heaviside}
    if way == "zero at once":
        options["reset_delay"] = False
    factor = RATES[rate][1] * (0.3 if way == "none" else 1)
    out = snntorch.Leaky(beta=0.7, init_hidden=True, output=True, spike_grad=heaviside)
    network = nn.Sequential(nn.Linear(INPUTS, 20), SNNTORCH[kind](**options), nn.Linear(20, OUTPUTS), out)
    agrees(scaled(network, factor), kept, spikes(RATES[rate][0], INPUTS))


def test_a_snntorch_module_of_one_step():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.pool = nn.Conv2d(2, 3, 3), nn.AvgPool2d(2)
            self.fc = nn.Linear(12, OUTPUTS)
            self.lif1 = snntorch.Leaky(beta=0.8, init_hidden=True, spike_grad=heaviside)
            self.lif2 = snntorch.Leaky(beta=0.9, spike_grad=heaviside)

        def forward(self, x):
            spk, mem = self.lif2(self.fc(torch.flatten(self.pool(self.lif1(self.conv(x))), 1)))
            return spk, mem

    graph = agrees(scaled(Network(), 4.0), kept, spikes(0.3, 2, 6, 6))
    assert graph.outputs == ["lif2"]


class Trained(nn.Module):
    """As snnTorch's tutorials write it, with the loop over time in `forward`."""

    def __init__(self):
        super().__init__()
        self.fc, self.lif = nn.Linear(4, 4), snntorch.Leaky(beta=0.8)

    def forward(self, x):
        mem = self.lif.init_leaky()
        record = []
        for step in range(x.size(0)):
            spk, mem = self.lif(self.fc(x[step]), mem)
            record.append(spk)
        return torch.stack(record)


class Repeated(Trained):
    """Of an input that stays the same."""

    def forward(self, x):
        mem, record = None, []
        for _ in range(10):
            spk, mem = self.lif(self.fc(x), mem)
            record.append(spk)
        return torch.stack(record)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Trained, r"Where forward loops over time, lower the module of one step"),
        (Repeated, r"a state from outside .* Where forward loops over time, lower the module of one step"),
        (
            lambda: snntorch.Leaky(0.9, reset_delay=False),
            r"'subtract' with reset_delay=False; a spike is then",
        ),
        (lambda: snntorch.Leaky(0.9, graded_spikes_factor=2.0), r"graded_spikes_factor has no place"),
        (lambda: snntorch.Leaky(0.9, threshold=-1.0), r"a threshold below 0"),
        (lambda: snntorch.Leaky(0.0), r"'subtract' needs a decay above 0"),
        (lambda: snntorch.RLeaky(0.9, conv2d_channels=4, kernel_size=3), r"a recurrence by Conv2d"),
        (
            lambda: nn.Sequential(snntorch.Alpha(0.9, 0.8)),
            r"'0' \(Alpha\) has no place .* snntorch's neurons Leaky",
        ),
    ],
)
def test_what_snntorch_has_and_a_graph_does_not_is_named(make, message):
    with pytest.raises(GraphError, match=message):
        lower(make(), 4, 1.0)


# Sinabs


def batch_first(network, x):
    for part in network.modules():
        if isinstance(part, sinabs.StatefulLayer) and part.is_state_initialised():
            part.reset_states()
    return network(x.transpose(0, 1)).transpose(0, 1)


SPIKE_FNS = {"single": activation.SingleSpike, "many": activation.MultiSpike, "two": activation.MaxSpike(2)}
SINABS = {
    "LIF": lambda **o: sinabs.LIF(tau_mem=4.0, spike_threshold=0.125, **o),
    "LIF, input whole": lambda **o: sinabs.LIF(tau_mem=4.0, norm_input=False, **o),
    "LIF, current": lambda **o: sinabs.LIF(tau_mem=4.0, tau_syn=3.0, spike_threshold=0.25, **o),
    "IAF": lambda **o: sinabs.IAF(**o),
    "IAF, current": lambda **o: sinabs.IAF(tau_syn=2.0, **o),
    "LIFRecurrent": lambda **o: sinabs.LIFRecurrent(
        tau_mem=5.0, rec_connect=nn.Linear(20, 20, bias=False), norm_input=False, **o
    ),
}


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("floor", [None, -0.2], ids=["no floor", "floor"])
@pytest.mark.parametrize(
    "reset", [activation.MembraneSubtract(), activation.MembraneReset()], ids=["soft", "hard"]
)
@pytest.mark.parametrize("fn", SPIKE_FNS)
@pytest.mark.parametrize("kind", SINABS)
def test_sinabs_layers(kind, fn, reset, floor, rate):
    options = {"spike_fn": SPIKE_FNS[fn], "reset_fn": reset, "min_v_mem": floor}
    network = nn.Sequential(
        nn.Linear(INPUTS, 20), SINABS[kind](**options), nn.Linear(20, OUTPUTS), sinabs.IAF(**options)
    )
    share, factor = RATES[rate]
    scaled(network, 0.4 * factor)
    for part in network.modules():
        if isinstance(part, sinabs.LIFRecurrent):
            part.rec_connect.weight.data.mul_(0.1)
    agrees(network, batch_first, spikes(share, INPUTS), most=1 if fn == "single" else 9)


def test_a_sinabs_network_that_is_squeezed_and_sums_its_pools():
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False),
        sinabs.IAFSqueeze(batch_size=BATCH, min_v_mem=-1.0),
        sinabs.SumPool2d(2),
        nn.Conv2d(4, 4, 2),
        sinabs.LIFSqueeze(batch_size=BATCH, tau_mem=5.0),
        nn.Flatten(),
        nn.Linear(4, OUTPUTS),
        sinabs.ExpLeakSqueeze(batch_size=BATCH, tau_mem=10.0),
    )

    def folded(network, x):
        return network(x.transpose(0, 1).flatten(0, 1)).unflatten(0, (BATCH, STEPS)).transpose(0, 1)

    graph = agrees(scaled(network, 3.0), folded, spikes(0.2, 2, 6, 6))
    assert [p.kind for p in graph.projections] == ["conv", "conv", "dense"], (
        "pooling merges into a convolution"
    )


def test_sinabs_folds_time_and_merges():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.fold, self.unfold = sinabs.FlattenTime(), sinabs.UnflattenTime(batch_size=BATCH)
            self.conv, self.pool, self.flat = nn.Conv2d(2, 3, 3), nn.AvgPool2d(2), nn.Flatten()
            self.iaf, self.left, self.right = sinabs.IAF(), nn.Linear(12, OUTPUTS), nn.Linear(12, OUTPUTS)
            self.merge, self.out = sinabs.Merge(), sinabs.LIF(tau_mem=5.0, spike_threshold=0.5)

        def forward(self, x):
            x = self.unfold(self.flat(self.pool(self.conv(self.fold(x)))))
            x = self.iaf(x)
            return self.out(self.merge(self.left(x), self.right(x)))

    agrees(scaled(Network(), 3.0), batch_first, spikes(0.3, 2, 6, 6), most=9)


def test_a_sinabs_readout_with_a_current():
    out = sinabs.LIF(tau_mem=8.0, tau_syn=3.0, spike_fn=None, reset_fn=None)
    agrees(scaled(nn.Sequential(nn.Linear(INPUTS, OUTPUTS), out), 3.0), batch_first, spikes(0.3, INPUTS))


def test_a_sinabs_network_with_snnkits_delays_between():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = sinabs.Repeat(nn.Conv2d(2, 3, 3))
            self.iaf, self.flat = sinabs.IAF(), nn.Flatten(2)
            self.delayed, self.out = DelayedLinear(48, OUTPUTS, max_delay=7), sinabs.LIF(tau_mem=5.0)

        def forward(self, x):
            x = self.flat(self.iaf(self.conv(x))).transpose(0, 1)
            return self.out(self.delayed(x).transpose(0, 1))

    graph = agrees(scaled(Network(), 3.0), batch_first, spikes(0.3, 2, 6, 6), most=9)
    assert graph.projections[1].max_delay > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: sinabs.ALIF(tau_mem=4.0, tau_adapt=4.0),
            r"'0' \(ALIF\) has no place .* of sinabs's neurons LIF",
        ),
        (
            lambda: sinabs.LIF(4.0, reset_fn=activation.MembraneReset(0.2)),
            r"another reset_value sinabs adds to v",
        ),
        (lambda: sinabs.ExpLeak(tau_mem=4.0, min_v_mem=-1.0), r"a read-out with min_v_mem"),
        (lambda: sinabs.LIFRecurrent(4.0, nn.Linear(4, 4)), r"rec_connect must be a Linear without bias"),
    ],
)
def test_what_sinabs_has_and_a_graph_does_not_is_named(make, message):
    with pytest.raises(GraphError, match=message):
        lower(nn.Sequential(make()), 4, 1.0)


# As snnkit's own modules


def norses():
    p = parameters(norse.LIFParameters, tau_syn_inv=400.0, tau_mem_inv=300.0, v_th=0.5, v_leak=0.1)
    return norse.SequentialState(
        nn.Conv2d(2, 3, 3),
        norse.LIFCell(p),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 20),
        norse.IAFCell(),
        norse.SequentialState(nn.Linear(20, OUTPUTS), norse.LIFBoxCell()),
    )


def snntorchs():
    return nn.Sequential(
        nn.Conv2d(2, 3, 3),
        snntorch.Leaky(beta=0.8, init_hidden=True, spike_grad=heaviside),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 20),
        snntorch.Synaptic(0.5, 0.8, init_hidden=True, reset_mechanism="zero", spike_grad=heaviside),
        nn.Linear(20, OUTPUTS),
        snntorch.Lapicque(R=2.0, C=1.5, init_hidden=True, spike_grad=heaviside),
    )


def sinabses():
    return nn.Sequential(
        sinabs.Repeat(nn.Conv2d(2, 3, 3)),
        sinabs.LIF(tau_mem=4.0, tau_syn=2.0, spike_threshold=0.25, min_v_mem=-0.5),
        sinabs.Repeat(nn.Sequential(sinabs.SumPool2d(2), nn.Flatten())),
        nn.Linear(12, OUTPUTS),
        sinabs.IAF(spike_fn=activation.SingleSpike),
    )


@pytest.mark.parametrize(
    ("make", "run"),
    [(norses, with_state), (snntorchs, kept), (sinabses, batch_first)],
    ids=["norse", "snntorch", "sinabs"],
)
def test_the_same_network_of_snnkits_modules(make, run):
    network, x = scaled(make(), 4.0), spikes(0.3, 2, 6, 6)
    ours = to_snnkit(network)
    with torch.no_grad():
        want, made = run(network, x), ours(x)
    assert want.sum() > 20
    assert torch.equal(made, want.to(made.dtype))
    np.testing.assert_array_equal(simulated(ours, x)[0], want)
    made = ours.train()(x)
    made.sum().backward()
    first = next(network.parameters())
    assert first.grad is not None, "weights are shared, and learn"
    assert first.grad.any()


def test_what_has_no_module_of_snnkits_is_named():
    with pytest.raises(GraphError, match=r"'1' \(RLeaky\): neurons with a loop; lower\(\) takes them"):
        to_snnkit(nn.Sequential(nn.Linear(4, 4), snntorch.RLeaky(0.9, linear_features=4)))
    with pytest.raises(GraphError, match=r"'0' \(LSNNCell\) has no counterpart"):
        to_snnkit(norse.SequentialState(norse.LSNNCell()))
    with pytest.raises(GraphError, match=r"'' \(Trained\) has no counterpart.* do not take \[T, B, …\]"):
        to_snnkit(Trained())


def test_the_page_names_every_neuron_that_is_taken():
    for rows in FRAMEWORKS.values():
        importlib.import_module(rows)
    page = (Path(__file__).parents[2] / "docs/coming-from.md").read_text()
    table = "".join(line for line in page.splitlines() if line.startswith("|"))
    taken = {kind.__name__ for kind in (*OTHERS, *LEADS) if kind.__module__.split(".")[0] in FRAMEWORKS}
    assert len(taken) > 25
    assert {name for name in taken if not re.search(rf"\b{name}\b", table)} == set()
