"""The fused neurons are the plain ones; a network's shortcuts in time change nothing."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from snnkit import backend
from snnkit.compression import convert, kernels_cpu, resnet20, vgg
from snnkit.compression.bits import Bits
from snnkit.compression.neuron import SpikingLayer
from snnkit.compression.spiking import SpikingNet
from snnkit.compression.walking import Fused, Step, walk
from snnkit.errors import ParameterError, ShapeError


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("static", [True, False], ids=["static", "moving"])
@pytest.mark.parametrize("channels", [None, 3], ids=["one", "per channel"])
@pytest.mark.parametrize(("T", "shape"), [(1, (3, 1, 1)), (5, (3, 5, 7)), (9, (3,)), (4, (3, 40, 61))])
def test_spikes_and_gradients_are_the_references(T, shape, channels, static, dtype):
    g = torch.Generator().manual_seed(T)
    layer = SpikingLayer(0.7, 0.9, channels).to(dtype)
    if channels:
        layer.v_th.data += torch.tensor([0.0, 0.2, -0.3])
    batch = 2
    x = torch.randn((1 if static else T) * batch, *shape, generator=g, dtype=dtype).requires_grad_()
    cotangent = torch.randn(T * batch, *shape, generator=g, dtype=dtype)
    wanted = [x, layer.v_th, layer.decay]

    with backend.use("reference"):
        want = layer(x, T, static)
        want_grads = torch.autograd.grad(want, wanted, cotangent, allow_unused=True)
    got = layer(x, T, static)
    grads = torch.autograd.grad(got, wanted, cotangent)

    assert torch.equal(got, want)
    assert T * batch < 4 or 0 < want.mean() < 1, "the example must spike, and not always"
    tolerance = {"rtol": 1e-4, "atol": 2e-3} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-9}
    for a, b in zip(grads, want_grads, strict=True):  # decay plays no part at T = 1
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b, **tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("static", [True, False], ids=["static", "moving"])
@pytest.mark.parametrize("wide", [True, False], ids=["channels last", "channels first"])
@pytest.mark.parametrize("channels", [None, 3], ids=["one", "per channel"])
@pytest.mark.parametrize(("T", "size"), [(1, (2, 2)), (5, (6, 4)), (3, (2, 10)), (4, (40, 62))])
def test_spikes_pooled_in_the_same_pass_are_spikes_then_pooled(T, size, channels, wide, static, dtype):
    g = torch.Generator().manual_seed(T)
    layer = SpikingLayer(0.7, 0.9, channels).to(dtype)
    if channels:
        layer.v_th.data += torch.tensor([0.0, 0.2, -0.3])
    x = torch.randn((1 if static else T) * 2, 3, *size, generator=g, dtype=dtype)
    if wide:
        x = x.contiguous(memory_format=torch.channels_last)
    cotangent = torch.randn(T * 2, 3, size[0] // 2, size[1] // 2, generator=g, dtype=dtype)
    wanted = [x.requires_grad_(), layer.v_th, layer.decay]

    with backend.use("reference"):
        want = torch.nn.functional.avg_pool2d(layer(x, T, static), 2)
        want_grads = torch.autograd.grad(want, wanted, cotangent, allow_unused=True)
    got = layer(x, T, static, pool=True)
    grads = torch.autograd.grad(got, wanted, cotangent)

    assert torch.equal(got, want)
    tolerance = {"rtol": 1e-4, "atol": 2e-3} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-9}
    for a, b in zip(grads, want_grads, strict=True):
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b, **tolerance)


@pytest.mark.parametrize(
    ("pool", "size", "fits"),
    [
        (nn.AvgPool2d(2), (4, 6), True),
        (nn.AvgPool2d((2, 2), (2, 2)), (4, 6), True),
        (nn.AvgPool2d(2), (5, 6), False),
        (nn.AvgPool2d(2, 1), (4, 6), False),
        (nn.AvgPool2d(2, padding=1), (4, 6), False),
        (nn.AvgPool2d(2, divisor_override=3), (4, 6), False),
        (nn.AvgPool2d(3), (6, 6), False),
        (nn.MaxPool2d(2), (4, 6), False),
    ],
    ids=str,
)
def test_only_pooling_by_whole_tiles_of_2x2_is_merged(pool, size, fits):
    layer, x = SpikingLayer(0.4, 0.9), torch.randn(10, 3, *size, dtype=torch.float64)
    merged = Fused(5).pooled(layer, pool, x, False)
    assert (merged is not None) is fits
    network = nn.Sequential(layer, pool)
    assert torch.equal(walk(network, x, False, Fused(5))[0], pool(layer(x, 5)))


def test_a_neuron_at_its_threshold_spikes_and_keeps_the_rest():
    layer = SpikingLayer(0.5, 1.0)
    x = torch.tensor([[0.5, 0.25, 1.25]])
    s = layer(x, steps=3, static=True)
    assert s.tolist() == [[1, 0, 1], [1, 1, 1], [1, 0, 1]]  # 1.25 leaves 0.75, then 2.0 − 0.5, …


def test_channels_last_changes_nothing():
    layer = SpikingLayer(0.4, 0.8)
    x = torch.randn(6, 5, 4, 3, dtype=torch.float64)
    wide = x.contiguous(memory_format=torch.channels_last)
    s = layer(wide, 3)
    assert torch.equal(s, layer(x, 3))
    assert s.is_contiguous(memory_format=torch.channels_last)


def random_net(name, dropout=0.0):
    """Spiking layers in place of the ReLUs, without batch norm; every signal is alive."""
    torch.manual_seed(0)
    ann = (
        vgg(5, 4, 2, 8, width=0.1, hidden=9, dropout=dropout)
        if name == "vgg5"
        else resnet20(4, 2, 8, width=0.25, dropout=dropout)
    )

    def swap(module):
        for key, part in module.named_children():
            if isinstance(part, nn.ReLU):
                setattr(module, key, SpikingLayer(0.3, 0.9))
            elif isinstance(part, (nn.BatchNorm2d, nn.BatchNorm1d)):
                setattr(module, key, nn.Identity())
            else:
                swap(part)

    swap(ann)
    parts = list(ann.named_children())
    last = max(k for k, (_, m) in enumerate(parts) if isinstance(m, SpikingLayer))
    return SpikingNet(
        nn.Sequential(OrderedDict(parts[: last + 1])), nn.Sequential(OrderedDict(parts[last + 1 :])), 5
    ).double()


@pytest.mark.parametrize("name", ["vgg5", "resnet20"])
def test_all_steps_at_once_is_step_after_step(name):
    network, x = random_net(name).eval(), torch.randn(3, 2, 8, 8, dtype=torch.float64)
    run = Step()
    with torch.no_grad():
        total = sum(network.step(x, run) for _ in range(5))
        torch.testing.assert_close(network(x), total, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("steps", [2, 5, 9])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("name", ["vgg5", "resnet20"])
def test_spikes_saved_as_bits_give_the_same_gradients(name, dropout, steps):
    network = random_net(name, dropout).train()
    network.steps = steps
    x = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    grads = []
    for bits, layout in ((False, False), (True, False), (True, True)):
        network.save_bits, network.channels_last = bits, layout
        torch.manual_seed(1)
        if layout and dropout:
            continue  # another order of the random numbers
        loss = network(x).square().sum()
        grads.append(torch.autograd.grad(loss, list(network.parameters())))
    assert sum(float(g.abs().sum()) for g in grads[0]) > 0
    for other in grads[1:]:
        for a, b in zip(grads[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("name", ["vgg5", "resnet20"])
def test_gradients_in_bfloat16_point_the_same_way_and_spikes_stay(name, dropout):
    network, x = random_net(name, dropout).float().train(), torch.randn(16, 2, 8, 8)
    scores, grads = [], []
    for network.mixed in (False, True):
        torch.manual_seed(1)
        scores.append(network(x))
        grads.append(torch.autograd.grad(scores[-1].square().sum(), list(network.parameters())))
    assert torch.equal(*scores)
    for (key, _), a, b in zip(network.named_parameters(), *grads, strict=True):
        if b.numel() > 1 and a.any():
            assert torch.cosine_similarity(a.flatten(), b.flatten(), 0) > 0.999, key
            assert float(b.norm() / a.norm()) == pytest.approx(1, abs=0.02)
    assert any(not torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_spikes_are_kept_as_bits():
    network, x = random_net("resnet20").train(), torch.randn(8, 2, 8, 8, dtype=torch.float64)
    kept = []
    for bits in (Bits(5), None):

        def pack(a, bits=bits, kept=kept):
            held = a if bits is None else bits.pack(a)
            part = held if isinstance(held, torch.Tensor) else held[0]
            kept.append((bits is None, part.numel() * part.element_size()))
            return held

        unpack = (lambda a: a) if bits is None else bits.unpack
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            walk(network.layers, x, True, Fused(5, bits))
    with_bits, without = (sum(size for plain, size in kept if plain == which) for which in (False, True))
    assert with_bits < 0.75 * without


def test_one_dropout_mask_for_all_steps():
    run, layer = Fused(4), nn.Dropout(0.5).train()
    y = run.dropout(layer, torch.ones(4 * 3, 50), False).view(4, 3, 50)
    assert all(torch.equal(y[0], y[t]) for t in range(4))
    assert set(y.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(y[:, 0], y[:, 1])


def test_what_is_static_is_computed_once():
    network, x = random_net("vgg5").eval(), torch.randn(3, 2, 8, 8, dtype=torch.float64)
    batches = []
    network.layers.conv1.register_forward_hook(lambda _m, i, _o: batches.append(len(i[0])))
    network.layers.conv2.register_forward_hook(lambda _m, i, _o: batches.append(len(i[0])))
    network(x)
    assert batches == [3, 15]


def test_clamping_keeps_decay_and_threshold_in_range():
    layer = SpikingLayer(0.5)
    layer.v_th.data.fill_(-1)
    layer.decay.data.fill_(1.2)
    layer.clamp_()
    assert layer.decay.item() == 1
    assert layer.v_th.item() == pytest.approx(5e-4)


@pytest.mark.parametrize("v_th", [0.0, -0.1, float("nan")])
def test_a_threshold_must_be_positive(v_th):
    with pytest.raises(ParameterError, match="must be positive"):
        SpikingLayer(v_th)
    with pytest.raises(ParameterError, match="must be positive"):
        SpikingLayer().set_threshold(torch.tensor([v_th]))


def test_wrong_values_are_refused():
    with pytest.raises(ParameterError, match=r"decay = 1\.5"):
        SpikingLayer(1.0, 1.5)
    with pytest.raises(ShapeError, match="3 channels"):
        SpikingLayer(channels=3)(torch.zeros(2, 4))
    with pytest.raises(ParameterError, match="steps = 0"):
        random_net("vgg5").steps = 0


def test_packing_is_undone_by_unpacking():
    rng = np.random.default_rng(0)
    for T in (1, 7, 8, 9, 17):
        s = (rng.random((T, 37)) < 0.4).astype(np.float32)
        bits, back = np.empty((-(-T // 8), 37), np.uint8), np.empty_like(s)
        kernels_cpu.pack(s, bits, 0, 37)
        kernels_cpu.unpack(bits, back, np.float32(1.25), 0, 37)
        assert np.array_equal(back, 1.25 * s)


def test_a_network_trains_under_autocast():
    torch.manual_seed(0)
    ann = vgg(5, 4, 2, 8, width=0.1, hidden=9)
    x = torch.randn(12, 2, 8, 8)
    ann(x)
    network = convert(ann.eval(), x, 90, steps=3, calibration_steps=4).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = network(x)
    scores.float().square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())
