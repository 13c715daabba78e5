"""The operators in torch: opcheck, torch.compile, autocast; which kernel is taken, and that none matters."""

import pytest
import torch
from test_layers import close, layer, spikes

from snnkit import backend
from snnkit.delays import DelayedLinear, Synapses, fourier, ops, reference, taps_cpu
from snnkit.delays.kernel import window_weights
from snnkit.errors import ParameterError, ShapeError


@pytest.mark.parametrize("sigma", [torch.tensor(0.4), torch.full((3, 4, 2), 0.7, requires_grad=True)])
def test_operators_pass_torchs_own_check(sigma):
    module = layer(4, 3, torch.float32, max_delay=5, kernel_count=2)
    x = spikes(6, 2, 4, dtype=torch.float32).requires_grad_()
    rest = (6, "gauss", 2, 1e-5)
    torch.library.opcheck(
        torch.ops.snnkit.delayed_product, (x, module.weight, module.position, sigma, *rest, True, False)
    )
    one = sigma if sigma.ndim == 0 else sigma[:, 0].detach().requires_grad_()
    few = x[:, :, :3].detach().requires_grad_()
    parameters = (p[:, 0].detach().requires_grad_() for p in (module.weight, module.position))
    torch.library.opcheck(torch.ops.snnkit.channel_delay, (few, *parameters, one, *rest))


def test_a_compiled_model_gives_the_same():
    layers = torch.nn.ModuleList(
        [layer(5, 4, torch.float32, max_delay=6, sigma=0.5), layer(4, 2, torch.float32, max_delay=3)]
    )

    def model(x):
        first, second = layers
        return second(torch.relu(first(x, padding_right=3)))

    x = spikes(9, 3, 5, dtype=torch.float32)
    want = model(x)
    got = torch.compile(model, backend="aot_eager", fullgraph=True)(x)
    close(got, want, 1e-6)
    a, b = (torch.autograd.grad(y.square().sum(), list(layers.parameters())) for y in (got, want))
    for one, other in zip(a, b, strict=True):
        close(one, other, 1e-5)


def test_autocast_leaves_the_delays_in_float32():
    module = layer(5, 4, torch.float32, max_delay=6, sigma=0.5)
    x = spikes(9, 3, 5, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = module(x.bfloat16())
    assert y.dtype == torch.float32
    close(y, module(x), 1e-6)


def _forced(monkeypatch, by_taps):
    monkeypatch.setattr(ops, "_cheaper_by_taps", lambda costs, width, *_: by_taps and width is not None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("by_taps", [True, False], ids=["taps", "fourier"])
@pytest.mark.parametrize("binary", [True, False], ids=["spikes", "counts"])
@pytest.mark.parametrize(
    ("T", "B", "I", "O", "count", "window", "right", "sigma"),
    [
        (1, 1, 1, 1, 1, 1, 0, 0.2),
        (30, 35, 3, 21, 2, 25, 12, 0.23),
        (17, 2, 9, 5, 3, 9, 8, 0.2),
        (5, 1, 40, 2, 1, 60, 70, 0.6),
    ],
)
def test_every_way_is_the_reference(
    monkeypatch, dtype, by_taps, binary, T, B, I, O, count, window, right, sigma
):
    _forced(monkeypatch, by_taps)
    module = layer(I, O, dtype, max_delay=window - 1, kernel_count=count, sigma=sigma)
    with torch.no_grad():  # both ends of the window and ties
        module.position.view(-1)[0] = window - 1
        module.position.view(-1)[-1] = 0
        module.position.view(-1)[O // 2] = (window - 1) / 2
    x = spikes(T, B, I, dtype=dtype)
    x = ((x > 0).to(dtype) / 0.6 if binary else x).requires_grad_()
    inputs = [x, module.weight, module.position]
    with backend.use("reference"):
        want = module(x, padding_right=right)
    got = module(x, padding_right=right)
    tolerance = 2e-5 if dtype == torch.float32 else 1e-10
    close(got, want, tolerance)
    cotangent = torch.randn(want.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    grads = (torch.autograd.grad(y, inputs, cotangent) for y in (got, want))
    for a, b in zip(*grads, strict=True):
        close(a, b, tolerance)


@pytest.mark.parametrize("version", ["gauss", "triangle"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_width_that_is_learned_gets_its_gradient(version, outputs):
    torch.manual_seed(0)
    module = DelayedLinear(
        4, outputs, max_delay=8, kernel_count=2, version=version, sigma=0.6, learn_sigma=True
    ).double()
    with torch.no_grad():
        module._sigma.mul_(torch.rand(outputs, 4, 2) + 0.5)
    x = spikes(15, 2, 4)
    got, want = [], []
    for used, found in (("reference", want), ("numba", got)):
        with backend.use(used):
            found += torch.autograd.grad(module(x).square().sum(), list(module.parameters()))
    for a, b in zip(got, want, strict=True):
        close(a, b, 1e-10)


@pytest.mark.parametrize("neurons", [1, 5])
def test_neurons_delays_with_widths_of_their_own(neurons):
    g = torch.Generator().manual_seed(0)
    weight, position, sigma = (
        (scale * torch.rand(neurons, 2, generator=g, dtype=torch.float64)).requires_grad_()
        for scale in (1, 6, 0.8)
    )
    x = spikes(15, 2, neurons).requires_grad_()
    inputs = [x, weight, position, sigma]
    synapses = Synapses(weight, position, sigma, 7)
    want = reference.channel_delay(x, synapses, padding_right=3)
    got = ops.channel_delay(x, synapses, padding_right=3)
    close(got, want, 1e-11)
    cotangent = torch.randn(want.shape, generator=g, dtype=torch.float64)
    for a, b in zip(*(torch.autograd.grad(y, inputs, cotangent) for y in (got, want)), strict=True):
        close(a, b, 1e-10)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("version", ["gauss", "triangle"])
@pytest.mark.parametrize("sigma", [0.0, 0.23, 0.5, 1.3])
def test_what_taps_leave_out_is_below_the_tolerance(tolerance, version, sigma):
    window = 40
    needed = taps_cpu.tap_count(sigma, version, window, tolerance)
    position = torch.linspace(0, window - 1, 977, dtype=torch.float64)
    values = window_weights(position, torch.tensor(sigma), window, version)
    first = torch.as_tensor(taps_cpu._starts(position.numpy(), needed, window))
    delay = torch.arange(window)[:, None]
    left_out = values * ((delay < first) | (delay >= first + needed))
    assert left_out.max() <= tolerance * values.max()


def test_reduced_precision_errs_as_little_as_stated():
    module = layer(64, 64, torch.float32, max_delay=24, sigma=0.23)
    x = spikes(40, 8, 64, dtype=torch.float32).requires_grad_()
    y = module(x)
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    want = torch.autograd.grad(y, x, cotangent)[0]
    module.bfloat16_gradient = True
    got = torch.autograd.grad(module(x), x, cotangent)[0]
    error = ((got - want).norm() / want.norm()).item()
    assert 1e-5 < error < 1e-2


def test_spikes_are_listed_once_and_forgotten_when_used(monkeypatch):
    ops._kept.clear()
    calls = []
    original = taps_cpu.find_events
    monkeypatch.setattr(taps_cpu, "find_events", lambda *a: calls.append(a) or original(*a))
    _forced(monkeypatch, True)
    module = layer(6, 5, torch.float32, max_delay=24, sigma=0.23)
    x = spikes(10, 2, 6, dtype=torch.float32)
    module(x).sum().backward()
    assert len(calls) == 1
    assert not ops._kept
    with torch.no_grad():
        module(x)
    assert not ops._kept


def test_copies_of_other_layouts_are_not_mistaken_for_each_other(monkeypatch):
    _forced(monkeypatch, True)
    ops._kept.clear()
    module = layer(6, 5, torch.float32, max_delay=24, sigma=0.23)
    inputs = [spikes(2, 10, 6, seed=k, dtype=torch.float32).transpose(0, 1) for k in range(4)]
    outputs = [module(x) for x in inputs]
    assert not ops._kept
    for x, y in zip(inputs, outputs, strict=True):
        got = torch.autograd.grad(y.sum(), module.weight)[0]
        with backend.use("reference"):
            close(got, torch.autograd.grad(module(x).sum(), module.weight)[0], 1e-5)


def test_what_a_dropped_graph_left_is_not_taken_for_another_input(monkeypatch):
    module = layer(6, 5, torch.float32, max_delay=24, sigma=0.23)
    first, second = (spikes(10, 2, 6, seed=k, dtype=torch.float32).numpy() for k in (0, 1))
    x = torch.from_numpy(first)
    _forced(monkeypatch, True)
    module(x)  # no backward pass follows
    assert ops._kept
    first[:] = second  # memory used again, which no version counter sees
    monkeypatch.setattr(ops, "_cheaper_by_taps", lambda costs, *rest: costs is ops._TAP_GRADIENT)
    got = torch.autograd.grad(module(x).square().sum(), module.weight)[0]
    with backend.use("reference"):
        close(got, torch.autograd.grad(module(x).square().sum(), module.weight)[0], 1e-5)


def test_remembered_events_are_bounded(monkeypatch):
    _forced(monkeypatch, True)
    ops._kept.clear()
    module = layer(6, 5, torch.float32, max_delay=24, sigma=0.23)
    module(spikes(10, 2, 6, dtype=torch.float32))
    assert len(ops._kept) == 1
    monkeypatch.setattr(ops, "_KEEP", 1)
    module(spikes(10, 2, 6, dtype=torch.float32))
    assert not ops._kept


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.zeros(9, 2, 7)}, r"expects x \[T, B, 6\] for these weights, got \[9, 2, 7\]"),
        ({"x": torch.zeros(9, 6)}, r"expects x \[T, B, 6\]"),
        ({"weight": torch.zeros(5, 6)}, r"expects weight \[O, I, K\]"),
        ({"position": torch.zeros(5, 6)}, "should have one shape"),
        ({"sigma": torch.zeros(5)}, r"sigma \[5\] that or none"),
        ({"version": "gaus"}, "unknown kernel version 'gaus'"),
        ({"window": 0}, "needs window ≥ 1"),
        ({"padding_right": -1}, "padding_right ≥ 0"),
        ({"tolerance": 2.0}, "needs 0 ≤ tolerance < 1"),
        ({"sigma": torch.tensor(float("nan")), "x": torch.ones(9, 2, 6)}, "sigma has values that are not"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_arguments_that_do_not_fit_are_named(changes, message):
    good = {"x": torch.zeros(9, 2, 6), "weight": torch.zeros(5, 6, 1), "position": torch.zeros(5, 6, 1),
            "sigma": torch.tensor(0.5), "window": 4}  # fmt: skip
    given = good | changes
    synapses = Synapses(**{name: given.pop(name) for name in Synapses._fields if name in given})
    with pytest.raises((ShapeError, ParameterError), match=message):
        ops.delayed_product(synapses=synapses, **given)


@pytest.mark.parametrize("inputs", [5, 7])
def test_a_channel_delay_needs_a_weight_a_channel(inputs):
    ones = torch.ones(6, 1)
    with pytest.raises(ShapeError, match=r"channel_delay expects x \[T, B, 6\]"):
        ops.channel_delay(torch.zeros(9, 2, inputs), Synapses(ones, ones, torch.tensor(0.5), 4))


@pytest.mark.parametrize("used", ["reference", "numba"])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float64])
def test_inputs_of_another_dtype_are_taken_in_that_of_the_weights(used, dtype):
    module = layer(6, 5, torch.float32, max_delay=4, sigma=0.5)
    x = spikes(10, 2, 6, dtype=torch.float32) != 0
    with backend.use(used):
        close(module(x.to(dtype)), module(x.float()), 1e-6)


@pytest.mark.parametrize("columns", [1, 31, 32, 33, 70])
@pytest.mark.parametrize("geometry", [(1, 1, 1), (7, 3, 9), (40, 12, 60), (16, 17, 16)])
def test_the_fast_transform_is_its_matrices(columns, geometry):
    geometry = fourier.Geometry(*geometry)
    a, b, c = fourier.matrices(geometry, torch.float64)
    g = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    for matrix, adjoint in ((a, False), (b, False), (c, True)):
        x = random(matrix.shape[1], columns)
        close(fourier.analyse(x, geometry, adjoint), matrix @ x, 1e-12)
    m = random(geometry.points, columns)
    for matrix, adjoint in ((c, False), (a, True), (b, True)):
        out = torch.empty(matrix.shape[1], columns, dtype=torch.float64)
        fourier.synthesise(m, geometry, out, adjoint)
        close(out, matrix.T @ m, 1e-12)


def test_frequencies_give_a_convolution_and_its_gradients_in_pieces(monkeypatch):
    monkeypatch.setattr(fourier, "_CHUNK", 500)
    g = torch.Generator().manual_seed(0)
    x, kernel, cotangent = (
        torch.randn(*s, generator=g, dtype=torch.float64, requires_grad=True)
        for s in ((12, 5, 7), (4, 3, 7), (14, 5, 3))
    )
    position = torch.arange(4.0, dtype=torch.float64).expand(3, 7, 4)
    synapses = Synapses(kernel.permute(1, 2, 0), position, torch.tensor(0.0), 4, "max")
    want = reference.delayed_product(x, synapses, padding_right=2)
    close(fourier.product(x.detach(), kernel.detach(), 14), want, 1e-12)
    got = fourier.gradient(cotangent.detach(), x.detach(), kernel.detach(), 4, of_kernel=True)
    for a, b in zip(got, torch.autograd.grad(want, [x, kernel], cotangent), strict=True):
        close(a, b, 1e-12)
