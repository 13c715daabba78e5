"""Quantisation-aware training sees what the export makes."""

import numpy as np
import pytest
import torch
from torch import nn

from snnkit.delays import DelayedLinear
from snnkit.errors import ExportError
from snnkit.hardware.quantise import quantise
from snnkit.hardware.report import Report
from snnkit.neurons import LI, LIF
from snnkit.training import aware
from snnkit.training.lowering import lower
from snnkit.training.network import TimeBatchNorm


def network(max_delay=6, learn_tau=False, **options):
    torch.manual_seed(0)
    net = nn.Sequential(
        DelayedLinear(9, 12, max_delay=max_delay, version="max"),
        TimeBatchNorm(12),
        LIF(30.0, dt=10.0, v_th=0.8, decay_input=True, learn_tau=learn_tau, **options),
        nn.Linear(12, 4, bias=False),
        LI(50.0, dt=10.0),
    )
    with torch.no_grad():
        net[1].running_mean.uniform_(-0.3, 0.3)
        net[1].running_var.uniform_(0.5, 2)
        net[1].weight.uniform_(0.5, 2)
        net[1].bias.uniform_(-0.2, 0.5)
    return net


def on_grid(values):
    return np.abs(values - np.round(values)).max() < 1e-3


@pytest.mark.parametrize("bits", [4, 8])
def test_the_lowered_network_holds_the_chips_integers(bits):
    """Folded weights and biases are whole numbers of 1/K thresholds, K the same as in the export."""
    net = network().eval()
    aware.prepare(net, bits=bits)
    graph = lower(net, 9, 10.0)
    integer = quantise(graph, bits=bits)
    layer = graph.projections[0].name
    k = integer.populations["2"].params["vth"] + 1 / 64
    gain, v_th = graph.populations["2"].params["gain"], graph.populations["2"].params["v_th"]
    assert on_grid(graph.projections[0].weight * gain / v_th * k)
    assert on_grid(graph.populations["2"].bias * gain / v_th * k)
    assert Report.of(integer).layers[layer].rms_error < 1e-3
    assert Report.of(integer).populations["2"].bias_error < 1e-3
    assert len(np.unique(np.round(graph.projections[0].weight * gain / v_th * k))) > (1 << bits) // 4
    assert Report.of(integer).populations["2"].decay_error < 1e-6


def test_the_gradient_is_the_real_weights():
    net = network()
    aware.prepare(net)
    x = torch.randn(5, 2, 9)
    net[0](x).square().sum().backward()
    got = net[0].parametrizations.weight.original.grad
    plain = network()
    with torch.no_grad():
        plain[0].weight.copy_(net[0].weight)
    plain[0](x).square().sum().backward()
    torch.testing.assert_close(got, plain[0].weight.grad)
    assert not torch.equal(net[0].weight, net[0].parametrizations.weight.original)


def test_training_moves_the_real_weights_and_finish_leaves_the_rounded_ones():
    net = network(learn_tau=True)
    aware.prepare(net)
    optimiser = torch.optim.SGD(net.parameters(), 0.05)
    before = net[0].weight.detach().clone()
    for _ in range(3):
        x = net[1](net[0](torch.randn(8, 4, 9)))
        out = net[4](net[3](net[2](x)))
        optimiser.zero_grad()
        out.square().mean().backward()
        optimiser.step()
    after = net[0].weight.detach().clone()
    assert not torch.equal(before, after)
    aware.finish(net)
    assert torch.equal(net[0].weight.detach(), after)
    assert not hasattr(net[0], "parametrizations")
    kept = torch.sigmoid(net[2].decay_raw) * 4096
    assert torch.allclose(kept, kept.round(), atol=1e-2)


def test_what_the_chip_lacks_is_named():
    with pytest.raises(ExportError, match=r"layer '0': delays up to 70 steps; Loihi 2 holds 62"):
        aware.prepare(network(max_delay=70))
    with pytest.raises(ExportError, match=r"layer '0': reset 'soft'"):
        aware.prepare(network(reset="soft"))
    with pytest.raises(ExportError, match=r"layer '0': max_spikes = 2; .* spikes once a step"):
        aware.prepare(network(max_spikes=2))


def test_the_trainers_option_builds_a_network_that_rounds():
    from snnkit.training.config import Model

    model = Model(hidden=(10,), max_delay=4)
    torch.manual_seed(0)
    real = aware.builder("none")(model, 9, 4, 10.0)
    torch.manual_seed(0)
    rounded = aware.builder("loihi2")(model, 9, 4, 10.0)
    weight, original = rounded.layers[0].synapses.weight, real.layers[0].synapses.weight
    assert 0 < (weight - original).abs().max() < 0.01 * original.abs().max()
    x = (torch.rand(20, 3, 9) < 0.2).float()
    rounded(x).scores.sum().backward()
    assert all(p.grad is not None for p in rounded.parameters() if p.requires_grad)
    again = aware.fine_tuned(real.state_dict())(model, 9, 4, 10.0)
    assert torch.equal(again.layers[0].synapses.weight, weight)
    with pytest.raises(ExportError, match="delays up to 80 steps"):
        aware.builder("loihi2")(Model(hidden=(10,), max_delay=80), 9, 4, 10.0)
