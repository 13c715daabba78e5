"""Layers counted spike by spike: against the layer itself with weights of 1, unit spikes, and the Graph."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import booleans, integers, sampled_from
from torch import nn

from snnkit.delays import DelayedConv1d, DelayedConv2d, DelayedLinear, RecurrentDelayedLinear
from snnkit.energy import EnergyMonitor, measure, price
from snnkit.energy.layers import KINDS
from snnkit.events import EventBatch
from snnkit.neurons import LIF, AdLIF, CubaLIF
from snnkit.training import lower

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
SPACE = (7, 6, 5)
FIELDS = (
    "inputs", "outputs", "synapses", "effective", "weights", "max_delay", "kernel_fan_out",
    "address_fan_out", "spikes", "spikes_valued", "synops", "synops_effective", "synops_mac",
    "synops_dense", "delayed", "waiting", "peak",
)  # fmt: skip


def spikes(*shape, rate=0.4):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(len(shape))) < rate).float()


def seen(net, x, **settings):
    with EnergyMonitor(net, **settings) as monitor, torch.no_grad():
        net(x)
    return monitor.counts()


def thinned(layer):
    """With some weights of 0."""
    with torch.no_grad():
        layer.weight[torch.rand(layer.weight.shape) < 0.3] = 0
    return layer


def by_ones(layer, x, weight):
    """SynOps of each sample by the definition: what the layer gives where each synapse passes 1 on."""
    own = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.copy_(weight)
        got = layer(x).flatten(1).sum(1)
        layer.weight.copy_(own)
    return got.round().long().numpy()


@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect", "replicate"])
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@settings(max_examples=40)
@given(
    axes=integers(1, 3), kernel=integers(1, 3), stride=integers(1, 2), dilation=integers(1, 2),
    groups=sampled_from([1, 2]), same=booleans(),
)  # fmt: skip
def test_convolutions_count_what_their_padding_computes(mode, axes, kernel, stride, dilation, groups, same):
    torch.manual_seed(0)
    padding = "same" if same and stride == 1 else kernel // 2
    layer = thinned(
        CONVS[axes - 1](2, 4, kernel, stride, padding, dilation, groups, bias=False, padding_mode=mode)
    )
    x = spikes(3, 2, *SPACE[:axes])

    (got,) = seen(layer, x).synapses

    np.testing.assert_array_equal(got.synops, by_ones(layer, x, torch.ones_like(layer.weight)))
    np.testing.assert_array_equal(got.synops_effective, by_ones(layer, x, (layer.weight != 0).float()))
    assert got.synapses == by_ones(layer, torch.ones_like(x), torch.ones_like(layer.weight))[0]


@settings(max_examples=40)
@given(
    axes=integers(1, 3), kernel=integers(1, 3), stride=integers(1, 3), padding=integers(0, 1),
    more=integers(0, 1), dilation=integers(1, 2), groups=sampled_from([1, 2]),
)  # fmt: skip
def test_transposed_convolutions_count_where_their_kernels_end(
    axes, kernel, stride, padding, more, dilation, groups
):
    torch.manual_seed(0)
    more = min(more, max(stride, dilation) - 1)
    layer = thinned(TRANSPOSED[axes - 1](2, 4, kernel, stride, padding, more, groups, False, dilation))
    x = spikes(3, 2, *SPACE[:axes])

    (got,) = seen(layer, x).synapses

    np.testing.assert_array_equal(got.synops, by_ones(layer, x, torch.ones_like(layer.weight)))
    np.testing.assert_array_equal(got.synops_effective, by_ones(layer, x, (layer.weight != 0).float()))
    assert got.address_fan_out == got.kernel_fan_out == 4 // groups * kernel**axes


POOLS = [
    nn.AvgPool1d(3, 2, 1),
    nn.AvgPool2d((3, 2), padding=(1, 0), ceil_mode=True),
    nn.AvgPool2d(2),
    nn.AvgPool3d(2, 1),
    nn.AdaptiveAvgPool1d(3),
    nn.AdaptiveAvgPool2d((4, 1)),
    nn.AdaptiveAvgPool3d(2),
]


@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_pooling_adds_each_spike_to_each_window_that_holds_it(pool):
    axes = int(type(pool).__name__[-2])
    x = spikes(3, 2, *SPACE[:axes])
    net = nn.Sequential(pool, nn.Flatten(), nn.Linear(pool(x)[0].numel(), 2, bias=False))
    unit = torch.eye(x[0].numel()).reshape(-1, *x.shape[1:])
    windows = (pool(unit) != 0).flatten(1).sum(1)

    counts = seen(net, x)
    got = counts.synapses[0]

    assert windows.unique().numel() > 1 or not isinstance(pool, nn.AvgPool1d)
    np.testing.assert_array_equal(got.synops, (x.flatten(1) @ windows.float()).numpy())
    assert (got.kind, got.weights, got.synapses) == ("pool", 0, windows.sum())
    for profile in ("cmos45", "lemaire45", "yan22"):
        table = price(counts, profile).table
        mine = table["operation"][table["part"] == "0"]
        assert "AC" in mine
        assert not {"MAC", "read weight"} & set(mine)


def delayed():
    """Small networks with delays and spikes as dense as makes queues overlap."""
    torch.manual_seed(3)
    yield (
        nn.Sequential(DelayedLinear(6, 5, 7), LIF(4.0), DelayedLinear(5, 3, 4, kernel_count=2), LIF(4.0)),
        (6,),
    )
    yield nn.Sequential(DelayedConv2d(2, 4, 3, 2, 1, groups=2, max_delay=5), LIF(4.0)), (2, 6, 5)
    yield nn.Sequential(DelayedConv1d(2, 3, 3, padding=1, max_delay=5), CubaLIF(4.0, 2.0)), (2, 8)
    yield (
        nn.Sequential(nn.Linear(6, 5), RecurrentDelayedLinear(5, LIF(4.0), 6), nn.Linear(5, 2), LIF(3.0)),
        (6,),
    )


@pytest.mark.parametrize(
    ("net", "shape"), list(delayed()), ids=lambda v: "" if isinstance(v, tuple) else str(v[0])[:15]
)
def test_delayed_layers_count_as_their_graph(net, shape):
    net = net.eval()
    with torch.no_grad():
        for p in net.parameters():
            if p.dim() > 1:
                p.abs_()  # so that they fire
    x = spikes(20, 3, *shape)
    graph = lower(net, shape, 1.0)
    flat = x.reshape(20, 3, -1).numpy() if len(shape) == 1 else x.numpy()
    want = measure(graph, EventBatch.from_dense(flat.reshape(20, 3, -1)))

    got = seen(net, x)

    assert got.spikes.min() > 0
    np.testing.assert_array_equal(got.synops, want.synops)
    np.testing.assert_array_equal(got.synops_effective, want.synops_effective)
    np.testing.assert_array_equal(got.spikes, want.spikes)
    ours, theirs = ([n for n in c.neurons if not n.is_input] for c in (got, want))
    assert [(n.states, n.leak_macs, n.biased) for n in ours] == [
        (n.states, n.leak_macs, n.biased) for n in theirs
    ]
    several = any(getattr(m, "kernel_count", 1) > 1 for m in net.modules())  # a projection for each tap
    assert (len(got.synapses) == len(want.synapses)) == (not several)
    if not several:
        for a, b in zip(sorted(got.synapses, key=size), sorted(want.synapses, key=size), strict=True):
            for field in FIELDS:
                np.testing.assert_array_equal(
                    getattr(a, field), getattr(b, field), err_msg=f"{a.name}: {field}"
                )


def size(s):
    return (s.inputs, s.outputs)


def test_biases_are_charged_where_they_are_not_zero():
    """Of all layers before the neurons, once an output and step."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 5))
    with torch.no_grad():
        net[0].bias[:3] = 0
    counts = seen(net, spikes(2, 1, 6, 6))
    assert counts.neurons[-1].biased == 1 * 16 + 5
    assert counts.neurons[-1].biases == 4 + 5
    assert price(counts, "cmos45").by("operation")["bias AC"] == pytest.approx((16 + 5) * 0.9)


@pytest.mark.parametrize("layer", KINDS, ids=lambda layer: layer.__name__)
def test_every_kind_is_named_on_the_page(layer):
    from tests.energy.test_by_hand import PAGE

    name = layer.__name__
    assert name.rstrip("123d") in PAGE.read_text() or name in PAGE.read_text()


def test_states_of_other_libraries_neurons():
    snntorch = pytest.importorskip("snntorch")
    sj = pytest.importorskip("spikingjelly.activation_based.neuron")

    cells = {
        snntorch.Leaky(beta=0.9, init_hidden=True): 1,
        snntorch.Synaptic(alpha=0.8, beta=0.9, init_hidden=True): 2,
        snntorch.Alpha(alpha=0.9, beta=0.8, init_hidden=True): 3,
        sj.LIFNode(): 1,
        sj.IzhikevichNode(): 2,
        AdLIF(tau_mem=5.0, tau_w=20.0): 2,
    }
    for cell, states in cells.items():
        net = nn.Sequential(nn.Linear(3, 2), cell)
        x = spikes(5, 1, 3) if isinstance(cell, AdLIF) else spikes(1, 3)
        assert seen(net, x).neurons[1].states == states, cell
