"""The delayed product through a discrete Fourier transform of the time axis, by matrix products only.

Computes `reference.delayed_product`. Along time it is a convolution, and a convolution of length L
is L/2 complex products of single frequencies; each is a matrix product over inputs (forward), outputs
(gradient of x) or batch (gradient of the kernel). With three real products for a complex one,

    m1 = a·c   m2 = b·d   m3 = (a + b)(c + d)      (a + ib)(c + id) = (m1 − m2) + i (m3 − m1 − m2)

the whole is y = Cᵀ[(A x) · (B k)] with constant real matrices A, B and C, and so its adjoints are
gx = Aᵀ[(B k)ᵀ · (C g)] and gk = Bᵀ[(C g)ᵀ · (A x)]. Cost: about 1.5·L products of matrices, whatever
σ and however many taps a synapse has.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def _matrices(
    steps: int, window: int, steps_out: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """A ``[M, steps]``, B ``[M, window]``, C ``[M, steps_out]`` of the module's docstring."""
    length = max(steps + window - 1, steps_out)
    frequencies = torch.arange(length // 2 + 1, dtype=torch.float64)
    real = (frequencies == 0) | (2 * frequencies == length)
    whole, half = frequencies[~real], frequencies[real]

    def waves(n: int, at: Tensor) -> tuple[Tensor, Tensor]:
        angle = 2 * math.pi / length * (at[:, None] * torch.arange(n, dtype=torch.float64) % length)
        return torch.cos(angle), torch.sin(angle)

    def analysis(n: int) -> Tensor:
        c, s = waves(n, whole)
        return torch.cat([waves(n, half)[0], c, s, c + s])

    c, s = waves(steps_out, whole)
    synthesis = torch.cat([waves(steps_out, half)[0], 2 * (c - s), -2 * (c + s), 2 * s]) / length
    parts = analysis(steps), analysis(window), synthesis
    a, b, c = (part.to(dtype=dtype, device=device).contiguous() for part in parts)
    return a, b, c


def _apply(matrix: Tensor, x: Tensor) -> Tensor:
    return (matrix @ x.reshape(x.shape[0], -1)).reshape(matrix.shape[0], *x.shape[1:])


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, kernel: Tensor, steps_out: int) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, kernel)
        ctx.steps_out = steps_out
        a, b, c = _matrices(x.shape[0], kernel.shape[0], steps_out, x.dtype, x.device)
        return _apply(c.T, _apply(a, x) @ _apply(b, kernel).transpose(1, 2))

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # type: ignore[no-untyped-def]
        x, kernel = ctx.saved_tensors
        a, b, c = _matrices(x.shape[0], kernel.shape[0], ctx.steps_out, x.dtype, x.device)
        gc = _apply(c, g)
        gx = _apply(a.T, gc @ _apply(b, kernel)) if ctx.needs_input_grad[0] else None
        gk = _apply(b.T, gc.transpose(1, 2) @ _apply(a, x)) if ctx.needs_input_grad[1] else None
        return gx, gk, None


def product(x: Tensor, kernel: Tensor, steps_out: int) -> Tensor:
    """``[steps_out, B, O]``: y[t] = Σ_d kernel[d] x[t − d]; x ``[T, B, I]``, kernel ``[window, O, I]``."""
    y: Tensor = _Product.apply(x, kernel, steps_out)  # type: ignore[no-untyped-call]
    return y
