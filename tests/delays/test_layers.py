"""DelayedLinear against the dcls package, the plain convolution and its own laws."""

import numpy as np
import pytest
import torch

from snnkit import backend
from snnkit.delays import DelayedLinear, Synapses, reference
from snnkit.errors import ParameterError, ShapeError

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


@pytest.fixture(params=["reference", "numba"])
def kernels(request):
    with backend.use(request.param):
        yield request.param


def spikes(*shape, rate=0.3, seed=0, dtype=torch.float64):
    """Counts, as binned events are: zeros, ones, a few twos."""
    g = torch.Generator().manual_seed(seed)
    x = (torch.rand(*shape, generator=g) < rate) * torch.randint(1, 3, shape, generator=g)
    return x.to(dtype)


def layer(n_in, n_out, dtype=torch.float64, seed=0, **options):
    torch.manual_seed(seed)
    return DelayedLinear(n_in, n_out, **options).to(dtype)


def close(got, want, tolerance):
    scale = want.abs().max().clamp_min(1e-3)
    torch.testing.assert_close(got / scale, want / scale, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("version", ["gauss", "triangle"])
@pytest.mark.parametrize(
    ("window", "count", "sigma", "right"),
    [(25, 1, 12.0, 12), (25, 1, 0.23, 12), (31, 2, 2.4, 0), (8, 3, 0.8, 7), (1, 1, 0.5, 0)],
)
def test_values_and_gradients_are_those_of_dcls(kernels, dtype, version, window, count, sigma, right):
    """The package runs in float64: what differs in float32 is our rounding alone."""
    modules = pytest.importorskip("DCLS.construct.modules")
    torch.set_default_dtype(torch.float64)
    try:
        theirs = modules.Dcls1d(
            11, 7, kernel_count=count, groups=1, dilated_kernel_size=window, bias=False,
            version={"gauss": "gauss", "triangle": "max"}[version],
        )  # fmt: skip
    finally:
        torch.set_default_dtype(torch.float32)
    ours = layer(
        11, 7, dtype, max_delay=window - 1, kernel_count=count, version=version, sigma=sigma,
    )  # fmt: skip
    with torch.no_grad():
        theirs.weight.copy_(ours.weight)
        theirs.P.copy_(window - 1 - window // 2 - ours.position)
        theirs.SIG.fill_(sigma)
    x = spikes(40, 3, 11, dtype=dtype).requires_grad_()

    got = ours(x, padding_right=right)
    y = x.detach().double().requires_grad_()
    padded = torch.nn.functional.pad(y.permute(1, 2, 0), (window - 1, right))
    want = theirs(padded).permute(2, 0, 1)
    close(got.double(), want, TOLERANCE[dtype])

    cotangent = torch.randn(got.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    got = torch.autograd.grad(got, [x, ours.weight, ours.position], cotangent)
    got = [g.double() for g in got]
    want = torch.autograd.grad(want, [y, theirs.weight, theirs.P], cotangent.double())
    close(got[0], want[0], TOLERANCE[dtype])
    close(got[1], want[1], TOLERANCE[dtype])
    if window > 1:
        # the transform's float32 rounding reaches 1.4e-5 of the largest gradient of a position
        close(got[2], -want[2][0], 2 * TOLERANCE[dtype])


@pytest.mark.parametrize("version", ["gauss", "triangle", "max"])
@pytest.mark.parametrize("right", [0, 5])
@pytest.mark.parametrize(
    ("T", "B", "n_in", "n_out"), [(1, 1, 1, 1), (1, 3, 5, 2), (17, 1, 33, 19), (40, 5, 3, 64)]
)
def test_a_backend_equals_the_reference_at_odd_shapes(version, right, T, B, n_in, n_out):
    module = layer(n_in, n_out, max_delay=9, kernel_count=2, version=version, sigma=1.1)
    x = spikes(T, B, n_in).requires_grad_()
    inputs = [x, module.weight] + [module.position] * (version != "max")
    with backend.use("reference"):
        want = module(x, padding_right=right)
    with backend.use("numba"):
        got = module(x, padding_right=right)
    close(got, want, 1e-11)
    cotangent = torch.randn(want.shape, dtype=torch.float64)
    got, want = (torch.autograd.grad(y, inputs, cotangent) for y in (got, want))
    for a, b in zip(got, want, strict=True):
        close(a, b, 1e-11)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_silence_and_a_full_raster(kernels, rate):
    module = layer(6, 5, max_delay=4, sigma=0.3)
    x = spikes(12, 2, 6, rate=rate)
    want = reference.delayed_product(x, Synapses(module.weight, module.position, module._sigma, 5))
    close(module(x), want, 1e-11)
    assert bool(module(x).any()) == (rate > 0)


@pytest.mark.parametrize("delay", [0, 1, 7, 9])
def test_law_a_delay_of_d_shifts_by_d(kernels, delay):
    module = layer(3, 3, max_delay=9, version="max")
    with torch.no_grad():
        module.weight.copy_(torch.eye(3)[:, :, None])
        module.position.fill_(delay)
    x = spikes(20, 2, 3)
    y = module(x, padding_right=9)
    close(y[delay : delay + 20], x, 1e-12)
    assert y[:delay].abs().max() < 1e-12 if delay else True


def test_law_evaluation_rounds_and_training_does_not(kernels):
    module = layer(4, 5, max_delay=6, sigma=0.4)
    x = spikes(15, 2, 4)
    before, position = module(x), module.position.clone()
    module.eval()
    rounded = layer(4, 5, max_delay=6, version="max")
    rounded.load_state_dict(module.state_dict())
    with torch.no_grad():
        rounded.position.round_()
    close(module(x), rounded(x), 1e-12)
    assert not torch.allclose(module(x), before)
    module.train()
    close(module(x), before, 1e-12)
    assert torch.equal(module.position, position)
    assert np.array_equal(module.delays(), np.round(position.detach().numpy()))


def test_clamping_keeps_positions_in_the_window():
    module = layer(4, 4, max_delay=6)
    with torch.no_grad():
        module.position.add_(torch.linspace(-9, 9, 16, dtype=torch.float64).reshape(4, 4, 1))
    module.clamp_()
    assert module.position.min() == 0
    assert module.position.max() == 6


def test_each_tap_becomes_a_projection():
    module = layer(4, 3, max_delay=6, kernel_count=2)
    first, second = module.projections("p", "a", "b")
    assert (first.name, second.name) == ("p.0", "p.1")
    assert np.array_equal(second.delay, module.delays()[:, :, 1])
    assert np.array_equal(second.weight, module.weight.detach().numpy()[:, :, 1])


def test_refusals_say_what_would_be_right():
    with pytest.raises(ParameterError, match="max_delay ≥ 0, got -1"):
        DelayedLinear(3, 3, max_delay=-1)
    with pytest.raises(ParameterError, match="gauss, triangle, max"):
        DelayedLinear(3, 3, version="box")
    with pytest.raises(ShapeError, match=r"\[T, B, 3\], got \[5, 3\]"):
        DelayedLinear(3, 3)(torch.zeros(5, 3))
    with pytest.raises(ParameterError, match="width"):
        DelayedLinear(3, 3).sigma = -1
