"""CUDA kernels of the delayed product: the reference's under Numba's simulator, and valid PTX."""

import os
import subprocess
import sys
import types

import numpy as np
import pytest

SIMULATED = """
import torch
from snnkit import backend
from snnkit.delays import DelayedLinear

torch.manual_seed(0)
for T, B, I, O, count, window, right, version, sigma in (
    (1, 1, 1, 1, 1, 1, 0, "gauss", 0.3),
    (9, 2, 5, 3, 2, 4, 2, "gauss", 0.3),
    (7, 1, 3, 6, 1, 12, 0, "gauss", 6.0),
    (6, 3, 4, 2, 1, 5, 4, "triangle", 0.5),
    (6, 3, 4, 2, 3, 5, 4, "max", 0.5),
):
    layer = DelayedLinear(I, O, window - 1, count, version, sigma, right, tolerance=1e-13).double()
    x = ((torch.rand(T, B, I) < 0.4) * torch.randint(1, 3, (T, B, I))).double().requires_grad_()
    inputs = [x, layer.weight] + [layer.position] * (version != "max")
    cotangent = torch.randn(T + right, B, O, dtype=torch.float64)
    results = []
    for used in ("reference", "cuda"):
        with backend.use(used):
            y = layer(x)
            results.append((y, *torch.autograd.grad(y, inputs, cotangent)))
    for want, got in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-11)
"""


def test_under_the_simulator_values_and_gradients_are_the_references():
    pytest.importorskip("numba_cuda")
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SIMULATED], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("chip", [(8, 0), (9, 0)], ids=["sm_80", "sm_90"])
@pytest.mark.parametrize("name", ["forward", "input_gradient", "kernel_gradient"])
def test_kernels_compile_to_ptx(name, chip, dtype, monkeypatch):
    pytest.importorskip("numba_cuda")
    pathfinder = pytest.importorskip("cuda.pathfinder")
    from numba import cuda, from_dtype, int32

    from snnkit.delays import taps_cuda

    try:
        pathfinder.load_nvidia_dynamic_lib("nvvm")
    except RuntimeError:
        pytest.skip("no libnvvm: install the CUDA toolkit or nvidia-nvvm")
    device = types.SimpleNamespace(compute_capability=chip)
    monkeypatch.setattr("numba.cuda.dispatcher.get_current_device", lambda: device)
    monkeypatch.setattr("numba.cuda.cudadrv.nvrtc.get_supported_ccs", lambda: [(8, 0), (9, 0)])
    monkeypatch.setattr("numba.cuda.cuda_paths._get_nvrtc_path", lambda: None)

    volume, plane = from_dtype(np.dtype(dtype))[:, :, ::1], int32[:, ::1]
    signature = (volume, volume, plane, plane, volume)
    ptx, _ = cuda.compile_ptx(getattr(taps_cuda, name).py_func, signature, cc=chip)
    assert f".target sm_{chip[0]}{chip[1]}" in ptx
    if dtype == "float32":
        assert ".f64" not in ptx, "float32 kernels must compute in float32"
