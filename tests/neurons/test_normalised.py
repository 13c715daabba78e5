"""Batch norm, neuron and dropout in one pass against the same three one after another."""

import pytest
import torch
from torch import nn

from snnkit import backend
from snnkit.neurons import LI, LIF, AdLIF, CubaLIF

NEURONS = {
    "sharp": lambda: LIF(3.0, alpha=5.0, surrogate="triangle", v_reset=-0.3),
    "soft": lambda: LIF(4.0, reset="soft", detach_reset=False),
    "refractory": lambda: LIF(4.0, refractory=2),
    "per neuron": lambda: LIF([2.0 + 0.1 * k for k in range(37)], decay_input=True),
    "cuba": lambda: CubaLIF(2.0, 4.0, detach_reset=False),
    "adlif": lambda: AdLIF(5.0, 20.0, a=0.3, b=0.5, v_th=0.4),
}
SHAPES = [(9, 5, 37), (1, 2, 37), (70, 1, 37), (5, 150, 37)]


def layer(neuron, dtype, shape, masked):
    g = torch.Generator().manual_seed(3)
    norm = nn.BatchNorm1d(37, dtype=dtype)
    with torch.no_grad():
        norm.weight.uniform_(-1.5, 1.5, generator=g)
        norm.bias.uniform_(-0.5, 1.0, generator=g)
    x = (2 * torch.randn(shape, generator=g, dtype=torch.float64) + 3 * torch.arange(37) - 40).to(dtype)
    mask = (torch.rand(shape[1:], generator=g) > 0.4).to(dtype) / 0.6 if masked else None
    return x.requires_grad_(), norm, neuron.to(dtype), mask, g


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", NEURONS)
def test_values_gradients_and_running_statistics_are_those_of_the_parts(kind, shape, masked):
    x, norm, neuron, mask, g = layer(NEURONS[kind](), torch.float64, shape, masked)
    w1, w2 = (torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(2))
    found = []
    for used in ("numba", "reference"):
        norm.reset_running_stats()
        with backend.use(used):
            s, d = neuron.after_norm(x, norm, mask)
            grads = torch.autograd.grad((s * w1 + d * w2).sum(), [x, norm.weight, norm.bias])
        found.append((s, d, *grads, norm.running_mean.clone(), norm.running_var.clone()))
        assert norm.num_batches_tracked == 1
    assert found[0][0].sum() > 0 or shape[0] == 1
    for mine, want in zip(*found, strict=True):
        assert torch.allclose(mine, want, rtol=1e-9, atol=1e-10 * float(want.detach().abs().max()))


@pytest.mark.parametrize("part", ["spikes", "dropped"])
def test_either_output_alone_has_its_gradient(part):
    x, norm, neuron, mask, _ = layer(LIF(3.0), torch.float64, (9, 5, 37), True)
    found = []
    for used in ("numba", "reference"):
        with backend.use(used):
            out = neuron.after_norm(x, norm, mask)[part == "dropped"]
            found.append(torch.autograd.grad(out.cumsum(0).sum(), x)[0])
    assert torch.allclose(*found, atol=1e-12)


def test_float32_spikes_differ_only_at_the_threshold():
    x, norm, neuron, mask, _ = layer(LIF(3.0), torch.float32, (60, 40, 37), True)
    s, _ = neuron.after_norm(x, norm, mask)
    with backend.use("reference"):
        want, _ = neuron.after_norm(x, norm, mask)
    assert s.mean() > 0.05
    assert (s != want).float().mean() < 1e-4


def test_a_far_mean_does_not_cost_the_variance_its_digits():
    x = torch.randn(50, 20, 37, generator=torch.Generator().manual_seed(0)) + 1e4
    norm = nn.BatchNorm1d(37)
    LIF(3.0).after_norm(x, norm)
    want = x.double().flatten(0, 1).var(0)
    assert torch.allclose(norm.running_var.double(), 0.9 + 0.1 * want, rtol=1e-4)


def test_what_has_no_fused_pass_is_computed_part_by_part():
    x = torch.randn(9, 4, 6).requires_grad_()
    norm = nn.BatchNorm1d(6)
    learned = LIF(3.0, learn_tau=True)
    s, _ = learned.after_norm(x, norm)
    assert s.grad_fn is not None
    s.sum().backward()
    assert learned.decay_raw.grad is not None
    potential, same = LI(3.0).after_norm(x, norm)
    assert potential is same
    norm.eval()
    s, _ = LIF(3.0).after_norm(x, norm)
    assert torch.equal(s, LIF(3.0)(norm(x.flatten(0, 1)).view_as(x)))


def test_the_operator_passes_opcheck_and_compiles():
    x, norm, neuron, mask, _ = layer(LIF(3.0), torch.float64, (7, 4, 37), True)
    params = [p.detach().double() for p in neuron.per_step().values()]
    arguments = (
        x, norm.weight, norm.bias, mask, [x.new_zeros(4, 37)], params, norm.eps, "lif", neuron._text, "atan",
        2.0, False,
    )  # fmt: skip
    torch.library.opcheck(torch.ops.snnkit.normalised, arguments)

    def whole(x):
        s, d = neuron.after_norm(2 * x, norm, mask)
        return (s + d).cumsum(0)

    want = torch.autograd.grad(whole(x).sum(), x)[0]
    found = torch.autograd.grad(torch.compile(whole, backend="aot_eager", fullgraph=True)(x).sum(), x)[0]
    assert torch.allclose(found, want)
