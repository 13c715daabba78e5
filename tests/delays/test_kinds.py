"""The other kinds of delay: of neurons, in a loop, in a convolution; each against a plain spelling-out."""

import numpy as np
import pytest
import torch

from snnkit import backend
from snnkit.delays import (
    AxonalDelay,
    DelayedConv1d,
    DelayedConv2d,
    DelayedLinear,
    DendriticDelay,
    RecurrentDelayedLinear,
    Synapses,
    reference,
    window_weights,
)
from snnkit.errors import GraphError, ParameterError, ShapeError
from snnkit.graph import Projection
from snnkit.neurons import LIF
from tests.helpers.tensors import close, spikes


@pytest.fixture(params=["reference", "numba"])
def kernels(request):
    with backend.use(request.param):
        yield request.param


def made(kind, *args, **options):
    torch.manual_seed(3)
    return kind(*args, **options).double()


@pytest.mark.parametrize("version", ["gauss", "triangle"])
@pytest.mark.parametrize(("T", "B", "N", "right"), [(1, 1, 1, 0), (17, 3, 19, 4), (30, 2, 33, 0)])
def test_a_neurons_delay_is_a_diagonal_linear_layer(kernels, version, T, B, N, right):
    module = made(AxonalDelay, N, max_delay=6, version=version, sigma=0.7)
    x = spikes(T, B, N).requires_grad_()
    weight = torch.eye(N, dtype=torch.float64)[:, :, None]

    def diagonal(position):
        full = position[:, None, None].expand(N, N, 1)
        return reference.delayed_product(x, Synapses(weight, full, module._sigma, 7, version), right)

    got, want = module(x, padding_right=right), diagonal(module.position)
    close(got, want, 1e-11)
    cotangent = torch.randn(want.shape, dtype=torch.float64)
    inputs = [x, module.position]
    for a, b in zip(*(torch.autograd.grad(y, inputs, cotangent) for y in (got, want)), strict=True):
        close(a, b, 1e-11)


def test_axonal_and_dendritic_delays_fold_into_the_synapses_between_them():
    axon, dendrite = made(AxonalDelay, 5, max_delay=4).eval(), made(DendriticDelay, 3, max_delay=3).eval()
    linear = made(DelayedLinear, 5, 3, max_delay=6).eval()
    (folded,) = dendrite.fold(axon.fold(linear.projections("p", "a", "b")))
    x = torch.cat([spikes(20, 2, 5), torch.zeros(13, 2, 5, dtype=torch.float64)])

    want = dendrite(linear(axon(x)))
    got = torch.zeros_like(want)
    for o, i in np.ndindex(folded.weight.shape):
        d = folded.delay[o, i]
        got[d:, :, o] += folded.weight[o, i] * x[: len(x) - d, :, i]
    close(got, want, 1e-12)
    assert folded.delay.max() > 6


def test_a_neurons_delay_folds_into_every_kind_of_projection_between_neurons():
    axon = made(AxonalDelay, 3, max_delay=9)
    one, sparse = (
        Projection("p", "a", "b", np.ones(3), np.array([0, 1, 2]), "one_to_one"),
        Projection(
            "p", "a", "b", np.ones(4), np.ones(4, int), "sparse", np.array([0, 1, 1, 4]), np.arange(4)
        ),
    )
    a = axon.delays()
    assert np.array_equal(axon.fold([one])[0].delay, a + np.arange(3))
    assert np.array_equal(axon.fold([sparse])[0].delay, 1 + a[[0, 2, 2, 2]])
    dendrite = made(DendriticDelay, 4, max_delay=9)
    assert np.array_equal(dendrite.fold([sparse])[0].delay, 1 + dendrite.delays())
    with pytest.raises(GraphError, match="4 targets, and there are 3"):
        made(DendriticDelay, 3).fold([sparse])
    with pytest.raises(GraphError, match="4 targets, and there are 3"):
        made(DendriticDelay, 3).fold([Projection("p", "a", "b", np.ones((4, 3)))])
    (relay,) = axon.projections("p", "a", "b")
    assert (relay.kind, relay.delay.tolist()) == ("one_to_one", a.tolist())


def recurrent_by_autograd(module, x):
    """The definition, with autograd through every step."""
    kernel = (
        module.weight * window_weights(module.position - 1, module._sigma, module.window, module.version)
    ).sum(-1)
    s, state = [], None
    for t in range(len(x)):
        u = x[t]
        for d in range(1, min(t, module.max_delay) + 1):
            u = u + s[t - d] @ kernel[d - 1].T
        spike, state = module.neuron.step(u, state)
        s.append(spike)
    return torch.stack(s)


@pytest.mark.parametrize("neuron", [LIF(tau_mem=5.0), LIF(tau_mem=3.0, reset="soft", learn_tau=True)])
@pytest.mark.parametrize(("T", "B", "N", "count"), [(1, 1, 1, 1), (25, 3, 7, 2)])
def test_a_loop_with_delays_is_what_autograd_says(kernels, neuron, T, B, N, count):
    module = made(RecurrentDelayedLinear, N, neuron, max_delay=6, kernel_count=count, sigma=0.6)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(T, B, N, generator=generator, dtype=torch.float64).requires_grad_()
    inputs = [x, module.weight, module.position, *module.neuron.parameters()]

    got, want = module(x), recurrent_by_autograd(module, x)
    assert torch.equal(got, want)
    assert T == 1 or 0 < want.mean() < 1
    cotangent = torch.randn(want.shape, generator=generator, dtype=torch.float64)
    pair = (torch.autograd.grad(y, inputs, cotangent, materialize_grads=True) for y in (got, want))
    for a, b in zip(*pair, strict=True):
        close(a, b, 1e-9)


def test_law_a_loop_hears_itself_after_the_delay_and_never_at_once():
    module = made(RecurrentDelayedLinear, 2, LIF(tau_mem=1.0, v_th=0.9), max_delay=7, version="max")
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[[0.0], [0.0]], [[1.0], [0.0]]]))  # neuron 0 excites neuron 1
        module.position.fill_(5)
    x = torch.zeros(9, 1, 2, dtype=torch.float64)
    x[2, 0, 0] = 1
    assert module(x).nonzero().tolist() == [[2, 0, 0], [7, 0, 1]]
    module.position.data.fill_(-3)
    module.clamp_()
    assert module.delays().min() == 1
    (projection,) = module.projections("p", "ignored", "pop")
    assert (projection.source, projection.target) == ("pop", "pop")


CONVOLUTIONS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": (2, 3), "stride": (2, 1), "dilation": (1, 2), "kernel_count": 2, "bias": True},
    {"kernel_size": 2, "groups": 4},
    {"kernel_size": 3, "groups": 2, "padding": 1, "padding_right": 2},
]


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("evaluate", [False, True])
def test_a_convolution_with_delays_is_a_convolution_of_each_delay(kernels, options, evaluate):
    options = dict(options)
    right = options.pop("padding_right", 0)
    module = made(DelayedConv2d, 4, 8, max_delay=3, sigma=0.4, **options).train(not evaluate)
    x = spikes(9, 2, 4, 6, 5).requires_grad_()
    version = "max" if evaluate else "gauss"
    kernel = (module.weight * window_weights(module.position, module._sigma, 4, version)).sum(-1)
    geometry = (module.stride, module.padding, module.dilation, module.groups)
    padded = torch.nn.functional.pad(x, (0,) * 8 + (3, right))
    want = 0
    for d in range(4):
        shifted = padded[3 - d : 3 - d + 9 + right]
        want = want + torch.nn.functional.conv2d(shifted.flatten(0, 1), kernel[d], None, *geometry).unflatten(
            0, (-1, 2)
        )
    if module.bias is not None:
        module.bias.data.normal_()
        want = want + module.bias[:, None, None]

    got = module(x, padding_right=right)
    close(got, want, 1e-11)
    assert got.is_contiguous(), "batch norm's backward pass is several times as slow in another layout"
    inputs = [x, module.weight] + [module.position] * (not evaluate)
    cotangent = torch.randn(want.shape, dtype=torch.float64)
    for a, b in zip(*(torch.autograd.grad(y, inputs, cotangent) for y in (got, want)), strict=True):
        close(a, b, 1e-11)


def test_a_convolution_over_one_axis_is_one_of_height_1():
    flat, square = (
        made(DelayedConv1d, 3, 6, 3, stride=2, padding=1, max_delay=4),
        made(DelayedConv2d, 3, 6, (1, 3), stride=(1, 2), padding=(0, 1), max_delay=4),
    )
    square.load_state_dict(flat.state_dict())
    x = spikes(12, 2, 3, 11)
    close(flat(x), square(x[:, :, :, None])[:, :, :, 0], 1e-12)
    (projection,) = flat.projections("p", "a", "b")
    assert projection.kind == "conv"
    assert projection.weight.shape == projection.delay.shape == (6, 3, 1, 3)


def test_refusals_say_what_would_be_right():
    with pytest.raises(ParameterError, match=r"neurons of snnkit\.neurons"):
        RecurrentDelayedLinear(3, torch.nn.ReLU())
    with pytest.raises(ParameterError, match="max_delay ≥ 1, got 0"):
        RecurrentDelayedLinear(3, LIF(tau_mem=2.0), max_delay=0)
    with pytest.raises(ParameterError, match="4 and 6 channels do not divide into 4 groups"):
        DelayedConv2d(4, 6, 3, groups=4)
    with pytest.raises(ShapeError, match=r"\[T, B, 4, H, W\], got \[2, 2, 4, 3\]"):
        DelayedConv2d(4, 4, 1)(torch.zeros(2, 2, 4, 3))


@pytest.mark.parametrize("kind", ["linear", "recurrent"])
def test_evaluation_delays_by_the_integers_that_are_exported(kind):
    """At ties and outside of the window too."""
    positions = torch.tensor([1.5, 2.5, 3.5, 4.5, 9.0])
    n = len(positions)
    if kind == "linear":
        module = DelayedLinear(n, n, max_delay=6)
    else:
        module = RecurrentDelayedLinear(n, LIF(decay=0.0, v_th=0.5), max_delay=6)
    with torch.no_grad():
        module.weight.copy_(torch.eye(n)[:, :, None])
        module.position.copy_(positions[:, None, None].expand(n, n, 1))
    module.eval()
    x = torch.zeros(8, 1, n)
    x[0] = 1
    y = module(x)[:, 0]
    got = [int(step) for step in y[1:].argmax(0) + 1]
    assert got == np.diagonal(module.delays()[..., 0]).tolist() == [2, 2, 4, 4, 6]


def test_a_loop_runs_under_autocast_in_the_precision_of_its_weights():
    torch.manual_seed(0)
    module = RecurrentDelayedLinear(5, LIF(decay=0.7), max_delay=4)
    x = spikes(9, 2, 5, dtype=torch.float32) * 2
    want = module(x)
    want_gradient = torch.autograd.grad(want.sum(), module.weight)[0]
    for given in (x, x.bfloat16(), x.double()):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = module(given)
            gradient = torch.autograd.grad(got.sum(), module.weight)[0]
        assert torch.equal(got, want)
        assert torch.equal(gradient, want_gradient)
    with pytest.raises(ShapeError, match="T ≥ 1"):
        module(x[:0])
