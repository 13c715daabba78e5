"""The definition: soft-reset neurons over time in plain torch, differentiated by autograd.

    h[t] = decay·v[t−1] + x[t]
    z[t] = h[t] / v_th − 1
    s[t] = 1 if h[t] ≥ v_th else 0        so that z[t] ≥ 0
    v[t] = h[t] − v_th·s[t]               soft reset in the same step, s a constant backwards

    ds/dz = 0.3 · max(0, 1 − |z|)

The neuron of IIR-SNN (Chowdhury, Rathi, Roy, ECCV 2022, arXiv 2110.05929), which spikes when z > 0:
here a neuron that reaches its threshold exactly spikes, as everywhere in snnkit, so that a lowered
network gives the same spikes. decay and v_th are learned.

It stands apart from "lif" with a soft reset, whose spikes it has to the bit (a lowered network is one),
because its gradients are others: z is in thresholds, so the triangle is as wide as v_th and ∂z/∂v_th is
−h/v_th², where a surrogate of "lif" is a function of h − v_th, the same for every threshold, and ∂/∂v_th
has no factor h/v_th. "lif" of x/v_th with a threshold of 1 would have these gradients, but rounds
potentials otherwise, and so loses spikes at the threshold. Its kernels stand apart because they also pool,
know an input that is the same in every step, and write spikes only: a training step of VGG-9 ×0.25 (batch
64, one thread, alternating in one process) takes 1.5 times as long at T = 1 and 1.3 times at T = 5 with
those of "lif" in their place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

HEIGHT = 0.3
"""ds/dz at the threshold."""


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, fires: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return fires

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        return grads[0] * HEIGHT * torch.clamp(1 - z.abs(), min=0), None


def step(v: Tensor | None, x: Tensor, decay: Tensor, v_th: Tensor) -> tuple[Tensor, Tensor]:
    """v[t−1] and x[t] → s[t], v[t]; `None` for v = 0."""
    h = x if v is None else decay * v + x
    fires = (h >= v_th).to(h.dtype)
    s: Tensor = _Spike.apply(h / v_th - 1, fires)  # type: ignore[no-untyped-call]
    return s, h - v_th * fires


def soft_reset_lif(x: Tensor, decay: Tensor, v_th: Tensor, steps: int) -> Tensor:
    """Input currents ``[T, B, …]``, or ``[1, B, …]`` for the same in every step → spikes ``[T, B, …]``."""
    v, spikes = None, []
    for t in range(steps):
        s, v = step(v, x[0 if len(x) == 1 else t], decay, v_th)
        spikes.append(s)
    return torch.stack(spikes)
