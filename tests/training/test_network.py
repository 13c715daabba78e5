"""Spiking classifiers: one pass over batch norm, neuron and dropout in training, or module by module."""

import pytest
import torch

from snnkit import backend
from snnkit.energy import EnergyMonitor, measure
from snnkit.events import EventBatch
from snnkit.training import build, lower
from snnkit.training.config import Model


def classifier(**options):
    torch.manual_seed(0)
    return build(Model(hidden=(12, 10), max_delay=6, norm_weight=2.0, **options), 8, 3, 10.0)


def called(network, x):
    """Names of the parts of the first layer whose hooks are called, and the output."""
    names, handles = [], []
    for name, part in network.layers[0].named_children():
        handles.append(part.register_forward_hook(lambda *_, name=name: names.append(name)))
    torch.manual_seed(1)
    out = network(x)
    for handle in handles:
        handle.remove()
    return names, out


def test_hooks_of_all_parts_are_called_in_training_where_nothing_is_fused():
    network = classifier()
    x = torch.rand(20, 4, 8)
    with backend.unfused():
        names, whole = called(network, x)
    assert names == ["synapses", "norm", "neuron", "dropout"]
    names, fused = called(classifier(), x)
    assert names == ["synapses"]
    assert 0 < whole.spikes[0].mean() < 1
    for a, b in zip(whole.spikes, fused.spikes, strict=True):
        assert torch.equal(a, b)
    torch.testing.assert_close(whole.scores, fused.scores)
    assert called(network.eval(), x)[0] == ["synapses", "norm", "neuron", "dropout"]


def test_the_energy_monitor_sees_a_network_in_training():
    network = classifier(delays="none")
    with EnergyMonitor(network) as monitor:
        out = network(torch.rand(20, 4, 8))
    spikes = {neuron.name: neuron.spikes.sum() for neuron in monitor.counts().neurons}
    assert [spikes[f"layers.{i}.neuron"] for i in range(2)] == [s.sum().item() for s in out.spikes]
    assert backend.fuses()


@pytest.mark.parametrize("padding", ["tail", "grow"])
def test_the_energy_monitor_counts_a_network_with_delays_as_its_graph(padding):
    """The steps that delays add included."""
    network = classifier(padding=padding).eval()
    x = (torch.rand(20, 4, 8) < 0.3).float()
    with EnergyMonitor(network) as monitor, torch.no_grad():
        network(x, whole=True)
    got, want = monitor.counts(), measure(lower(network), EventBatch.from_dense(x.numpy()))
    assert want.spikes.min() > 0
    for quantity in ("synops", "spikes", "steps"):
        assert getattr(got, quantity).tolist() == getattr(want, quantity).tolist()


@pytest.mark.parametrize("padding", ["tail", "grow"])
def test_a_network_that_grows_may_run_all_steps_in_every_layer(padding):
    """As its Graph does: each layer then has all steps, and the modules keep nothing of the call."""
    network = classifier(padding=padding).eval()
    x = torch.rand(20, 4, 8)
    before, whole, after = network(x), network(x, whole=True), network(x)
    assert torch.equal(before.scores, after.scores)
    assert [len(s) for s in whole.spikes] == [20 + 9] * 2
    assert [len(s) for s in before.spikes] == ([23, 26] if padding == "grow" else [29] * 2)
