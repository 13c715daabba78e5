"""Dropout of spiking layers: one mask for all steps of a sample, or one for each step.

A mask for each step is a hash of (seed, place): it need not be stored and costs a copy. PyTorch's CPU
dropout draws from a Mersenne twister one number after another, which at a spiking layer's size takes
longer than the synapses do.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ParameterError

MASKS = ("shared", "step")


@numba.njit(cache=True, nogil=True)
def _apply(x, out, seed, threshold, scale):  # type: ignore[no-untyped-def]
    """out[k] = scale · x[k] where splitmix64(seed + k) ≥ threshold · 2³², else 0."""
    for k in range(x.size):
        z = seed + np.uint64(k) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = (z ^ (z >> np.uint64(31))) >> np.uint64(32)
        out[k] = x[k] * scale if z >= threshold else x[k] * 0


def _masked(x: Tensor, seed: int, p: float) -> Tensor:
    x = x.contiguous()
    out = torch.empty_like(x)
    source, target = x.detach().view(-1).numpy(), out.view(-1).numpy()
    scale = source.dtype.type(1 / (1 - p))
    _apply(source, target, np.uint64(seed), np.uint64(round(p * 2**32)), scale)
    return out


class _HashDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, seed: int, p: float) -> Tensor:
        ctx.seed, ctx.p = seed, p
        return _masked(x, seed, p)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _masked(gradients[0], ctx.seed, ctx.p), None, None


class Dropout(nn.Module):
    """Zero a share `p` of ``[T, B, N]`` and scale the rest by 1/(1 − p); the identity in evaluation mode.

    mask  "shared": a (sample, neuron) is dropped in all steps or in none, as SpikingJelly's multi-step
          Dropout and SNN-delays do; "step": each (step, sample, neuron) on its own

    Masks come from torch's generator, so `torch.manual_seed` fixes them.
    """

    def __init__(self, p: float, mask: str = "shared") -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ParameterError(f"dropout needs 0 ≤ p < 1, got {p}.")
        if mask not in MASKS:
            raise ParameterError(f"dropout mask {mask!r} is none of {', '.join(MASKS)}.")
        self.p, self.mask = p, mask

    def shared(self, x: Tensor) -> Tensor | None:
        """The mask [B, N] for ``[T, B, N]``, scaled; None where there is none, or not one for all steps."""
        if not self.training or self.p == 0 or self.mask != "shared":
            return None
        return F.dropout(torch.ones_like(x[0]), self.p)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        mask = self.shared(x)
        if mask is not None:
            return x * mask
        if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
            return F.dropout(x, self.p)
        seed = int(torch.randint(2**63 - 1, ()))
        return _HashDropout.apply(x, seed, self.p)  # type: ignore[no-untyped-call]
