"""Our network and that of the `dcls` and `spikingjelly` packages are one function of the same weights."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from snnkit.training import build
from snnkit.training.config import Model
from snnkit.training.losses import readout_loss

pytest.importorskip("DCLS")
pytest.importorskip("spikingjelly")


@pytest.fixture(scope="module")
def reference():
    path = Path(__file__).parents[2] / "experiments" / "reference.py"
    spec = importlib.util.spec_from_file_location("reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@torch.no_grad()
def copied(ours, theirs):
    """The reference network with our weights: P = window//2 − delay, taps in Dcls1d's own layout."""
    mine = [*(layer.synapses for layer in ours.layers), ours.readout_synapses]
    for a, b in zip(mine, theirs.delayed, strict=True):
        b.conv.weight.copy_(a.weight)
        b.conv.P.copy_((b.window // 2 - a.position)[None])
    for layer, parts in zip(ours.layers, theirs.layers, strict=True):
        parts[1].load_state_dict(layer.norm.state_dict())
    return theirs


@pytest.fixture
def pair(reference, task):
    torch.manual_seed(0)
    model = Model(hidden=(12, 10), max_delay=8, dropout=0.0, tau_mem=30.0)
    ours = build(model, 8, 2, 10.0).double()
    for layer in ours.layers:
        torch.nn.init.uniform_(layer.norm.running_mean, -0.2, 0.2)
    theirs = copied(ours, reference.build(model, 8, 2, 10.0).double())
    x, lengths, labels = (torch.from_numpy(a) for a in task.train.batch(np.arange(20)))
    return ours, theirs, x.double(), lengths, labels


def test_evaluation_is_the_same(pair):
    ours, theirs, x, lengths, _ = pair
    with torch.no_grad():
        a, b = ours.eval()(x, lengths), theirs.eval()(x, lengths)
    for mine, other in zip(a.spikes, b.spikes, strict=True):
        assert 0 < mine.mean() < 1
        assert torch.equal(mine, other)
    torch.testing.assert_close(a.scores, b.scores)


@pytest.mark.parametrize("sigma", [4.0, 1.0, 0.23])
def test_a_training_step_has_the_same_loss_and_gradients(pair, sigma):
    ours, theirs, x, lengths, labels = pair
    losses = []
    for network in (ours.train(), theirs.train()):
        network.set_sigma(sigma)
        loss = readout_loss(network(x, lengths).scores, labels)
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    mine = [*(layer.synapses for layer in ours.layers), ours.readout_synapses]
    for a, b in zip(mine, theirs.delayed, strict=True):
        torch.testing.assert_close(a.weight.grad, b.conv.weight.grad, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(a.position.grad, -b.conv.P.grad[0], rtol=1e-5, atol=1e-6)
        assert b.conv.P.grad.abs().max() > 0
