"""Every backend gives the reference's spikes exactly and autograd's gradients."""

import pytest
import torch

from snnkit import backend
from snnkit.neurons import LI, LIF

CASES = [
    {},
    {"reset": "soft"},
    {"reset": "none", "surrogate": "sigmoid"},
    {"refractory": 2},
    {"decay_input": True, "v_th": 0.4, "learn_tau": True, "learn_threshold": True},
    {"learn_tau": True, "size": 65, "detach_reset": False, "v_reset": -0.3, "surrogate": "triangle"},
    {"learn_tau": True, "learn_threshold": True, "detach_reset": False, "reset": "soft", "refractory": 1},
]


@pytest.mark.parametrize("options", CASES, ids=str)
def test_numba_gives_the_references_spikes_and_autograds_gradients(options, poison_empty):
    g = torch.Generator().manual_seed(1)
    x = torch.randn(50, 3, 65, generator=g, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(50, 3, 65, generator=g, dtype=torch.float64)
    neuron = LIF(5.0, **options).double()

    results = []
    for name in ("reference", "numba"):
        with backend.use(name):
            s, state = neuron(x)
            loss = (s * cotangent).sum() + state[0].square().sum()
            results.append((s, state, torch.autograd.grad(loss, [x, *neuron.parameters()])))
    (want, want_state, want_grads), (got, got_state, got_grads) = results

    assert 0 < want.mean() < 1, "the example must spike, and not always"
    assert torch.equal(got, want)
    for a, b in zip((*got_state, *got_grads), (*want_state, *want_grads), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_a_read_out_integrates_and_learns_its_time_constant():
    x = torch.randn(20, 2, 5, dtype=torch.float64, requires_grad=True)
    neuron = LI(4.0, learn_tau=True, decay_input=True).double()
    v, _ = neuron(x)

    want = torch.zeros_like(x)
    for t in range(20):
        want[t] = (0.75 * (want[t - 1] if t else 0) + 0.25 * x[t]).detach()
    torch.testing.assert_close(v, want)
    assert torch.autograd.gradcheck(lambda x: neuron(x)[0], (x,))
