"""Spikes kept for the backward pass as bits, and convolutions whose gradients are worked out in bfloat16."""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..neurons.kernels_cpu import spread
from . import kernels_cpu

BFLOAT16_ONE = np.int16(0x3F80)


class Bits:
    """Saves spikes for the backward pass as bits, 1/32 of their size, by autograd's own hooks.

    A spike tensor is known by its memory, as long as it lives; `value` is what a spike is worth in it.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.known: dict[int, tuple[weakref.ref[Tensor], float]] = {}
        self.packed: dict[int, tuple[weakref.ref[Tensor], Any]] = {}

    def mark(self, s: Tensor, value: float = 1.0) -> Tensor:
        self.known[s.data_ptr()] = weakref.ref(s), value
        return s

    def holds(self, x: Tensor) -> bool:
        """True if x, of any shape, is a spike tensor that `mark` was given."""
        entry = self.known.get(x.data_ptr())
        s = None if entry is None else entry[0]()
        return s is not None and s.numel() == x.numel() and _dense(x)

    def pack(self, x: Tensor) -> Any:
        if not self.holds(x):
            return x
        s, value = self.known[x.data_ptr()]
        again = self.packed.get(x.data_ptr())
        if again is not None and again[0]() is s() and again[1][1:4] == (x.shape, x.stride(), x.dtype):
            return again[1]
        flat = torch.as_strided(
            x.detach(), (self.steps, x.numel() // self.steps), (x.numel() // self.steps, 1)
        )
        bits = torch.empty((-(-self.steps // 8), flat.shape[1]), dtype=torch.uint8)
        spread(partial(kernels_cpu.pack, flat.numpy(), bits.numpy()), flat.shape[1], torch.get_num_threads())
        held = (bits, x.shape, x.stride(), x.dtype, value)
        self.packed[x.data_ptr()] = s, held
        return held

    def unpack(self, held: Any) -> Tensor:
        if isinstance(held, Tensor):
            return held
        bits, shape, stride, dtype, value = held
        one = torch.tensor(value, dtype=dtype).numpy()[()]
        return torch.as_strided(self._spikes(bits, one), shape, stride)

    def unpack_half(self, held: Any) -> tuple[Tensor, float]:
        """Spikes in bfloat16, each 1, and what one is worth."""
        bits, shape, stride, _, value = held
        ones = self._spikes(bits, BFLOAT16_ONE).view(torch.bfloat16)
        return torch.as_strided(ones, shape, stride), value

    def _spikes(self, bits: Tensor, value: Any) -> Tensor:
        array = np.empty((self.steps, bits.shape[1]), value.dtype)
        spread(
            partial(kernels_cpu.unpack, bits.numpy(), array, value), bits.shape[1], torch.get_num_threads()
        )
        return torch.from_numpy(array)


def _dense(x: Tensor) -> bool:
    return x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))


class MixedConv(torch.autograd.Function):
    """A convolution in float32 whose gradients are worked out in bfloat16, sums in float32.

    Spikes have their exact value in both; those that `bits` knows are kept as bits.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, bits: Bits | None, options: tuple[Any, ...]
    ) -> Tensor:
        half = torch.bfloat16
        ctx.packed = bits.pack(x) if bits is not None and bits.holds(x) else None
        ctx.save_for_backward(weight, x.to(half) if ctx.packed is None else None)
        ctx.bits, ctx.options, ctx.bias = bits, options, bias is not None
        return F.conv2d(x, weight, bias, *options)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weight, x = ctx.saved_tensors
        x, worth = (x, 1.0) if ctx.packed is None else ctx.bits.unpack_half(ctx.packed)
        g, half = grads[0], torch.bfloat16
        stride, padding, dilation, groups = ctx.options
        mask = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.bias]
        gx, gweight, gbias = torch.ops.aten.convolution_backward(
            g.to(half), x, weight.to(half), [len(weight)], stride, padding, dilation, False, [0, 0], groups,
            mask,
        )  # fmt: skip
        gx, gbias = (None if a is None else a.to(g.dtype) for a in (gx, gbias))
        gweight = None if gweight is None else gweight.to(g.dtype).mul_(worth)
        return gx, gweight, gbias, None, None
