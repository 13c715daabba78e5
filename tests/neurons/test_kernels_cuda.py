"""CUDA loops: equal to the CPU's under Numba's simulator, and accepted by the PTX compiler."""

import os
import subprocess
import sys
import types

import numpy as np
import pytest

from snnkit.neurons import kernels_cuda, resolve

CASES = [
    ("lif", {"reset": "hard"}, ()),
    ("lif", {"reset": "soft", "refractory": True}, ("decay", "v_th")),
    ("cuba", {"reset": "hard"}, ("decay_syn", "decay_mem")),
    ("adlif", {"discretisation": "se"}, ("a", "b", "decay_w")),
    ("li", {}, ("decay",)),
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
):
    neuron = neuron.double()
    x = (torch.randn(9, 2, 3, dtype=torch.float64) + 0.6).requires_grad_()
    results = []
    for used in ("numba", "cuda"):
        with backend.use(used):
            s, state = neuron(x)
            loss = (s * cotangent).sum() + state[0].sum()
            results.append((s, *state, *torch.autograd.grad(loss, [x, *neuron.parameters()])))
    assert 0 < results[0][0].mean() < 1 or isinstance(neuron, LI), "the example must spike, and not always"
    for want, got in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
"""


def test_under_the_simulator_values_and_gradients_are_the_cpus():
    pytest.importorskip("numba_cuda")
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SIMULATED], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("chip", [(8, 0), (9, 0)], ids=["sm_80", "sm_90"])
@pytest.mark.parametrize(("name", "options", "learn"), CASES, ids=str)
def test_kernels_compile_to_ptx(name, options, learn, chip, dtype, monkeypatch):
    pytest.importorskip("numba_cuda")
    pathfinder = pytest.importorskip("cuda.pathfinder")
    from numba import cuda, from_dtype

    try:
        pathfinder.load_nvidia_dynamic_lib("nvvm")
    except RuntimeError:
        pytest.skip("no libnvvm: install the CUDA toolkit or nvidia-nvvm")
    # What a kernel calls is compiled for the device at hand, and NVRTC is asked which chips it knows;
    # here there is neither, and the kernels need neither.
    device = types.SimpleNamespace(compute_capability=chip)
    monkeypatch.setattr("numba.cuda.dispatcher.get_current_device", lambda: device)
    monkeypatch.setattr("numba.cuda.cudadrv.nvrtc.get_supported_ccs", lambda: [(8, 0), (9, 0)])
    monkeypatch.setattr("numba.cuda.cuda_paths._get_nvrtc_path", lambda: None)

    neuron = resolve(name, options)
    taped = kernels_cuda.tape(neuron, bool(learn))
    number = from_dtype(np.dtype(dtype))
    plane, line = number[:, ::1], number[::1]
    text = kernels_cuda.json.dumps(options)

    module = kernels_cuda.forward(name, text, "atan", dtype, True, taped)
    signature = (*[plane] * (3 + len(taped)), *[line] * (len(neuron.state) + len(neuron.params)))
    ptx, _ = cuda.compile_ptx(module.forward.py_func, signature, cc=chip)
    assert f".target sm_{chip[0]}{chip[1]}" in ptx

    module = kernels_cuda.backward(name, text, "atan", dtype, "s" if neuron.spiking else "h", learn, taped)
    columns = 2 * len(neuron.state)
    signature = (
        *[plane] * (4 + len(taped)), *[line] * columns, plane, *[line] * (len(learn) + len(neuron.params)),
        number, number,
    )  # fmt: skip
    ptx, _ = cuda.compile_ptx(module.backward.py_func, signature, cc=chip)
    assert f".target sm_{chip[0]}{chip[1]}" in ptx
    if dtype == "float32":
        assert ".f64" not in ptx, "float32 kernels must compute in float32"
