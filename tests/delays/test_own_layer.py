"""A layer that snnkit does not have trains, lowers and runs: each is a module and a row of a table."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from snnkit.delays import Synapses, delayed_product
from snnkit.engine import simulate
from snnkit.errors import GraphError
from snnkit.events import EventBatch
from snnkit.graph import Projection
from snnkit.neurons import LI, LIF
from snnkit.training import lower
from snnkit.training.tracing import LAYERS, OPERATIONS
from tests.helpers.tensors import close

WINDOW, SIGMA = 9, 1.5


class AlongAndAcross(nn.Module):
    """Synapses whose delay is a part of the source neuron and a part of the target neuron together."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs).uniform_(-0.2, 0.6))
        self.along = nn.Parameter(torch.empty(inputs).uniform_(0, WINDOW - 1))
        self.across = nn.Parameter(torch.empty(outputs).uniform_(0, 2))

    def positions(self):
        position = (self.along + self.across[:, None]).clamp(0, WINDOW - 1)
        return position if self.training else position.round()

    def forward(self, x):
        version, sigma = ("gauss", SIGMA) if self.training else ("max", 0.0)
        taps = (self.weight[..., None], self.positions()[..., None])
        return delayed_product(x, Synapses(*taps, torch.tensor(sigma), WINDOW, version))


def along_and_across(tracer, where, module, value):
    """What lowering makes of it: the row of `LAYERS`."""
    weight, delay = (v.detach().double().numpy() for v in (module.weight, module.positions()))
    return value.through(where, [Projection("", "", "", weight, delay.astype(np.int64))], (len(weight),))


class Gain(nn.Module):
    """A learned factor for each neuron."""

    def __init__(self, features):
        super().__init__()
        self.factor = nn.Parameter(torch.linspace(0.5, 1.5, features))

    def forward(self, x):
        return x * self.factor


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.synapses, self.gain = AlongAndAcross(12, 10), Gain(10)
        self.hidden = LIF(tau_mem=4.0, v_th=0.5)
        self.readout_synapses, self.readout = nn.Linear(10, 3), LI(tau_mem=6.0)

    def forward(self, x):
        s = self.hidden(self.gain(self.synapses(x)))
        return self.readout(self.readout_synapses(s))


def ordered(samples, seed):
    """Two neurons that fire in one order or the other, among noise: labels that only delays tell apart."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (samples,), generator=g)
    x = (torch.rand(20, samples, 12, generator=g) < 0.03).float()
    for b, label in enumerate(labels):
        x[4, b, :4] = 1
        x[4 + 3 * int(label), b, 4:8] = 1
    return x, labels


@pytest.fixture
def rows(monkeypatch):
    monkeypatch.setitem(LAYERS, AlongAndAcross, along_and_across)
    monkeypatch.setitem(LAYERS, Gain, lambda tracer, where, module, value: value.scaled(
        module.factor.detach().double().numpy()
    ))  # fmt: skip


def test_its_gradient_is_that_of_the_sum_over_steps():
    torch.manual_seed(0)
    layer = AlongAndAcross(5, 4).double()
    x = (torch.rand(15, 2, 5) < 0.3).double()
    cotangent = torch.randn(15, 2, 4, dtype=torch.float64)
    got = torch.autograd.grad(layer(x), list(layer.parameters()), cotangent)

    d = torch.arange(WINDOW, dtype=torch.float64)
    bell = torch.exp(-((d - layer.positions()[..., None]) ** 2) / (2 * (SIGMA + 0.27) ** 2))
    kernel = layer.weight[..., None] * bell / (bell.sum(-1, keepdim=True) + 1e-7)
    padded = F.pad(x, (0, 0, 0, 0, WINDOW - 1, 0))
    shifted = torch.stack([padded[WINDOW - 1 - k : WINDOW - 1 - k + 15] for k in range(WINDOW)], -1)
    y = torch.einsum("oik,tbik->tbo", kernel, shifted)
    close(layer(x), y, 1e-9)
    for g, want in zip(got, torch.autograd.grad(y, list(layer.parameters()), cotangent), strict=True):
        close(g, want, 1e-9)


def test_a_delay_layer_of_ones_own_trains_lowers_and_runs_with_equal_spikes(rows):
    torch.manual_seed(1)
    network = Network()
    x, labels = ordered(120, 0)
    before = network.synapses.along.detach().clone()
    positions = [network.synapses.along, network.synapses.across]
    rest = [p for name, p in network.named_parameters() if not name.endswith(("along", "across"))]
    optimiser = torch.optim.Adam([{"params": rest}, {"params": positions, "lr": 0.1}], lr=0.03)
    losses = []
    for _ in range(80):
        loss = F.cross_entropy(network(x).mean(0), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert (network.synapses.along - before).abs().max() > 0.3, "the delays moved"

    network.double().eval()
    graph = lower(network, 12, dt=1.0)
    x = ordered(30, 1)[0].double()
    with torch.no_grad():
        want = network.hidden(network.gain(network.synapses(x)))
    delays = graph.projections[0].delays
    assert delays.max() > delays.min()
    got = simulate(graph, EventBatch.from_dense(x.numpy()), steps=20, dtype="float64").spikes["hidden"]
    assert 0.02 < want.mean() < 0.98
    np.testing.assert_array_equal(got.to_dense(20), want.numpy())


def test_without_its_row_it_is_refused_by_what_its_forward_does():
    with pytest.raises(GraphError, match=r"has no place in a Graph|can't be followed"):
        lower(Network().eval(), 12, dt=1.0)


class Turned(nn.Module):
    def __init__(self):
        super().__init__()
        self.synapses, self.neuron = nn.Linear(6, 4), LIF(tau_mem=4.0, v_th=0.3)

    def forward(self, x):
        return self.neuron(self.synapses(torch.roll(x, 2, -1)))


def rolled(tracer, where, x, shifts, dims):
    """`torch.roll` along a step's last axis: the row of `OPERATIONS`."""
    assert dims == -1
    return x.moved(where, (np.arange(x.size) + shifts) % x.size, x.shape)


def test_an_operation_from_outside_lowers_by_one_row(monkeypatch):
    torch.manual_seed(2)
    network = Turned().double().eval()
    with pytest.raises(GraphError, match=r"operation 'roll' \(.*has no place in a Graph"):
        lower(network, 6, dt=1.0)
    monkeypatch.setitem(OPERATIONS, torch.roll, rolled)
    graph = lower(network, 6, dt=1.0)
    x = (torch.rand(30, 3, 6) < 0.4).double()
    with torch.no_grad():
        want = network(x)
    assert 0.02 < want.mean() < 0.98
    got = simulate(graph, EventBatch.from_dense(x.numpy()), steps=30, dtype="float64").spikes["neuron"]
    np.testing.assert_array_equal(got.to_dense(30), want.numpy())
