"""The Graph computes what the network computes, spike for spike."""

import numpy as np
import pytest
import torch
from torch import nn

from snnkit.commands.simulate import agreement
from snnkit.delays import (
    AxonalDelay,
    DelayedConv1d,
    DelayedConv2d,
    DelayedLinear,
    DendriticDelay,
    RecurrentDelayedLinear,
)
from snnkit.engine import simulate
from snnkit.engine.readout import scores
from snnkit.errors import GraphError
from snnkit.events import EventBatch
from snnkit.graph import Graph
from snnkit.neurons import LI, LIF
from snnkit.training import Trainer, lower
from snnkit.training.network import TimeBatchNorm


@pytest.fixture
def trained(task, config, tmp_path):
    def make(**model):
        return Trainer(config(model=model, train={"epochs": 3}), task, tmp_path, progress=False).fit()

    return make


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"delays": "none"},
        {"delays": "random", "tau_mem": 50.0},
        {"kernel_count": 2},
        {"reset": "soft", "decay_input": True, "tau_mem": 30.0, "v_th": 0.3},
        {"learn_tau": True, "tau_mem": 30.0},
        {"readout": "spike_count"},
        {"padding": "grow"},
        {"readout": "max_over_time", "tau_readout": 100.0},
    ],
    ids=str,
)
def test_the_engine_gives_the_networks_own_spikes(task, trained, model):
    network = trained(**model)
    graph = lower(network)
    told = agreement(network, graph, task.test, "float64")
    assert told["spikes"] > 0
    assert told["equal_spikes"] == 1
    assert told["network_accuracy"] == told["graph_accuracy"]
    assert agreement(network, graph, task.test, "float32")["equal_cells"] >= 0.999


def test_scores_are_the_networks_to_rounding(task, trained, tmp_path):
    network = trained().double().eval()
    lower(network, metadata={"classes": ["first", "second"]}).save(tmp_path / "net.h5")
    x, lengths, _ = task.test.batch(np.arange(10))
    with torch.no_grad():
        want = network(torch.from_numpy(x).double(), torch.from_numpy(lengths)).scores
    got = scores(Graph.load(tmp_path / "net.h5"), task.test.subset(np.arange(10)).events, dtype="float64")
    np.testing.assert_allclose(got, want, rtol=1e-9)


def test_a_sequential_of_known_layers_lowers_with_bias_norm_and_convolution():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.uniform_(norm.bias, -0.5, 0.5)
    norm.running_mean.uniform_(-0.3, 0.3)
    norm.running_var.uniform_(0.5, 2)
    conv = nn.Conv2d(2, 3, 3, padding=1, stride=2)
    lif, li, dense = LIF(tau_mem=2.0, v_th=0.4), LI(tau_mem=5.0), nn.Linear(27, 4)
    network = nn.Sequential(conv, norm, lif, nn.Dropout(0.5), nn.Flatten(2), dense, li).double().eval()
    graph = lower(network, (2, 5, 6), dt=1.0)
    x = (torch.rand(7, 1, 2, 5, 6) < 0.4).double()

    with torch.no_grad():
        s = lif(norm(conv(x[:, 0])).unsqueeze(1))
        v = li(dense(s.flatten(2)))

    assert 0 < s.mean() < 1
    out = simulate(graph, EventBatch.from_dense(x.flatten(2).numpy()), record=["v"], dtype="float64")
    hidden = next(name for name in graph.populations if name not in ("input", *graph.outputs))
    np.testing.assert_array_equal(out.spikes[hidden].to_dense(7)[:, 0], s.flatten(1).numpy())
    np.testing.assert_allclose(out.recorded[graph.outputs[0], "v"], v.numpy(), rtol=1e-10, atol=1e-12)


def outputs(network, x):
    """Spikes of every neuron layer of a Sequential, ``[T, B, …]``."""
    found = []
    with torch.no_grad():
        for module in network:
            if isinstance(module, nn.BatchNorm2d):
                x = module(x.flatten(0, 1)).view_as(x)
            else:
                x = module(x)
            if isinstance(module, (LIF, RecurrentDelayedLinear)):
                found.append(x)
    return found


KINDS = {
    "axonal and dendritic": (
        lambda: [
            AxonalDelay(12, max_delay=6),
            DelayedLinear(12, 9, max_delay=5, kernel_count=2, bias=True),
            DendriticDelay(9, max_delay=7),
            TimeBatchNorm(9),
            LIF(tau_mem=3.0, v_th=0.3),
            nn.Linear(9, 4),
            LIF(tau_mem=3.0, v_th=0.2),
        ],
        (12,),
    ),
    "recurrent": (
        lambda: [
            nn.Linear(12, 9),
            RecurrentDelayedLinear(9, LIF(tau_mem=3.0, v_th=0.4), max_delay=4, kernel_count=2),
            DelayedLinear(9, 4, max_delay=3),
            LIF(tau_mem=3.0, v_th=0.2),
        ],
        (12,),
    ),
    "convolutions in one dimension": (
        lambda: [
            DelayedConv1d(2, 4, 3, stride=2, padding=1, max_delay=5, bias=True),
            LIF(tau_mem=3.0, v_th=0.3),
            DelayedConv1d(4, 4, 3, groups=4, max_delay=3),
            LIF(tau_mem=3.0, v_th=0.2),
        ],
        (2, 11),
    ),
    "convolution in two dimensions": (
        lambda: [
            DelayedConv2d(2, 3, 3, padding=1, max_delay=5, kernel_count=2),
            nn.BatchNorm2d(3),
            LIF(tau_mem=3.0, v_th=0.3),
            nn.Flatten(2),
            nn.Linear(60, 4),
            LIF(tau_mem=3.0, v_th=0.2),
        ],
        (2, 4, 5),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_delay_lowers_to_the_same_spikes(kind):
    torch.manual_seed(1)
    make, shape = KINDS[kind]
    network = nn.Sequential(*make()).double()
    for module in network:
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
    network.eval()
    graph = lower(network, shape, dt=1.0)
    x = (torch.rand(30, 3, *shape) < 0.3).double()
    want = outputs(network, x)
    out = simulate(graph, EventBatch.from_dense(x.flatten(2).numpy()), steps=30, dtype="float64")
    names = [name for name in graph.populations if name != "input"]
    for name, s in zip(names, want, strict=True):
        assert 0.02 < s.mean() < 0.98
        np.testing.assert_array_equal(out.spikes[name].to_dense(30), s.flatten(2).numpy())


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Linear(3, 2), AxonalDelay(2)], r"layer '1' \(AxonalDelay\) delays what synapses read"),
        ([DendriticDelay(3)], r"layer '0' \(DendriticDelay\) follows no synapses"),
        ([AxonalDelay(3)], "ends in synapses"),
        ([AxonalDelay(4), nn.Linear(3, 2)], "has 3 sources, and there are 4 delays"),
        ([nn.Linear(3, 2), nn.Tanh()], r"layer '1' \(Tanh\) has no place in a Graph"),
        ([nn.Linear(3, 2), nn.Linear(2, 2)], "no neuron between"),
        ([TimeBatchNorm(3)], "ends in synapses"),
        ([nn.Linear(3, 2), TimeBatchNorm(2)], "ends in synapses"),
        ([nn.Linear(3, 2), nn.BatchNorm1d(2, track_running_stats=False)], "keeps no running statistics"),
    ],
)
def test_what_has_no_place_in_a_graph_is_named(layers, message):
    with pytest.raises(GraphError, match=message):
        lower(nn.Sequential(*layers), 3, dt=1.0)


def test_a_sequential_needs_its_input_shape():
    with pytest.raises(GraphError, match="needs input_shape and dt"):
        lower(nn.Sequential(nn.Linear(3, 2)))
