"""The spiking layer: soft-reset neurons whose threshold and decay are learned."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import backend
from ..errors import GraphError, ParameterError, ShapeError
from ..graph import Population
from ..neurons.kernels_cpu import spread
from . import kernels_cpu, reference
from .kernels_cpu import WIDTH

LEAST_THRESHOLD = 1e-3
"""Training keeps thresholds at or above this share of their start."""


class Layout(NamedTuple):
    """How the columns of an array [T, M] are cut into blocks, and lie on an image.

    columns  M
    width    of a block; block k holds the columns from k·width on
    row      columns of an image row, where spikes are averaged over 2×2 pixels: pairs of rows follow each
             other, and a block holds whole pairs; 0 where they are not averaged
    inner    columns of a pixel
    """

    columns: int
    width: int
    row: int = 0
    inner: int = 1

    @property
    def blocks(self) -> int:
        """How many there are; the last may be narrower."""
        return -(-self.columns // self.width)


class _SoftReset(torch.autograd.Function):
    """`reference.soft_reset_lif` for arrays ``[Tx, M]`` by the kernels; pooled where `row` > 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, decay: Tensor, v_th: Tensor, steps: int, layout: Layout) -> Tensor:
        s = x.new_empty((steps, x.shape[1] // 4 if layout.row else x.shape[1]))
        neurons = decay.detach().numpy(), v_th.detach().numpy()
        arguments: list[Any] = [x.detach().numpy(), s.numpy(), neurons, tuple(layout)]
        spread(partial(kernels_cpu.forward, *arguments), layout.blocks, torch.get_num_threads())
        ctx.layout = layout
        ctx.save_for_backward(x, decay, v_th)
        return s

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, decay, v_th = ctx.saved_tensors
        layout, gs = ctx.layout, grads[0].contiguous()
        gx, shares = torch.empty_like(x), x.new_empty((2, layout.blocks))
        neurons = decay.detach().numpy(), v_th.detach().numpy()
        arrays = (a.detach().numpy() for a in (gs, x, gx, shares))
        arguments: list[Any] = [*arrays, neurons, tuple(layout)]
        spread(partial(kernels_cpu.backward, *arguments), layout.blocks, torch.get_num_threads())
        gdecay, gv_th = shares.view(2, -1, len(v_th)).sum(1)
        return gx, gdecay, gv_th, None, None


class SpikingLayer(nn.Module):
    """Soft-reset neurons with one learned threshold and decay, or one a channel; see `reference`.

    v_th      threshold, positive, in units of the input
    decay     share of the potential that a step leaves, 0 ≤ decay ≤ 1
    channels  learn so many of each, for inputs ``[T, B, channels, …]``; None: one for all
    """

    def __init__(self, v_th: float = 1.0, decay: float = 1.0, channels: int | None = None) -> None:
        super().__init__()
        if not v_th > 0:
            raise ParameterError(f"SpikingLayer: the threshold v_th = {v_th} must be positive.")
        if not 0 <= decay <= 1:
            raise ParameterError(f"SpikingLayer: decay = {decay} must lie in 0..1.")
        self.channels = channels
        self.v_th = nn.Parameter(torch.full((channels or 1,), float(v_th)))
        self.decay = nn.Parameter(torch.full((channels or 1,), float(decay)))
        self.register_buffer("least", LEAST_THRESHOLD * self.v_th.detach().clone())
        self.least: Tensor

    @torch.no_grad()
    def set_threshold(self, v_th: Tensor) -> None:
        """New thresholds, a scalar or [channels]. Raises `ParameterError` unless they are positive."""
        if not bool((v_th > 0).all()):
            raise ParameterError(f"SpikingLayer: thresholds must be positive, got {float(v_th.min())}.")
        self.v_th.copy_(v_th)
        self.least.copy_(LEAST_THRESHOLD * v_th)

    @torch.no_grad()
    def clamp_(self) -> None:
        """Bring decay back into 0..1 and keep v_th positive; call after each optimiser step."""
        self.decay.clamp_(0, 1)
        torch.maximum(self.v_th, self.least, out=self.v_th)

    def population(self, name: str, shape: tuple[int, ...]) -> Population:
        """The neurons as a part of a `Graph`, parameters in float64; `GraphError` for thresholds ≤ 0."""
        if not bool((self.v_th > 0).all()):
            raise GraphError(
                f"layer {name!r} (SpikingLayer): threshold {self.v_th.detach().min()} must be positive."
            )
        wide = (-1, *[1] * (len(shape) - 1)) if len(self.v_th) > 1 else ()
        params: dict[str, Any] = {
            "decay": self.decay.detach().double().cpu().numpy().reshape(wide),
            "gain": 1.0,
            "v_th": self.v_th.detach().double().cpu().numpy().reshape(wide),
            "v_reset": 0.0,
            "v_rest": 0.0,
        }
        return Population(name, "lif", shape, params, options={"reset": "soft"})

    def shaped(self, parameter: Tensor, axes: int) -> Tensor:
        """A parameter so that it broadcasts to ``[B, C, …]`` of so many axes."""
        return parameter.view(-1, *[1] * (axes - 2)) if self.channels else parameter

    def forward(self, x: Tensor, steps: int = 1, static: bool = False, pool: bool = False) -> Tensor:
        """Currents ``[T·B, …]``, or ``[B, …]`` if static → spikes ``[T·B, …]``.

        pool  for ``[T·B, C, H, W]`` with even H and W: spikes averaged over 2×2 pixels
        """
        if self.channels is not None and x.shape[1] != self.channels:
            raise ShapeError(f"SpikingLayer has {self.channels} channels, the input is {list(x.shape)}.")
        rows = 1 if static else steps
        batch = x.shape[0] // rows
        x = x.to(self.v_th.dtype)  # autocast's currents are narrower
        if backend.choose("soft_reset_lif", x.device.type, ("numba", "reference")) == "reference":
            decay, v_th = self.shaped(self.decay, x.ndim), self.shaped(self.v_th, x.ndim)
            s = reference.soft_reset_lif(x.view(rows, batch, *x.shape[1:]), decay, v_th, steps).flatten(0, 1)
            return F.avg_pool2d(s, 2) if pool else s
        # any memory format will do if all neurons are alike, as long as time is outermost
        wide = x.ndim == 4 and self.channels is None and x.is_contiguous(memory_format=torch.channels_last)
        flat = (x.permute(0, 2, 3, 1) if wide else x).reshape(rows, -1)
        s = _SoftReset.apply(  # type: ignore[no-untyped-call]
            flat, self.decay, self.v_th, steps, self._layout(x, rows, wide, pool)
        )
        n, shape = steps * batch, list(x.shape[1:])
        if pool:
            shape[1:] = shape[1] // 2, shape[2] // 2
        if wide:
            c, h, w = shape
            return s.view(n, h, w, c).permute(0, 3, 1, 2)
        return s.view(n, *shape)

    def _layout(self, x: Tensor, rows: int, wide: bool, pool: bool) -> Layout:
        """Blocks of currents x ``[rows·B, …]``; wide: channels are innermost."""
        row, inner = (x.shape[3] * x.shape[1], x.shape[1]) if wide else (x.shape[-1], 1)
        columns, width = x.numel() // rows, WIDTH
        if self.channels:
            width = columns // (x.shape[0] // rows * self.channels)
        elif pool:
            width = max(1, width // (2 * row)) * 2 * row
        return Layout(columns=columns, width=width, row=row if pool else 0, inner=inner)

    def extra_repr(self) -> str:
        return f"v_th={self.v_th.detach().mean():.4g}, decay={self.decay.detach().mean():.4g}"
