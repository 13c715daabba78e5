"""CUDA kernels of the delayed product: the reference's under Numba's simulator, and valid PTX."""

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
    layer = DelayedLinear(
        I, O, max_delay=window - 1, kernel_count=count, version=version, sigma=sigma, tolerance=1e-13
    ).double()
    x = ((torch.rand(T, B, I) < 0.4) * torch.randint(1, 3, (T, B, I))).double().requires_grad_()
    inputs = [x, layer.weight] + [layer.position] * (version != "max")
    cotangent = torch.randn(T + right, B, O, dtype=torch.float64)
    results = []
    for used in ("reference", "cuda"):
        with backend.use(used):
            y = layer(x, padding_right=right)
            results.append((y, *torch.autograd.grad(y, inputs, cotangent)))
    for want, got in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-11)
"""


def test_under_the_simulator_values_and_gradients_are_the_references(simulated):
    simulated(SIMULATED)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["forward", "input_gradient", "kernel_gradient"])
def test_kernels_compile_to_ptx(name, dtype, ptx):
    from numba import from_dtype, int32

    from snnkit.delays import taps_cuda

    volume, plane = from_dtype(np.dtype(dtype))[:, :, ::1], int32[:, ::1]
    ptx(getattr(taps_cuda, name), (volume, volume, plane, plane, volume), dtype)
