"""A lowered network is the network: spikes, scores, and a price."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from snnkit.compression import convert
from snnkit.compression.ann import Residual, resnet20, vgg
from snnkit.compression.lowering import encode, lower_spiking
from snnkit.compression.walking import Fused, walk
from snnkit.engine import simulate
from snnkit.errors import GraphError, ParameterError
from snnkit.graph import Graph


def odd():
    """Strides, dilation, groups, odd sizes, several poolings, a shortcut."""
    return nn.Sequential(
        OrderedDict(
            a=nn.Conv2d(2, 6, (3, 2), stride=(1, 2), padding=(2, 1), groups=2),
            relu_a=nn.ReLU(),
            block=Residual(
                nn.Sequential(nn.Conv2d(6, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=2, dilation=2)),
            ),
            relu_b=nn.ReLU(),
            pool_b=nn.AvgPool2d(2),
            relu_c=nn.ReLU(),
            pool_c=nn.AvgPool2d(3, stride=1, padding=1),
            d=nn.Conv2d(6, 5, 2),
            pool_d=nn.AvgPool2d((2, 1), stride=1),
            relu_d=nn.ReLU(),
            flatten=nn.Flatten(),
            e=nn.Linear(5 * 3 * 1, 7),
            relu_e=nn.ReLU(),
            out=nn.Linear(7, 3),
        )
    )


def flat():
    """Linear layers only, the first without a bias."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(18, 12, bias=False), nn.ReLU(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 4)
    )


NETWORKS = {
    "flat": (flat, (2, 3, 3)),
    "vgg5": (lambda: vgg(5, 4, 2, 8, width=0.06, hidden=9), (2, 8, 8)),
    "resnet20": (lambda: resnet20(4, 2, 8, width=0.2), (2, 8, 8)),
    "odd": (odd, (2, 9, 7)),
}


def made(name, per_channel=False, steps=4):
    torch.manual_seed(1)
    build, shape = NETWORKS[name]
    ann = build()
    for _ in range(3):
        ann(torch.randn(16, *shape))
    network = convert(
        ann.double(), torch.randn(24, *shape, dtype=torch.float64), 85, steps=steps, calibration_steps=6,
        per_channel=per_channel,
    )  # fmt: skip
    for _, layer in network.spiking():
        layer.v_th.data.mul_(torch.empty_like(layer.v_th).uniform_(0.5, 0.9))
        layer.decay.data.uniform_(0.7, 1)
    return network, np.random.default_rng(3).standard_normal((5, *shape))


class Spikes:
    """Keeps every layer's spikes, [T, B, N]."""

    def __init__(self, steps):
        self.steps, self.kept = steps, {}

    def synapses(self, layer, x, y, static):
        pass

    def spikes(self, name, s):
        self.kept[name] = s.detach().reshape(self.steps, -1, s[0].numel()).numpy()


@pytest.mark.parametrize("per_channel", [False, True], ids=["one threshold", "per channel"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_engine_gives_the_same_spikes_and_scores(name, per_channel, tmp_path):
    network, images = made(name, per_channel)
    run = Spikes(4)
    with torch.no_grad():
        walk(network.layers, torch.from_numpy(images), True, Fused(run.steps, watch=run))
        scores = network(torch.from_numpy(images)).numpy()
    lower_spiking(network, images.shape[1:]).save(tmp_path / "net.h5")

    graph = Graph.load(tmp_path / "net.h5")
    result = simulate(graph, encode(images, 4), record=[("out", "v")], dtype="float64", progress=False)

    total = 0.0
    for layer, want in run.kept.items():
        assert np.array_equal(result.spikes[layer].to_dense(4), want), layer
        total += want.mean()
    assert 0.02 < total / len(run.kept) < 0.98, "the example must spike, and not always"
    np.testing.assert_allclose(result.recorded["out", "v"][3], scores, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_one_step_needs_no_soft_reset(name):
    network, images = made(name, steps=1)
    run = Spikes(1)
    with torch.no_grad():
        walk(network.layers, torch.from_numpy(images), True, Fused(run.steps, watch=run))
    graph = lower_spiking(network, images.shape[1:])
    resets = {p.options["reset"] for p in graph.populations.values() if p.neuron == "lif"}
    assert resets == {"hard"}
    result = simulate(graph, encode(images, 1), dtype="float64", progress=False)
    assert sum(want.mean() for want in run.kept.values()) > 0
    for layer, want in run.kept.items():
        assert np.array_equal(result.spikes[layer].to_dense(1), want), layer


def test_pooling_merges_into_the_convolution_behind_it():
    graph = lower_spiking(made("vgg5")[0], (2, 8, 8))
    kinds = {p.name: (p.kind, p.weight.shape, p.options.get("stride")) for p in graph.projections}
    assert kinds["relu1→relu2"] == ("conv", (8, 4, 6, 6), [2, 2])
    assert kinds["input→relu1"] == ("conv", (4, 2, 3, 3), [1, 1])
    assert [p.kind for p in graph.projections[-2:]] == ["dense", "dense"]


def test_a_residual_sum_is_two_projections_into_one_population():
    graph = lower_spiking(made("resnet20")[0], (2, 8, 8))
    assert [p.kind for p in graph.into("relu1a")] == ["conv", "one_to_one"]
    assert [p.kind for p in graph.into("relu2a")] == ["conv", "conv"]
    assert {p.source for p in graph.into("relu2a")} == {"block2a.body.relu1", "relu1c"}


def test_max_pooling_has_no_place_in_a_graph():
    ann = vgg(5, 4, 2, 8, width=0.06, hidden=9, maximum=True)
    ann(torch.randn(8, 2, 8, 8))
    network = convert(ann, torch.randn(8, 2, 8, 8), 95, calibration_steps=3)
    with pytest.raises(GraphError, match="'pool1' \\(MaxPool2d\\)"):
        lower_spiking(network, (2, 8, 8))


def test_a_lowered_network_is_priced_and_the_price_falls_with_T():
    from snnkit.energy import estimate

    network, images = made("vgg5")
    graph = lower_spiking(network, (2, 8, 8))
    prices = [estimate(graph, encode(images, T), ["cmos45", "lemaire45"]).total_pj for T in (4, 1)]
    assert all(prices[0][p] > prices[1][p] > 0 for p in prices[0])

    # by hand: at T = 1 the image's MACs, and an AC for every synapse a spike goes through and every bias
    run = Spikes(1)
    network.steps = 1
    with torch.no_grad():
        walk(network.layers, torch.from_numpy(images), True, Fused(run.steps, watch=run))
    pj = 0.0
    for p in graph.projections:
        if p.kind == "conv":
            _, _, ky, kx = p.weight.shape
            source, target = (graph.populations[n].shape for n in (p.source, p.target))
            reach = np.zeros(source[1:])  # output places that see a pixel
            (sy, sx), (py, px) = p.options["stride"], p.options["padding"]
            for y in range(target[1]):
                for x in range(target[2]):
                    rows = slice(max(0, y * sy - py), max(0, y * sy - py + ky))
                    columns = slice(max(0, x * sx - px), max(0, x * sx - px + kx))
                    reach[rows, columns] += 1
            fan = np.broadcast_to(reach * target[0], source).reshape(-1)
        else:
            fan = np.full(p.weight.shape[1], p.weight.shape[0])
        if p.source == "input":
            pj += 4.6 * fan.sum()
        else:
            pj += 0.9 * (run.kept[p.source][0] * fan).sum(1).mean()
    pj += 0.9 * sum(p.size for p in graph.populations.values() if p.bias.any())
    assert prices[1]["cmos45"] == pytest.approx(pj, rel=1e-6)


def test_images_and_steps_that_do_not_fit_are_named():
    network, _ = made("vgg5")
    with pytest.raises(GraphError, match=r"input_shape \(3, 8, 8\) should be \(2, H, W\)"):
        lower_spiking(network, (3, 8, 8))
    with pytest.raises(ParameterError, match="at least 1 step, got -1"):
        encode(np.zeros((2, 1, 8, 8)), -1)
