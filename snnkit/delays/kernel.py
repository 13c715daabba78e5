"""What a learned delay means: position and σ → the weight of every delay of the window.

A synapse has a real-valued position p (steps, 0 ≤ p ≤ window − 1). While it learns, its spike is
spread over the integer delays d = 0 … window − 1 by a kernel that sums to 1:

    K(d; p, σ) = u(d − p, w) / (Σ_e u(e − p, w) + 1e-7)     w = |σ| + the least width of the kernel
    gauss      u = exp(−½ ((d − p) / w)²)                   w = |σ| + 0.27
    triangle   u = max(0, w − |d − p|)                      w = |σ| + 1
    max        K(d) = 1 if d = round(p) else 0              what is left after training; no gradient to p

These are the kernels ("gauss", "max") of Khalfaoui-Hassani, Pellegrini and Masquelier, ICLR 2023,
with the widths of their package, and delays in place of kernel indices: its P is
``window // 2 − p``. Its version "max" is our "triangle", whose limit σ = 0 is linear interpolation.

A kernel is a row of `VERSIONS`. Its u as a function of tensors is enough to train with it; `taps`, u and
its derivatives once more for the loops of `taps_cpu`, makes it as fast as those that are here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ParameterError

FLOOR = 1e-7
"""Keeps the normalisation finite, as in the dcls package."""


def everywhere(wide: float, tolerance: float) -> float:
    """No distance is too long."""
    return math.inf


@dataclass(frozen=True)
class DelayKernel:
    """One kernel K.

    unscaled     ``unscaled(distance, wide)``, tensors → u(distance, wide) before it is normalised,
                 differentiable in both; distance is d − p, steps, and wide = |σ| + least_width
    least_width  width at σ = 0, steps
    rounded      True where p counts as the nearest integer and K = u as it is: no gradient to p and σ
    reach        ``reach(wide, tolerance)``: the distance from which on u is at most `tolerance` × the largest
                 value of K's taps, steps; inf where the whole window is needed
    taps         ``taps(p, wide, first, window, u, dp, dw)``: writes u, ∂u/∂p and ∂u/∂w of the delays first …
                 first + len(u) − 1 into the arrays, 0 beyond window − 1. Numbers, `math` and `np` only: its
                 source is compiled into the loops. None: those loops are not used
    """

    unscaled: Callable[[Tensor, Tensor], Tensor]
    least_width: float
    rounded: bool = False
    reach: Callable[[float, float], float] = everywhere
    taps: Callable[..., None] | None = None


def gauss(distance: Tensor, wide: Tensor) -> Tensor:
    """exp(−½ (distance / wide)²), of any shapes that broadcast."""
    return torch.exp(-0.5 * (distance / wide) ** 2)


def gauss_reach(wide: float, tolerance: float) -> float:
    """Where the Gaussian has fallen to `tolerance`."""
    return wide * (math.sqrt(2 * math.log(1 / tolerance)) if tolerance > 0 else math.inf)


def gauss_taps(p, wide, first, window, u, dp, dw):  # type: ignore[no-untyped-def]
    """From the delay nearest to p outwards, each value a multiple of the one before: u(d + 1)/u(d) falls by
    the same factor from delay to delay."""
    taps = len(u)
    inverse = 1 / wide
    c = inverse * inverse
    fall = math.exp(-c)
    middle = min(max(round(p) - first, 0), taps - 1)
    off = first + middle - p
    u[middle] = math.exp(-0.5 * c * off * off)
    ratio = math.exp(-c * (off + 0.5))
    for j in range(middle + 1, taps):
        u[j] = u[j - 1] * ratio
        ratio *= fall
    ratio = math.exp(c * (off - 0.5))
    for j in range(middle - 1, -1, -1):
        u[j] = u[j + 1] * ratio
        ratio *= fall
    for j in range(max(window - first, 0), taps):
        u[j] = 0.0
    for j in range(taps):
        a = (first + j - p) * inverse
        dp[j] = u[j] * a * inverse
        dw[j] = dp[j] * a


def triangle(distance: Tensor, wide: Tensor) -> Tensor:
    """max(0, wide − |distance|), of any shapes that broadcast."""
    return torch.relu(wide - distance.abs())


def triangle_reach(wide: float, tolerance: float) -> float:
    """Where the triangle ends."""
    return wide


def triangle_taps(p, wide, first, window, u, dp, dw):  # type: ignore[no-untyped-def]
    """Delay by delay."""
    for j in range(len(u)):
        d = first + j
        u[j], dp[j], dw[j] = 0.0, 0.0, 0.0
        if d < window:
            height = wide - abs(d - p)
            if height > 0:
                u[j] = height
                dp[j] = 1.0 if d > p else (-1.0 if d < p else 0.0)
                dw[j] = 1.0


def nearest(distance: Tensor, wide: Tensor) -> Tensor:
    """1 where the distance is 0, in its shape and dtype."""
    return (distance == 0).to(distance.dtype)


def nearest_reach(wide: float, tolerance: float) -> float:
    """Half a step to either side."""
    return 0.5


def nearest_taps(p, wide, first, window, u, dp, dw):  # type: ignore[no-untyped-def]
    """Delay by delay; there are no derivatives."""
    for j in range(len(u)):
        d = first + j
        u[j], dp[j], dw[j] = 0.0, 0.0, 0.0
        if d < window and d == round(p):
            u[j] = 1.0


ROUNDED = "max"
"""The version that evaluation uses, whatever was trained with."""

VERSIONS: dict[str, DelayKernel] = {
    "gauss": DelayKernel(gauss, 0.27, reach=gauss_reach, taps=gauss_taps),
    "triangle": DelayKernel(triangle, 1.0, reach=triangle_reach, taps=triangle_taps),
    ROUNDED: DelayKernel(nearest, 0.0, rounded=True, reach=nearest_reach, taps=nearest_taps),
}
"""Version → kernel. Add to it to make a kernel of one's own known everywhere."""


def resolve(version: str) -> DelayKernel:
    """The kernel of this version. Raises `ParameterError` with the known ones if there is none."""
    if version not in VERSIONS:
        raise ParameterError(f"unknown kernel version {version!r}; known are {', '.join(VERSIONS)}.")
    return VERSIONS[version]


def window_weights(position: Tensor, sigma: Tensor, window: int, version: str = "gauss") -> Tensor:
    """K(d; p, σ) for every delay: ``[window, *position.shape]``, differentiable in p and σ.

    position  steps, any shape; the result has its dtype
    sigma     steps; scalar or broadcasts to `position`
    window    number of delays, max_delay + 1

    Raises `ParameterError` for a version that is not in `VERSIONS`.
    """
    kernel = resolve(version)
    delay = torch.arange(window, dtype=position.dtype, device=position.device)
    delay = delay.reshape(-1, *(1 for _ in position.shape))
    wide = sigma.to(position.dtype).abs() + kernel.least_width
    if kernel.rounded:
        return kernel.unscaled(delay - position.detach().round(), wide)
    unscaled = kernel.unscaled(delay - position, wide)
    return unscaled / (unscaled.sum(0) + FLOOR)
