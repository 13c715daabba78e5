"""The delayed product on CUDA, from the taps of each synapse that matter.

Computes ``y[t] = Σ_d kernel[d]·x[t − d]`` and its gradients, where synapse (o, i) is taken to be 0
outside the delays low[o, i] … high[o, i] − 1. Every thread sums one output in a fixed order, so that
results do not depend on timing. Works under Numba's CUDA simulator as well.
"""

from typing import Any

import torch
from numba import cuda
from torch import Tensor

from ..neurons.kernels_cuda import launch
from . import reference
from .kernel import window_weights
from .synapses import Synapses


@cuda.jit
def forward(x, kernel, low, high, y):  # type: ignore[no-untyped-def]
    """Kernel ``[window, I, O]``, low and high ``[I, O]``: neighbouring threads are neighbouring outputs."""
    steps, _, inputs = x.shape
    steps_out, batch, outputs = y.shape
    k = cuda.grid(1)  # type: ignore[attr-defined]
    if k < steps_out * batch * outputs:
        o = k % outputs
        b = k // outputs % batch
        t = k // outputs // batch
        total = x.dtype.type(0)
        for i in range(inputs):
            for d in range(max(low[i, o], t - steps + 1), min(high[i, o], t + 1)):
                s = x[t - d, b, i]
                if s != 0:
                    total += kernel[d, i, o] * s
        y[t, b, o] = total


@cuda.jit
def input_gradient(g, kernel, low, high, gx):  # type: ignore[no-untyped-def]
    """Kernel ``[window, O, I]``, low and high ``[O, I]``."""
    steps_out, _, outputs = g.shape
    steps, batch, inputs = gx.shape
    k = cuda.grid(1)  # type: ignore[attr-defined]
    if k < steps * batch * inputs:
        i = k % inputs
        b = k // inputs % batch
        t = k // inputs // batch
        total = g.dtype.type(0)
        for o in range(outputs):
            for d in range(low[o, i], min(high[o, i], steps_out - t)):
                total += kernel[d, o, i] * g[t + d, b, o]
        gx[t, b, i] = total


@cuda.jit
def kernel_gradient(g, x, low, high, gk):  # type: ignore[no-untyped-def]
    """∂L/∂kernel ``[window, O, I]``; low and high ``[O, I]``, zeros beyond."""
    steps_out = g.shape[0]
    steps, batch, _ = x.shape
    window, outputs, inputs = gk.shape
    k = cuda.grid(1)  # type: ignore[attr-defined]
    if k < window * outputs * inputs:
        i = k % inputs
        o = k // inputs % outputs
        d = k // inputs // outputs
        total = g.dtype.type(0)
        if low[o, i] <= d < high[o, i]:
            for t in range(min(steps, steps_out - d)):
                for b in range(batch):
                    s = x[t, b, i]
                    if s != 0:
                        total += g[t + d, b, o] * s
        gk[d, o, i] = total


def extent(synapses: Synapses, tolerance: float) -> tuple[Tensor, Tensor]:
    """First delay with a kernel value above `tolerance` × the largest of its tap, and one past the last.

    int32 ``[O, I]`` each, over the taps of a synapse.
    """
    _, position, sigma, window, version = synapses
    values = window_weights(position.detach(), sigma.detach(), window, version)
    matters = (values >= tolerance * values.amax(0)).any(-1)
    delay = torch.arange(window, device=position.device)[:, None, None]
    low = torch.where(matters, delay, window).amin(0)
    high = torch.where(matters, delay + 1, 0).amax(0)
    return low.to(torch.int32), high.to(torch.int32)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, low: Tensor, high: Tensor, steps_out: int) -> Tensor:
        x, kernel = x.contiguous(), kernel.contiguous()
        ctx.save_for_backward(x, kernel, low, high)
        y = x.new_empty((steps_out, x.shape[1], kernel.shape[1]))
        turned = kernel.transpose(1, 2).contiguous(), low.T.contiguous(), high.T.contiguous()
        launch(forward, y.numel(), [x, *turned, y])
        return y

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        x, kernel, low, high = ctx.saved_tensors
        g = cotangents[0].contiguous()
        gx = gk = None
        if ctx.needs_input_grad[0]:
            gx = torch.empty_like(x)
            launch(input_gradient, gx.numel(), [g, kernel, low, high, gx])
        if ctx.needs_input_grad[1]:
            gk = torch.empty_like(kernel)
            launch(kernel_gradient, gk.numel(), [g, x, low, high, gk])
        return gx, gk, None, None, None


def delayed_product(x: Tensor, synapses: Synapses, padding_right: int, tolerance: float) -> Tensor:
    """`reference.delayed_product`, leaving out kernel values below `tolerance` × the largest of their tap.

    ``[T, B, I] → [T + padding_right, B, O]``, neither empty, x in the dtype of the weights.
    """
    low, high = extent(synapses, tolerance)
    kernel = reference.response(synapses)
    y: Tensor = _Product.apply(x, kernel, low, high, x.shape[0] + padding_right)  # type: ignore[no-untyped-call]
    return y
