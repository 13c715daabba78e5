"""The delayed product as a plain dense convolution: what every kernel of this folder computes.

    y[t, b, o] = Σ_i Σ_k w[o, i, k] · Σ_d K(d; p[o, i, k], σ) · x[t − d, b, i]

with x = 0 before its first and after its last step, for t = 0 … T − 1 + padding_right.
"""

import torch
from torch import Tensor

from .kernel import window_weights
from .synapses import Synapses


def response(synapses: Synapses) -> Tensor:
    """Σ_k w·K: what every synapse makes of one spike, ``[window, O, I]`` (of every channel, ``[window, N]``).

    In the dtype of the weights, differentiable in weight, position and σ. Raises `ParameterError` for an
    unknown version.
    """
    weight, position, sigma, window, version = synapses
    return (weight * window_weights(position, sigma, window, version)).sum(-1)


def delayed_product(x: Tensor, synapses: Synapses, padding_right: int = 0) -> Tensor:
    """``[T, B, I] → [T + padding_right, B, O]`` for weights ``[O, I, K]``, x in their dtype."""
    padded = torch.nn.functional.pad(x.permute(1, 2, 0), (synapses.window - 1, padding_right))
    y = torch.nn.functional.conv1d(padded, response(synapses).flip(0).permute(1, 2, 0))
    return y.permute(2, 0, 1)


def channel_delay(x: Tensor, synapses: Synapses, padding_right: int = 0) -> Tensor:
    """``[T, B, N] → [T + padding_right, B, N]`` for weights ``[N, K]``, x in their dtype.

    y[t, b, n] = Σ_k w[n, k] · Σ_d K(d; p[n, k], σ) · x[t − d, b, n]
    """
    padded = torch.nn.functional.pad(x.permute(1, 2, 0), (synapses.window - 1, padding_right))
    y = torch.nn.functional.conv1d(padded, response(synapses).flip(0).T[:, None], groups=x.shape[2])
    return y.permute(2, 0, 1)
