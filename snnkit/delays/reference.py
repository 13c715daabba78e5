"""The delayed product as a plain dense convolution: what every kernel of this folder computes.

    y[t, b, o] = Σ_i Σ_k w[o, i, k] · Σ_d K(d; p[o, i, k], σ) · x[t − d, b, i]

with x = 0 before its first and after its last step, for t = 0 … T − 1 + padding_right.
"""

import torch
from torch import Tensor

from .kernel import window_weights


def synapse_kernel(weight: Tensor, position: Tensor, sigma: Tensor, window: int, version: str) -> Tensor:
    """Σ_k w·K: the response of every synapse to one spike, ``[window, O, I]``."""
    return (weight * window_weights(position, sigma, window, version)).sum(-1)


def delayed_product(
    x: Tensor,
    weight: Tensor,
    position: Tensor,
    sigma: Tensor,
    window: int,
    version: str = "gauss",
    padding_right: int = 0,
) -> Tensor:
    """``[T, B, I] → [T + padding_right, B, O]``; weight, position (and σ, or a scalar) ``[O, I, K]``."""
    kernel = synapse_kernel(weight, position, sigma, window, version)
    padded = torch.nn.functional.pad(x.permute(1, 2, 0), (window - 1, padding_right))
    y = torch.nn.functional.conv1d(padded, kernel.flip(0).permute(1, 2, 0))
    return y.permute(2, 0, 1)


def channel_delay(
    x: Tensor,
    weight: Tensor,
    position: Tensor,
    sigma: Tensor,
    window: int,
    version: str = "gauss",
    padding_right: int = 0,
) -> Tensor:
    """y[t, b, n] = Σ_k w[n, k] · Σ_d K(d; p[n, k], σ) · x[t − d, b, n]; weight and position ``[N, K]``."""
    kernel = (weight * window_weights(position, sigma, window, version)).sum(-1)
    padded = torch.nn.functional.pad(x.permute(1, 2, 0), (window - 1, padding_right))
    y = torch.nn.functional.conv1d(padded, kernel.flip(0).T[:, None], groups=x.shape[2])
    return y.permute(2, 0, 1)
