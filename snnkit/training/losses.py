"""What is minimised: the cross entropy of the read-out's scores, and a penalty on rates."""

import torch
from torch import Tensor
from torch.nn import functional as F


def valid_steps(steps: int, lengths: Tensor) -> Tensor:
    """Mask ``[T, B]``: True in the first ``lengths[b]`` steps of sample b."""
    return torch.arange(steps, device=lengths.device)[:, None] < lengths[None, :]


def readout_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of the scores [B, C] against labels int64 [B], mean over the batch."""
    return F.cross_entropy(scores, labels)


def rate_penalty(spikes: list[Tensor], mask: Tensor, target: float) -> Tensor:
    """Σ_layers mean over neurons of max(0, rate − target)²; rate in spikes per neuron and valid step.

    spikes [T, B, N] of each layer, mask bool [T, B] of the steps that count.
    """
    penalty = torch.zeros((), device=mask.device)
    for s in spikes:
        inside = mask[: s.shape[0], :, None]
        rate = (s * inside).sum((0, 1)) / inside.sum()
        penalty = penalty + torch.relu(rate - target).square().mean()
    return penalty
