"""What a learned delay means: position and σ → the weight of every delay of the window.

A synapse has a real-valued position p (steps, 0 ≤ p ≤ window − 1). While it learns, its spike is
spread over the integer delays d = 0 … window − 1 by a kernel that sums to 1:

    K(d; p, σ) = u(d) / (Σ_e u(e) + 1e-7)
    gauss      u(d) = exp(−½ ((d − p) / w)²)       w = |σ| + 0.27
    triangle   u(d) = max(0, w − |d − p|)          w = |σ| + 1
    max        K(d) = 1 if d = round(p) else 0     what is left after training; no gradient to p

These are the kernels ("gauss", "max") of Khalfaoui-Hassani, Pellegrini and Masquelier, ICLR 2023,
with the widths of their package, and delays in place of kernel indices: its P is
``window // 2 − p``. Its version "max" is our "triangle", whose limit σ = 0 is linear interpolation.
"""

import torch
from torch import Tensor

from ..errors import ParameterError

VERSIONS = ("gauss", "triangle", "max")
FLOOR = 1e-7
"""Keeps the normalisation finite, as in the dcls package."""
LEAST_WIDTH = {"gauss": 0.27, "triangle": 1.0, "max": 0.0}
"""Width of the kernel at σ = 0, steps."""


def check_version(version: str) -> str:
    """Return `version`, or raise."""
    if version not in VERSIONS:
        raise ParameterError(f"unknown kernel version {version!r}; known are {', '.join(VERSIONS)}.")
    return version


def width(sigma: Tensor, version: str) -> Tensor:
    """|σ| plus the least width of the version, steps."""
    return sigma.abs() + LEAST_WIDTH[version]


def window_weights(position: Tensor, sigma: Tensor, window: int, version: str = "gauss") -> Tensor:
    """K(d; p, σ) for every delay: ``[window, *position.shape]``, differentiable in p and σ.

    position  steps, any shape
    sigma     steps; scalar or broadcasts to `position`
    window    number of delays, max_delay + 1
    """
    delay = torch.arange(window, dtype=position.dtype, device=position.device)
    delay = delay.reshape(-1, *(1 for _ in position.shape))
    if check_version(version) == "max":
        return (delay == position.detach().round()).to(position.dtype)
    distance = delay - position
    wide = width(sigma.to(position.dtype), version)
    if version == "gauss":
        unscaled = torch.exp(-0.5 * (distance / wide) ** 2)
    else:
        unscaled = torch.relu(wide - distance.abs())
    return unscaled / (unscaled.sum(0) + FLOOR)
