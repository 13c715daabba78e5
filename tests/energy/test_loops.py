"""Networks that loop over time inside `forward` count as the same networks called step by step."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.strategies import integers, sampled_from
from torch import nn

from snnkit.energy import EnergyMonitor
from snnkit.errors import ParameterError, ShapeError

snntorch = pytest.importorskip("snntorch")


class Step(nn.Module):
    """One step of a snnTorch network: convolution, pooling, two layers, recurrence."""

    def __init__(self):
        super().__init__()
        self.conv, self.first = nn.Conv2d(2, 4, 3, padding=1), snntorch.Leaky(beta=0.9)
        self.pool, self.fc = nn.AvgPool2d(2), nn.Linear(16, 5)
        self.last = snntorch.RLeaky(beta=0.8, linear_features=5)
        with torch.no_grad():
            self.conv.weight.mul_(4)
            self.fc.weight.mul_(4)

    def begin(self):
        self.state = self.first.reset_mem(), *self.last.reset_mem()

    def forward(self, x):
        u, s, v = self.state
        out, u = self.first(self.conv(x), u)
        s, v = self.last(self.fc(self.pool(out).flatten(1)), s, v)
        self.state = u, s, v
        return s


class Loop(nn.Module):
    """All steps in one call; time: the axis of x that it runs over, or the steps of a constant x."""

    def __init__(self, step, time):
        super().__init__()
        self.step, self.time = step, time

    def forward(self, x):
        self.step.begin()
        steps = x.unbind(("T", "B").index(self.time)) if isinstance(self.time, str) else [x] * self.time
        return torch.stack([self.step(one) for one in steps])


def stepwise(step, *batches):
    """Counts of each batch ``[T, B, …]``, one call a step."""
    with EnergyMonitor(Loop(step, "T").step) as monitor, torch.no_grad():
        for x in batches:
            step.begin()
            monitor.new_samples()
            for one in x:
                step(one)
    return monitor.counts()


def looped(net, *batches, **settings):
    with EnergyMonitor(net, **settings) as monitor, torch.no_grad():
        for x in batches:
            net(x)
    return monitor.counts()


def assert_equal(got, want):
    assert len(got) == len(want)
    np.testing.assert_array_equal(got.steps, want.steps)
    for a, b in zip((*got.synapses, *got.neurons), (*want.synapses, *want.neurons), strict=True):
        for field, value in vars(b).items():
            mine = getattr(a, field)
            if isinstance(value, str):
                assert mine.removeprefix("step.") == value
            elif isinstance(value, np.ndarray):
                np.testing.assert_array_equal(mine, value, f"{a.name}: {field}")
            else:
                assert mine == value, f"{a.name}: {field}"


@given(T=integers(2, 6), B=integers(1, 6), more=integers(1, 5), time=sampled_from(["T", "B"]))
def test_a_loop_counts_as_its_steps(T, B, more, time):
    """Time first or second, as many steps as samples or not, and batches of another size after it."""
    torch.manual_seed(0)
    step = Step()
    batches = [(torch.rand(T, n, 2, 4, 4) < 0.4).float() for n in (B, more)]
    want = stepwise(step, *batches)
    given = batches if time == "T" else [x.transpose(0, 1) for x in batches]

    got = looped(Loop(step, time), *given)

    assert want.spikes.sum() > 0
    assert want.steps.tolist() == [T] * (B + more)
    assert_equal(got, want)


def test_a_loop_over_one_input_for_all_steps():
    torch.manual_seed(0)
    step, x = Step(), (torch.rand(3, 2, 4, 4) < 0.4).float()
    assert_equal(looped(Loop(step, 7), x), stepwise(step, x.expand(7, -1, -1, -1, -1)))


@pytest.mark.parametrize("steps", ["loop", "multi"])
@pytest.mark.parametrize("batch", [4, 1, 2])
def test_a_loop_may_be_said(steps, batch):
    """2 and 4: as many samples as channels of the input and of the first layer, and as many as steps."""
    torch.manual_seed(0)
    step, x = Step(), (torch.rand(batch, batch, 2, 4, 4) < 0.4).float()
    assert_equal(looped(Loop(step, "T"), x, steps=steps), stepwise(step, x))


def test_a_loop_after_layers_that_take_all_steps_at_once():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.step = Step()

        def forward(self, x):
            self.step.begin()
            currents = self.step.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2])
            u, s, v = self.step.state
            for current in currents:
                out, u = self.step.first(current, u)
                s, v = self.step.last(self.step.fc(self.step.pool(out).flatten(1)), s, v)
            return s

    torch.manual_seed(0)
    net, x = Net(), (torch.rand(5, 3, 2, 4, 4) < 0.4).float()
    assert_equal(looped(net, x, steps="multi"), stepwise(net.step, x))


def test_recurrence_leads_from_its_neurons_to_them():
    torch.manual_seed(0)
    step = Step()
    counts = stepwise(step, (torch.rand(9, 3, 2, 4, 4) < 0.4).float())
    (recurrent,) = (s for s in counts.synapses if s.name == "last.recurrent")
    assert (recurrent.source, recurrent.target) == ("last", "last")
    assert recurrent.synops.sum() > 0


def test_recurrence_of_each_neuron_to_itself_is_no_neuron():
    cell = snntorch.RLeaky(beta=0.9, V=0.5, all_to_all=False, init_hidden=True)
    counts = looped(nn.Sequential(nn.Linear(4, 3), cell), torch.rand(2, 4))
    assert [n.neuron for n in counts.neurons] == ["input", "RLeaky"]


def test_neurons_of_snntorch_that_take_all_steps():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), snntorch.StateLeaky(beta=0.9, channels=3, output=False))
    x = 3 * torch.rand(6, 2, 4)
    spikes = net(x)
    with pytest.warns(UserWarning, match="StateLeaky: convolution"):
        counts = looped(net, x)
    assert counts.steps.tolist() == [6, 6]
    assert counts.neurons[1].spikes.tolist() == (spikes != 0).sum((0, 2)).tolist()


def test_a_module_that_is_used_twice_a_step_is_said_to_run_single_steps():
    """Nothing tells such a network from a loop: without the word each call is a batch."""
    torch.manual_seed(0)
    linear, neuron = nn.Linear(4, 4), snntorch.Leaky(beta=0.9, init_hidden=True)
    net = nn.Sequential(linear, neuron, linear, neuron)
    x = (torch.rand(6, 2, 4) < 0.5).float()
    assert looped(net, *x, steps="single").steps.tolist() == [12, 12]
    assert looped(net, *x).steps.tolist() == [2] * 12


def test_a_tensor_of_other_samples_is_refused_with_the_way_out():
    net = nn.Sequential(nn.Flatten(0, 1), nn.Linear(4, 2))
    with pytest.raises(ShapeError, match=r'\[15, 4\].*called with \[5, 3, 4\].*steps="multi"'):
        looped(net, torch.rand(5, 3, 4))
    assert looped(net, torch.rand(5, 3, 4), steps="multi").steps.tolist() == [5] * 3


def test_networks_of_sinabs_have_time_second():
    sinabs = pytest.importorskip("sinabs.layers")

    torch.manual_seed(0)
    x = (torch.rand(3, 7, 4) < 0.5).float()
    net = nn.Sequential(nn.Linear(4, 5, bias=False), sinabs.IAF(), nn.Linear(5, 2, bias=False))
    with torch.no_grad():
        net[0].weight.abs_()
        spikes = net[:2](x)
    net[1].reset_states()
    counts = looped(net, x)
    assert counts.steps.tolist() == [7] * 3
    assert [n.size for n in counts.neurons] == [4, 5, 2]
    assert counts.neurons[1].spikes.tolist() == (spikes != 0).sum((1, 2)).tolist()
    np.testing.assert_array_equal(counts.synapses[0].synops, x.sum((1, 2)).numpy() * 5)
    with pytest.raises(ParameterError, match="'1' is sinabs' IAFSqueeze"):
        EnergyMonitor(nn.Sequential(nn.Linear(4, 5), sinabs.IAFSqueeze(batch_size=3)))
