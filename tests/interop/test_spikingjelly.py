"""SpikingJelly's networks as snnkit's and back: the same spikes."""

import numpy as np
import pytest
import torch
from torch import nn

from snnkit.delays import DelayedLinear
from snnkit.engine import simulate
from snnkit.errors import GraphError
from snnkit.events import EventBatch
from snnkit.interop import spikingjelly as interop
from snnkit.neurons import IF, LI, LIF, CubaLIF

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
def test_the_graph_spikes_as_the_network_does(soft):
    net = published(soft)
    x = (torch.rand(30, 2, 2, 4, 5) < 0.3).float()
    with torch.no_grad():
        want = net(x).numpy()
    graph = interop.to_graph(net, (2, 4, 5), dt=2.0)
    got = simulate(graph, EventBatch.from_dense(x.flatten(2).numpy()), dtype="float64").spikes
    assert graph.dt == 2.0
    assert 0.01 < want.mean() < 0.95
    np.testing.assert_array_equal(got[graph.outputs[0]].to_dense(30), want)


def test_and_back():
    net = published()
    again = interop.from_snnkit(interop.to_snnkit(net))
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
        want, _ = net[3](net[2](net[1](net[0](x))[0]))
        assert not made(x).any()
    torch.testing.assert_close(made[-1].v_seq, want, rtol=1e-5, atol=1e-6)


def test_what_has_no_counterpart_is_named():
    with pytest.raises(GraphError, match=r"layer '1' \(QIFNode\) of SpikingJelly has no counterpart"):
        interop.to_snnkit(nn.Sequential(layer.Linear(2, 3), neuron.QIFNode(step_mode="m")))
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
    with pytest.raises(GraphError, match=r"\(ILIFNode\) of SpikingJelly has no counterpart"):
        interop.to_snnkit(nn.Sequential(made))


def test_a_node_from_outside_is_one_row_in_each_direction(monkeypatch):
    class HalfNode(neuron.LIFNode):
        """A LIFNode of twice the threshold."""

    class Half(LIF):
        pass

    def module(part, dt):
        return Half(tau_mem=part.tau * dt, **interop.options(part, dt) | {"v_th": 2 * part.v_threshold})

    def node(name, part):
        given = interop.node_options(name, part)
        return HalfNode(tau=3.0, **given | {"v_threshold": given["v_threshold"] / 2})

    net = nn.Sequential(layer.Linear(2, 3, step_mode="m"), HalfNode(tau=3.0, step_mode="m"))
    with pytest.raises(GraphError, match=r"\(HalfNode\) of SpikingJelly has no counterpart"):
        interop.to_snnkit(net)
    monkeypatch.setitem(interop.TO_SNNKIT, "HalfNode", module)
    monkeypatch.setitem(interop.FROM_SNNKIT, Half, node)
    made = interop.to_snnkit(net, 2.0)
    assert (type(made[1]), float(made[1].v_th), float(made[1].per_step()["decay"])) == (
        Half,
        2.0,
        pytest.approx(2 / 3),
    )
    again = interop.from_snnkit(made)
    assert (type(again[1]), again[1].v_threshold) == (HalfNode, 1.0)
