"""A delay kernel is a row of a table: two added here run in every layer, one with loops of its own."""

import math

import pytest
import torch
from test_layers import close, spikes

from snnkit import backend
from snnkit.delays import (
    VERSIONS,
    AxonalDelay,
    DelayedConv1d,
    DelayedConv2d,
    DelayedLinear,
    DelayKernel,
    DendriticDelay,
    RecurrentDelayedLinear,
    Synapses,
    ops,
    taps_cpu,
    window_weights,
)
from snnkit.neurons import LIF
from snnkit.training import build
from snnkit.training.config import Model, parse_config


def cosine(distance, wide):
    """½ + ½ cos(π · distance / wide) out to the width."""
    return torch.where(distance.abs() < wide, 0.5 + 0.5 * torch.cos(math.pi * distance / wide), 0.0)


def parabola(distance, wide):
    return torch.relu(1 - (distance / wide) ** 2)


def parabola_taps(p, wide, first, window, u, dp, dw):
    for j in range(len(u)):
        d = first + j
        a = (d - p) / wide
        u[j], dp[j], dw[j] = 0.0, 0.0, 0.0
        if d < window and abs(a) < 1:
            u[j] = 1 - a * a
            dp[j] = 2 * a / wide
            dw[j] = 2 * a * a / wide


ADDED = {
    "cosine": DelayKernel(cosine, 1.0),
    "parabola": DelayKernel(parabola, 1.0, reach=lambda wide, tolerance: wide, taps=parabola_taps),
}


@pytest.fixture(params=ADDED)
def version(request, monkeypatch):
    monkeypatch.setitem(VERSIONS, request.param, ADDED[request.param])
    return request.param


@pytest.fixture(params=["taps", "frequencies"])
def way(request, monkeypatch):
    def cheaper(costs, width, *_):
        return request.param == "taps" and width is not None

    monkeypatch.setattr(ops, "_cheaper_by_taps", cheaper)


LAYERS = {
    "linear": (lambda **o: DelayedLinear(5, 4, kernel_count=2, **o), (5,)),
    "learned width": (lambda **o: DelayedLinear(5, 4, learn_sigma=True, **o), (5,)),
    "axonal": (lambda **o: AxonalDelay(6, **o), (6,)),
    "dendritic": (lambda **o: DendriticDelay(6, **o), (6,)),
    "convolution": (lambda **o: DelayedConv2d(2, 4, 3, groups=2, kernel_count=2, **o), (2, 5, 4)),
    "grouped": (lambda **o: DelayedConv2d(4, 4, 2, groups=2, learn_sigma=True, **o), (4, 3, 3)),
    "depthwise": (lambda **o: DelayedConv1d(3, 6, 2, groups=3, learn_sigma=True, **o), (3, 7)),
    "recurrent": (lambda **o: RecurrentDelayedLinear(6, LIF(tau_mem=4.0), learn_sigma=True, **o), (6,)),
}  # fmt: skip


@pytest.mark.parametrize("sigma", [0.3, 2.0])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_kernel_of_ones_own_runs_in_every_layer_as_the_reference_says(version, way, kind, training, sigma):
    make, shape = LAYERS[kind]
    torch.manual_seed(0)
    module = make(max_delay=7, version=version, sigma=sigma).double().train(training)
    x = spikes(21, 2, *shape).requires_grad_()
    learned = dict(module.named_parameters())
    if not training:  # one tap at the integer
        for name in ("position", "_sigma"):
            learned.pop(name, None)
    results = []
    for used in ("reference", "numba"):
        with backend.use(used):
            y = module(x)
        cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
        results.append((y, *torch.autograd.grad(y, [x, *learned.values()], cotangent)))
    for name, want, got in zip(["y", "x", *learned], *results, strict=True):
        assert want.abs().max() > 0, name
        close(got, want, 1e-10)


def test_its_derivatives_are_those_of_differences(version):
    """Position and width of one synapse moved by 1e-6, in float64 without autograd."""
    x = spikes(30, 2, 3)
    weight, position = torch.rand(2, 4, 3, 1, dtype=torch.float64)
    position, sigma = (6 * position).requires_grad_(), torch.full((4, 3, 1), 0.8, dtype=torch.float64)
    sigma.requires_grad_()

    def loss(position, sigma):
        y = ops.delayed_product(x, Synapses(weight, position, sigma, 8, version), padding_right=3)
        return y.square().sum()

    found = torch.autograd.grad(loss(position, sigma), [position, sigma])
    step = torch.zeros(4, 3, 1, dtype=torch.float64)
    step[1, 2, 0] = 1e-6
    with torch.no_grad():
        by_position = loss(position + step, sigma) - loss(position - step, sigma)
        by_sigma = loss(position, sigma + step) - loss(position, sigma - step)
    for gradient, difference in zip(found, (by_position, by_sigma), strict=True):
        assert gradient[1, 2, 0].item() == pytest.approx(difference.item() / 2e-6, rel=1e-6)


def test_a_kernel_without_loops_is_compiled_and_takes_autocast(monkeypatch):
    monkeypatch.setitem(VERSIONS, "cosine", ADDED["cosine"])
    module = DelayedLinear(5, 4, max_delay=6, version="cosine", sigma=0.5)
    x = spikes(9, 3, 5, dtype=torch.float32).requires_grad_()
    want = module(x)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    wants = torch.autograd.grad(want.square().sum(), [x, *module.parameters()])
    close(compiled(x), want, 1e-6)
    for a, b in zip(
        torch.autograd.grad(compiled(x).square().sum(), [x, *module.parameters()]), wants, strict=True
    ):
        close(a, b, 1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        got = module(x.bfloat16())
    assert got.dtype == torch.float32
    close(got, want, 1e-6)
    response = torch.rand(4, 3, 5, requires_grad=True)
    torch.library.opcheck(torch.ops.snnkit.delayed_response, (x, response, 2, False))
    assert module(x[:0], padding_right=2).shape == (2, 3, 4)


def test_what_its_reach_leaves_out_is_nothing(version):
    position = torch.linspace(0, 39, 977, dtype=torch.float64)
    values = window_weights(position, torch.tensor(0.7), 40, version)
    needed = taps_cpu.tap_count(0.7, version, 40, 1e-6)
    first = torch.as_tensor(taps_cpu._starts(position.numpy(), needed, 40))
    delay = torch.arange(40)[:, None]
    assert values.masked_select((delay < first) | (delay >= first + needed)).sum() == 0
    torch.testing.assert_close(values.sum(0), torch.ones(977, dtype=torch.float64), rtol=0, atol=1e-6)


def test_a_configuration_may_name_it(version):
    model = parse_config({"model": {"version": version, "hidden": [4], "max_delay": 3}}).model
    network = build(Model(**model.model_dump()), 3, 2, 1.0)
    assert {layer.version for layer in network.delayed} == {version}
