"""The delayed product through a discrete Fourier transform of the time axis.

Computes `reference.delayed_product` from the response of every synapse, ``kernel [window, O, I]``.
Along time it is a convolution, and a convolution of length L is L/2 complex products of single
frequencies; each is a matrix product over inputs (forward), outputs (gradient of x) or batch (gradient
of the kernel). With three real products for a complex one,

    m1 = a·c   m2 = b·d   m3 = (a + b)(c + d)      (a + ib)(c + id) = (m1 − m2) + i (m3 − m1 − m2)

the whole is y = Cᵀ[(A x) · (B k)] with constant real matrices A, B and C of about 1.5·L rows, and so
its adjoints are gx = Aᵀ[(C g) · (B k)] and gk = Bᵀ[(C g) · (A x)]. The cost depends neither on σ nor on
the number of taps, and hardly on the longest delay.

`fft_cpu` applies the matrices by fast transforms; `matrices` defines them.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import memory
from . import fft_cpu

_CHUNK = 8 << 20
"""Numbers in one transformed block of samples: twice as many take 3 % less time and 60 MB more."""


def unwritten(*shape: int, like: Tensor) -> Tensor:
    """An unwritten tensor of this shape in the dtype of `like`, on large pages where it is large."""
    out = like.new_empty(shape)
    size = out.numel() * out.element_size()
    if size >= memory.LARGE:
        memory.huge_pages(out.data_ptr(), size)
    return out


class Geometry(NamedTuple):
    """Steps of the input, delays, steps of the output."""

    steps: int
    window: int
    steps_out: int

    @property
    def length(self) -> int:
        """Period of the transform: no delayed spike may come round to the start."""
        return fft_cpu.good_length(max(self.steps + self.window - 1, self.steps_out))

    @property
    def points(self) -> int:
        """Rows of A, B and C."""
        whole = (self.length - 1) // 2
        return self.length // 2 + 1 + 2 * whole


def matrices(geometry: Geometry, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """A ``[points, steps]``, B ``[points, window]`` and C ``[points, steps_out]``."""
    length = geometry.length
    frequencies = torch.arange(length // 2 + 1, dtype=torch.float64)
    real = (frequencies == 0) | (2 * frequencies == length)
    whole, half = frequencies[~real], frequencies[real]

    def waves(n: int, at: Tensor) -> tuple[Tensor, Tensor]:
        angle = 2 * math.pi / length * (at[:, None] * torch.arange(n, dtype=torch.float64) % length)
        return torch.cos(angle), torch.sin(angle)

    def analysis(n: int) -> Tensor:
        c, s = waves(n, whole)
        return torch.cat([waves(n, half)[0], c, s, c + s])

    c, s = waves(geometry.steps_out, whole)
    edge = waves(geometry.steps_out, half)[0]
    synthesis = torch.cat([edge, 2 * (c - s), -2 * (c + s), 2 * s]) / length
    parts = analysis(geometry.steps), analysis(geometry.window), synthesis
    a, b, c = (part.to(dtype) for part in parts)
    return a, b, c


def analyse(
    x: Tensor, geometry: Geometry, adjoint: bool = False, out: Tensor | None = None, bfloat16: bool = False
) -> Tensor:
    """A x (or B x, for a kernel), or with `adjoint` C x: ``[steps, *, n] → [points, *, n]``.

    x may be a part of a contiguous tensor in its second dimension. `out`, if given, is memory to use, of
    the dtype of the result: that of x, or with `bfloat16` that.
    """
    points, columns = geometry.points, x[0].numel()
    if columns < 2 * fft_cpu.WIDE:
        wide = torch.nn.functional.pad(x.reshape(x.shape[0], -1), (0, 2 * fft_cpu.WIDE - columns))
        found = analyse(wide, geometry, adjoint, bfloat16=bfloat16)
        return found[:, :columns].reshape(points, *x.shape[1:])
    if out is None:
        like = x.new_empty(0, dtype=torch.bfloat16 if bfloat16 else x.dtype)
        out = unwritten(points, *x.shape[1:], like=like)
    out = _part(out, points, *x.shape[1:])
    whole = _storage(x)
    passes = fft_cpu.plan(geometry.length, str(x.dtype).removeprefix("torch."))
    part = (x.storage_offset(), x.stride(0), x.shape[0], columns)
    fft_cpu.analyse(whole, part, adjoint, passes, _flat(out))
    return out


def synthesise(m: Tensor, geometry: Geometry, out: Tensor, adjoint: bool = False) -> None:
    """Write Cᵀ m, or with `adjoint` Aᵀ m (Bᵀ m), into `out`, ``[points, *, n] → [steps, *, n]``.

    `out` may be a part of a contiguous tensor in its second dimension.
    """
    columns = m[0].numel()
    if columns < 2 * fft_cpu.WIDE:
        wide = torch.nn.functional.pad(m.reshape(m.shape[0], -1), (0, 2 * fft_cpu.WIDE - columns))
        wide_out = out.new_empty((out.shape[0], 2 * fft_cpu.WIDE))
        synthesise(wide, geometry, wide_out, adjoint)
        out.copy_(wide_out[:, :columns].reshape(out.shape))
        return
    passes = fft_cpu.plan(geometry.length, str(out.dtype).removeprefix("torch."))
    part = (out.storage_offset(), out.stride(0), out.shape[0], columns)
    fft_cpu.synthesise(_flat(m), part, adjoint, passes, _storage(out))


def _part(memory: Tensor, *shape: int) -> Tensor:
    """A contiguous tensor of this shape in the first of `memory`'s numbers."""
    return memory.view(-1)[: math.prod(shape)].view(shape)


def _flat(x: Tensor) -> np.ndarray:
    """All numbers of a contiguous tensor; bfloat16 as uint16."""
    x = x.view(-1)
    return x.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else x.numpy()


def _storage(x: Tensor) -> np.ndarray:
    """All of the memory that x is a part of, flat."""
    size = x.untyped_storage().nbytes() // x.element_size()
    return x.as_strided((size,), (1,), 0).numpy()


def _chunk(geometry: Geometry, features: int) -> int:
    return max(1, _CHUNK // (geometry.points * features))


def product(x: Tensor, kernel: Tensor, steps_out: int) -> Tensor:
    """y ``[steps_out, B, O]``, y[t] = Σ_d kernel[d]·x[t − d]; x ``[T, B, I]``, kernel ``[window, O, I]``."""
    geometry = Geometry(x.shape[0], kernel.shape[0], steps_out)
    batch, inputs, outputs = x.shape[1], x.shape[2], kernel.shape[1]
    y = unwritten(steps_out, batch, outputs, like=x)
    spectrum = analyse(kernel.contiguous(), geometry).transpose(1, 2)
    chunk = min(batch, _chunk(geometry, max(inputs, outputs)))
    points = geometry.points
    one, two = unwritten(points, chunk, inputs, like=x), unwritten(points, chunk, outputs, like=x)
    for b in range(0, batch, chunk):
        part = analyse(x[:, b : b + chunk], geometry, out=one)
        m = _part(two, points, part.shape[1], outputs)
        synthesise(torch.bmm(part, spectrum, out=m), geometry, y[:, b : b + chunk])
    return y


def gradient(
    g: Tensor, x: Tensor, kernel: Tensor | None, window: int, of_kernel: bool, bfloat16: bool = False
) -> tuple[Tensor | None, Tensor | None]:
    """∂L/∂x (if the kernel is given) and ∂L/∂kernel (if asked for) from g = ∂L/∂y ``[steps_out, B, O]``.

    x ``[T, B, I]`` and kernel ``[window, O, I]``, as are their gradients.
    With `bfloat16` the products of ∂L/∂x are of numbers rounded to 8 bits (and summed in float32).
    """
    geometry = Geometry(x.shape[0], window, g.shape[0])
    points = geometry.points
    batch, outputs, inputs = x.shape[1], g.shape[2], x.shape[2]
    half = bfloat16 and x.dtype == torch.float32
    # the gradient of the kernel has its own, exact transform of g
    both = half and of_kernel
    gx = unwritten(*x.shape, like=x) if kernel is not None else None
    spectrum = analyse(kernel.contiguous(), geometry, bfloat16=half) if kernel is not None else None
    gm = unwritten(points, outputs, inputs, like=x) if of_kernel else None
    chunk = min(batch, _chunk(geometry, max(inputs, outputs)))
    like = x.new_empty(0, dtype=torch.bfloat16) if half else x
    one, two = unwritten(points, chunk, outputs, like=like), unwritten(points, chunk, inputs, like=like)
    exact = [unwritten(points, chunk, n, like=x) for n in (outputs, inputs)] if both else [one, two]
    for b in range(0, batch, chunk):
        cut = g[:, b : b + chunk]
        if gx is not None and spectrum is not None:
            part = analyse(cut, geometry, adjoint=True, out=one, bfloat16=half)
            m = _part(two, points, part.shape[1], inputs)
            torch.bmm(part, spectrum, out=m)
            synthesise(m, geometry, gx[:, b : b + chunk], adjoint=True)
        if gm is not None:
            if gx is None or both:
                part = analyse(cut, geometry, adjoint=True, out=exact[0])
            spikes = analyse(x[:, b : b + chunk], geometry, out=exact[1])
            if b == 0:
                torch.bmm(part.transpose(1, 2), spikes, out=gm)
            else:
                gm.baddbmm_(part.transpose(1, 2), spikes)
    gk = None
    if gm is not None:
        gk = unwritten(window, outputs, inputs, like=x)
        synthesise(gm, geometry, gk, adjoint=True)
    return gx, gk
