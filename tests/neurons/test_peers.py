"""The same spikes and gradients as SpikingJelly, Norse and snnTorch, in their own conventions."""

import pytest
import torch

from snnkit.neurons import IF, LI, LIF, SURROGATES, CubaLIF
from snnkit.neurons import surrogate as surrogates

T, B, N = 60, 4, 33


def example(scale=1.0):
    g = torch.Generator().manual_seed(5)
    x = scale * (torch.randn(T, B, N, generator=g, dtype=torch.float64) + 0.5)
    return x.requires_grad_(), torch.randn(T, B, N, generator=g, dtype=torch.float64)


def assert_alike(got, want, x, cotangent, learned=()):
    assert 0.02 < want.mean() < 0.98, "the example must spike, and not always"
    assert torch.equal(got, want)
    ours = torch.autograd.grad((got * cotangent).sum(), [x, *(a for a, _, _ in learned)])
    theirs = torch.autograd.grad((want * cotangent).sum(), [x, *(b for _, b, _ in learned)])
    for a, b, sign in zip(ours, theirs, (1, *(sign for *_, sign in learned)), strict=True):
        torch.testing.assert_close(a, sign * b, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize("v_reset", [0.0, -0.25, None], ids=["hard", "hard-below", "soft"])
@pytest.mark.parametrize("decay_input", [True, False])
def test_lif_is_spikingjellys(decay_input, v_reset, detach_reset):
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import neuron, surrogate

    x, cotangent = example(3.0 if decay_input else 1.0)
    theirs = neuron.LIFNode(
        4.0,
        decay_input,
        0.9,
        v_reset,
        surrogate_function=surrogate.ATan(3.0),
        detach_reset=detach_reset,
        step_mode="m",
    )
    ours = LIF(
        8.0,
        dt=2.0,
        v_th=0.9,
        v_reset=0.0 if v_reset is None else v_reset,
        reset="soft" if v_reset is None else "hard",
        decay_input=decay_input,
        detach_reset=detach_reset,
        alpha=3.0,
    ).double()
    ours.v_th.fill_(0.9)
    ours.v_reset.fill_(v_reset or 0.0)
    ours.v_rest.fill_(v_reset or 0.0)
    assert_alike(ours(x), theirs(x), x, cotangent)


@pytest.mark.parametrize("decay_input", [True, False])
def test_learned_decay_is_spikingjellys_parametric_lif(decay_input):
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import neuron, surrogate

    x, cotangent = example(3.0 if decay_input else 1.0)
    theirs = neuron.ParametricLIFNode(
        3.0, decay_input, surrogate_function=surrogate.ATan(), detach_reset=True, step_mode="m"
    ).double()
    ours = LIF(3.0, decay_input=decay_input, learn_tau=True).double()
    # Theirs is 1/tau = σ(w), ours decay = σ(raw): raw = −w.
    ours.decay_raw.data = -theirs.w.data.clone()
    assert_alike(ours(x), theirs(x), x, cotangent, [(ours.decay_raw, theirs.w, -1)])


@pytest.mark.parametrize("v_reset", [0.0, None], ids=["hard", "soft"])
def test_if_is_spikingjellys(v_reset):
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import neuron, surrogate

    x, cotangent = example(0.5)
    theirs = neuron.IFNode(1.0, v_reset, surrogate.Sigmoid(4.0), step_mode="m")
    ours = IF(reset="hard" if v_reset == 0 else "soft", detach_reset=False, surrogate="sigmoid")
    assert_alike(ours.double()(x), theirs(x), x, cotangent)


def test_cuba_lif_is_norses_lif():
    norse = pytest.importorskip("norse.torch")
    from norse.torch.functional.lif import lif_feed_forward_step

    x, cotangent = example()
    dt, p = 0.001, norse.LIFParameters(
        *(torch.tensor(v, dtype=torch.float64) for v in (200.0, 100.0, 0.0, 0.3, 0.0)), method="super",
        alpha=torch.tensor(100.0),
    )  # fmt: skip
    state = norse.LIFFeedForwardState(torch.zeros(B, N).double(), torch.zeros(B, N).double())
    want = []
    for x_t in x:
        s, state = lif_feed_forward_step(x_t, state, p, dt)
        want.append(s)
    # Norse adds dt/tau_mem times the current to v; here that factor is in the input.
    ours = CubaLIF(5.0, 10.0, v_th=0.3, surrogate="superspike", detach_reset=False).double()
    for name, value in (("decay_syn", 0.8), ("decay_mem", 0.9), ("v_th", 0.3)):
        getattr(ours, name).fill_(value)
    assert_alike(ours(0.1 * x), torch.stack(want), x, cotangent)


def test_li_after_a_synapse_is_norses_li():
    norse = pytest.importorskip("norse.torch")
    from norse.torch.functional.leaky_integrator import li_feed_forward_step

    x, _ = example()
    state = norse.LIState(torch.zeros(B, N).double(), torch.zeros(B, N).double())
    p = norse.LIParameters(*(torch.tensor(v, dtype=torch.float64) for v in (200.0, 100.0, 0.0)))
    want = []
    for x_t in x:
        v, state = li_feed_forward_step(x_t, state, p, 0.001)
        want.append(v)
    synapse, membrane = LI(5.0).double(), LI(10.0, decay_input=True).double()
    synapse.decay.fill_(0.8)
    membrane.decay.fill_(0.9)
    torch.testing.assert_close(membrane(synapse(x)), torch.stack(want), rtol=1e-12, atol=1e-12)


def test_lif_with_reset_to_zero_is_snntorchs_leaky():
    snntorch = pytest.importorskip("snntorch")
    from snntorch import surrogate

    x, cotangent = example()
    leaky = snntorch.Leaky(
        torch.tensor(0.8, dtype=torch.float64),
        reset_mechanism="zero",
        spike_grad=surrogate.fast_sigmoid(25),
    ).double()
    membrane, want = leaky.init_leaky(), []
    for x_t in x:
        s, membrane = leaky(x_t, membrane)
        want.append(s)
    ours = LIF(5.0, surrogate="fast_sigmoid").double()
    ours.decay.fill_(0.8)
    assert_alike(ours(x), torch.stack(want), x, cotangent)


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("atan", "ATan"),
        ("sigmoid", "Sigmoid"),
        ("soft_sign", "SoftSign"),
        ("piecewise_quadratic", "PiecewiseQuadratic"),
        ("exponential", "PiecewiseExp"),
        ("boxcar", "Rect"),
    ],
)
@pytest.mark.parametrize("alpha", [None, 1.7])
def test_surrogate_is_spikingjellys(name, peer, alpha):
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import surrogate

    u = torch.linspace(-2, 2, 401, dtype=torch.float64).add(1e-3).requires_grad_()
    theirs = getattr(surrogate, peer)() if alpha is None else getattr(surrogate, peer)(alpha)
    want = torch.autograd.grad(theirs(u).sum(), u)[0]
    _, alpha = surrogates.checked(name, alpha)
    got = [SURROGATES[name].ds_dh(v.item(), alpha) for v in u.detach()]
    torch.testing.assert_close(torch.tensor(got, dtype=torch.float64), want, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("name", "method"), [("superspike", "super"), ("triangle", "triangle")])
def test_surrogate_is_norses(name, method):
    """Norse takes an alpha for "super" and does not use it."""
    pytest.importorskip("norse")
    from norse.torch.functional.threshold import threshold

    u = torch.linspace(-2, 2, 401, dtype=torch.float64).add(1e-3).requires_grad_()
    alpha = SURROGATES[name].alpha
    want = torch.autograd.grad(threshold(u, method, alpha).sum(), u)[0]
    got = [SURROGATES[name].ds_dh(v.item(), alpha) for v in u.detach()]
    torch.testing.assert_close(torch.tensor(got, dtype=torch.float64), want, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("name", "alpha"), [("fast_sigmoid", 25.0), ("sigmoid", 10.0), ("atan", 2.0)])
def test_surrogate_is_snntorchs(name, alpha):
    pytest.importorskip("snntorch")
    from snntorch import surrogate

    u = torch.linspace(-2, 2, 401, dtype=torch.float64).add(1e-3).requires_grad_()
    want = torch.autograd.grad(getattr(surrogate, name)(alpha)(u).sum(), u)[0]
    got = [SURROGATES[name].ds_dh(v.item(), alpha) for v in u.detach()]
    torch.testing.assert_close(torch.tensor(got, dtype=torch.float64), want, rtol=1e-5, atol=1e-9)


def test_gaussian_surrogate_is_sinabs():
    activation = pytest.importorskip("sinabs.activation")
    u = torch.linspace(-2, 2, 401, dtype=torch.float64)
    got = [SURROGATES["gaussian"].ds_dh(v.item(), 0.5) for v in u.detach()]
    torch.testing.assert_close(
        torch.tensor(got, dtype=torch.float64), activation.Gaussian()(u, 0.0), rtol=1e-6, atol=1e-9
    )
