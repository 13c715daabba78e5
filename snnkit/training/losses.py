"""From the read-out's potentials to class scores and losses, padding masked out.

A read-out turns ``v [T, B, C]`` and the number of valid steps of each sample into scores ``[B, C]``;
the loss is the cross entropy of the scores, the prediction their argmax.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def valid_steps(steps: int, lengths: Tensor) -> Tensor:
    """Mask ``[T, B]``: True in the first ``lengths[b]`` steps of sample b."""
    return torch.arange(steps, device=lengths.device)[:, None] < lengths[None, :]


def softmax_sum(v: Tensor, mask: Tensor) -> Tensor:
    """Σ_t softmax(v_t): Hammouamri et al., ICLR 2024, section 4."""
    return (torch.softmax(v, -1) * mask[..., None]).sum(0)


def max_over_time(v: Tensor, mask: Tensor) -> Tensor:
    """max_t v_t: Cramer et al., IEEE TNNLS 33(7), 2022."""
    return v.masked_fill(~mask[..., None], -torch.inf).amax(0)


def last_step(v: Tensor, mask: Tensor) -> Tensor:
    """v at the last valid step."""
    last = mask.sum(0).clamp(min=1) - 1
    return v[last, torch.arange(v.shape[1], device=v.device)]


def mean(v: Tensor, mask: Tensor) -> Tensor:
    """Mean of v over the valid steps."""
    return (v * mask[..., None]).sum(0) / mask.sum(0).clamp(min=1)[:, None]


def spike_count(s: Tensor, mask: Tensor) -> Tensor:
    """Spikes of each output neuron in the valid steps."""
    return (s * mask[..., None]).sum(0)


READOUTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "softmax_sum": softmax_sum,
    "max_over_time": max_over_time,
    "last_step": last_step,
    "mean": mean,
    "spike_count": spike_count,
}


def readout_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of the scores, mean over the batch."""
    return F.cross_entropy(scores, labels)


def rate_penalty(spikes: list[Tensor], mask: Tensor, target: float) -> Tensor:
    """Σ_layers mean over neurons of max(0, rate − target)²; rate in spikes per neuron and valid step."""
    penalty = torch.zeros((), device=mask.device)
    for s in spikes:
        inside = mask[: s.shape[0], :, None]
        rate = (s * inside).sum((0, 1)) / inside.sum()
        penalty = penalty + torch.relu(rate - target).square().mean()
    return penalty
