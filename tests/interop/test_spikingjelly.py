"""SpikingJelly's networks as snnkit's and back: the same spikes; to a Graph is in test_modules."""

import numpy as np
import pytest
import torch
from torch import nn

from snnkit.delays import DelayedLinear
from snnkit.engine import simulate
from snnkit.errors import GraphError
from snnkit.events import EventBatch
from snnkit.interop import spikingjelly as interop
from snnkit.interop.modules import to_snnkit
from snnkit.neurons import IF, LI, LIF, CubaLIF, NeuronModule
from snnkit.training import lower
from snnkit.training.tracing import ALONE, LAYERS, LEADS
from snnkit.training.tracing.others import OTHERS, Spiking, leaky, neurons

sj = pytest.importorskip("spikingjelly.activation_based")
from spikingjelly.activation_based import functional, layer, neuron  # noqa: E402


def published(soft=False):
    torch.manual_seed(0)
    reset = None if soft else 0.0
    net = nn.Sequential(
        layer.Conv2d(2, 3, 3, padding=1, step_mode="m"),
        layer.BatchNorm2d(3, step_mode="m"),
        neuron.IFNode(v_reset=reset, step_mode="m"),
        layer.Flatten(step_mode="m"),
        nn.Sequential(
            layer.Linear(3 * 20, 11, step_mode="m"),
            neuron.LIFNode(tau=2.5, v_reset=reset, decay_input=False, step_mode="m"),
        ),
        layer.Dropout(0.5, step_mode="m"),
        layer.Linear(11, 6, step_mode="m"),
        neuron.ParametricLIFNode(init_tau=3.0, v_threshold=0.4, v_reset=reset, step_mode="m"),
    ).eval()
    with torch.no_grad():
        for part in (net[0], net[4][0], net[6]):
            part.weight.mul_(4)
        net[1].running_mean.uniform_(-0.2, 0.2)
        net[1].running_var.uniform_(0.5, 1.5)
    return net


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_the_modules_spike_as_the_network_does(soft):
    net = published(soft).double()
    x = (torch.rand(150, 2, 2, 4, 5) < 0.3).double()
    made = to_snnkit(net, dt=2.0)
    assert [type(part) for part in made if isinstance(part, NeuronModule)] == [IF, LIF, LIF]
    assert made.get_submodule("4_0").weight is net[4][0].weight, "weights are shared"
    with torch.no_grad():
        want, got = net(x), made(x)
    assert 0.01 < want.mean() < 0.95
    assert torch.equal(got, want)
    graph = lower(made, (2, 4, 5), 2.0)
    again = simulate(graph, EventBatch.from_dense(x.flatten(2).numpy()), dtype="float64").spikes
    np.testing.assert_array_equal(again[graph.outputs[0]].to_dense(150), want)


def test_and_back():
    net = published()
    again = interop.from_snnkit(to_snnkit(net))
    x = (torch.rand(30, 2, 2, 4, 5) < 0.3).float()
    with torch.no_grad():
        want = net(x)
        got = again(x)
    functional.reset_net(net)
    assert torch.equal(got, want)


def test_a_leaky_readout_becomes_a_neuron_that_never_spikes():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(7, 5), LIF(3.0, decay_input=True), nn.Linear(5, 3), LI(4.0)).eval()
    x = (torch.rand(30, 2, 7) < 0.4).float() * 4
    made = interop.from_snnkit(net)
    with torch.no_grad():
        want = net(x)
        assert not made(x).any()
    torch.testing.assert_close(made[-1].v_seq, want, rtol=1e-5, atol=1e-6)


def test_what_has_no_counterpart_is_named():
    with pytest.raises(GraphError, match=r"layer '1' \(QIFNode\) has no counterpart"):
        to_snnkit(nn.Sequential(layer.Linear(2, 3), neuron.QIFNode(step_mode="m")))
    with pytest.raises(GraphError, match=r"layer '0' \(DelayedLinear\) has no counterpart"):
        interop.from_snnkit(nn.Sequential(DelayedLinear(2, 3), LIF(2.0)))
    with pytest.raises(GraphError, match=r"layer '0' \(CubaLIF\)"):
        interop.from_snnkit(nn.Sequential(CubaLIF(2.0, 2.0)))
    with pytest.raises(GraphError, match=r"refractory period"):
        interop.from_snnkit(nn.Sequential(IF(refractory=2)))


def test_nodes_derived_from_others_are_not_taken_for_them():
    """An ILIFNode is a LIFNode that sends counts."""
    made = neuron.ILIFNode.__new__(neuron.ILIFNode)
    nn.Module.__init__(made)
    with pytest.raises(GraphError, match=r"\(ILIFNode\) has no counterpart"):
        to_snnkit(nn.Sequential(made))
    with pytest.raises(GraphError, match=r"\(ILIFNode\) has no place in a Graph; of spikingjelly's neurons"):
        lower(nn.Sequential(made), 3, 1.0)


def test_a_node_from_outside_is_one_row_in_each_direction(monkeypatch):
    class HalfNode(neuron.LIFNode):
        """A LIFNode of twice the threshold."""

    class Half(LIF):
        pass

    def node(name, part):
        given = interop.node_options(name, part)
        return HalfNode(tau=3.0, **given | {"v_threshold": given["v_threshold"] / 2})

    net = nn.Sequential(layer.Linear(2, 3, step_mode="m"), HalfNode(tau=3.0, step_mode="m"))
    with pytest.raises(GraphError, match=r"\(HalfNode\) has no place"):
        lower(net, 2, 1.0)
    for table in (OTHERS, LAYERS, LEADS):
        monkeypatch.setitem(table, HalfNode, None)  # what is entered goes again
    try:

        @neurons(HalfNode, lead=lambda node: LEADS[neuron.LIFNode](node))
        def row(where, part):
            return leaky(1 - 1 / part.tau, 1 / part.tau, Spiking(2 * part.v_threshold))

        (population,) = [p for p in lower(net, 2, 1.0).populations.values() if p.neuron == "lif"]
        made = to_snnkit(net, 2.0)
    finally:
        ALONE.discard(HalfNode)
    assert population.params["v_th"] == float(made[1].v_th) == 2.0
    assert float(made[1].per_step()["decay"]) == pytest.approx(2 / 3)
    monkeypatch.setitem(interop.FROM_SNNKIT, Half, node)
    again = interop.from_snnkit(nn.Sequential(nn.Linear(2, 3), Half(tau_mem=6.0, dt=2.0, v_th=2.0)))
    assert (type(again[1]), again[1].v_threshold) == (HalfNode, 1.0)
