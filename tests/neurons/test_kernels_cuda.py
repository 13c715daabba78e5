"""CUDA loops: equal to the CPU's under Numba's simulator, and accepted by the PTX compiler."""

import numpy as np
import pytest

from snnkit.neurons import SURROGATES, kernels_cuda, resolve

CASES = [
    ("lif", {"reset": "hard"}, ()),
    ("lif", {"reset": "soft", "refractory": True}, ("decay", "v_th")),
    ("cuba", {"reset": "hard"}, ("decay_syn", "decay_mem")),
    ("adlif", {"discretisation": "se"}, ("a", "b", "decay_w")),
    ("li", {}, ("decay",)),
    ("lif", {"reset": "soft", "max_spikes": None, "floor": True}, ("decay", "v_th")),
    ("cuba", {"reset": "hard", "max_spikes": 3, "strict": True}, ("decay_mem",)),
]

SIMULATED = """
import torch
from snnkit import backend
from snnkit.neurons import AdLIF, CubaLIF, LI, LIF

torch.manual_seed(0)
cotangent = torch.randn(9, 2, 3, dtype=torch.float64)
for neuron in (
    LIF(3.0),
    LIF(5.0, learn_tau=True, refractory=1),
    LIF(5.0, size=3, learn_tau=True, learn_threshold=True, detach_reset=False, reset="soft"),
    CubaLIF(2.0, 3.0, learn_tau=True),
    AdLIF(4.0, 8.0, a=0.2, b=0.3, v_th=0.3, learn_tau=True, learn_adaptation=True, discretisation="euler"),
    LI(3.0),
    LIF(5.0, learn_threshold=True, size=3, detach_reset=False, strict=True, v_min=-0.2),
    LIF(5.0, v_th=0.6, learn_threshold=True, size=3, reset="soft", max_spikes=None, v_min=-0.2),
    CubaLIF(2.0, 3.0, v_th=0.6, learn_tau=True, detach_reset=False, max_spikes=2),
):
    neuron = neuron.double()
    x = (torch.randn(9, 2, 3, dtype=torch.float64) + 0.6).requires_grad_()
    results = []
    for used in ("numba", "cuda"):
        with backend.use(used):
            s, state = neuron(x), neuron.run(x).state
            loss = (s * cotangent).sum() + state[0].sum()
            results.append((s, *state, *torch.autograd.grad(loss, [x, *neuron.parameters()])))
    spikes = (results[0][0] > 0).double().mean()
    assert 0 < spikes < 1 or isinstance(neuron, LI), "the example must spike, and not always"
    assert results[0][0].max() > 1 or neuron.options.get("max_spikes", 1) == 1 or isinstance(neuron, LI)
    for want, got in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
"""


def test_under_the_simulator_values_and_gradients_are_the_cpus(simulated):
    simulated(SIMULATED)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options", "learn"), CASES, ids=str)
def test_kernels_compile_to_ptx(name, options, learn, dtype, ptx):
    from numba import from_dtype

    neuron = resolve(name, options)
    taped = kernels_cuda.tape(neuron, bool(learn))
    number = from_dtype(np.dtype(dtype))
    plane, line = number[:, ::1], number[::1]

    module = kernels_cuda.forward(neuron, dtype, True, taped)
    signature = (*[plane] * (3 + len(taped)), *[line] * (len(neuron.state) + len(neuron.params)))
    ptx(module.forward, signature, dtype)

    grads = "s" if neuron.spiking else "h"
    module = kernels_cuda.backward(neuron, SURROGATES["atan"], dtype, grads, learn, taped)
    columns = 2 * len(neuron.state)
    signature = (
        *[plane] * (4 + len(taped)), *[line] * columns, plane, *[line] * (len(learn) + len(neuron.params)),
        number, number,
    )  # fmt: skip
    ptx(module.backward, signature, dtype)
