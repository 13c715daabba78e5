"""As many steps as an image needs: stop when the read-out is sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import ParameterError
from ..training.evaluation import evaluating
from .measuring import check_labelled
from .spiking import SpikingNet
from .walking import Step


@dataclass
class Exits:
    """Predictions and how many steps each took.

    predictions  int64 [B]
    steps        int64 [B]
    confidence   [B] at the exit
    """

    predictions: np.ndarray
    steps: np.ndarray
    confidence: np.ndarray


@torch.no_grad()
def early_exit(
    network: SpikingNet, images: np.ndarray | Tensor, threshold: float, steps: int | None = None
) -> Exits:
    """Run images ``[B, C, H, W]`` step by step; each leaves when the largest class probability suffices.

        p[t] = softmax(V[t] / t),   V[t] the read-out's potential after t steps

    An image leaves after the first step with max p[t] ≥ threshold, or after `steps` (None: the
    network's T). Those that left cost nothing any more. What the image meets before the first neuron is
    computed once. threshold > 1 never lets go early.
    """
    most = network.steps if steps is None else steps
    if most < 1 or not threshold > 0:
        raise ParameterError(f"early_exit needs steps ≥ 1 and threshold > 0, got {most} and {threshold}.")
    parameter = next(network.parameters())
    x = torch.as_tensor(images).to(parameter.device, parameter.dtype)
    where = torch.arange(len(x), device=x.device)
    predictions = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    taken, sure = torch.zeros_like(predictions), torch.zeros(len(x), dtype=x.dtype, device=x.device)
    run = Step()
    v: Tensor | None = None
    with evaluating(network):
        for t in range(1, most + 1):
            if len(where) == 0:
                break
            added = network.step(x, run)
            v = added if v is None else v + added
            p = torch.softmax(v / t, 1).amax(1)
            out = (p >= threshold) | (t == most)
            predictions[where[out]] = v[out].argmax(1)
            taken[where[out]], sure[where[out]] = t, p[out]
            if bool(out.any()):
                x, v, where = x[~out], v[~out], where[~out]
                run.keep(~out)
    return Exits(predictions.cpu().numpy(), taken.cpu().numpy(), sure.cpu().numpy())


def exit_table(
    network: SpikingNet,
    images: np.ndarray,
    labels: np.ndarray,
    thresholds: Sequence[float] = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99),
    batch: int = 250,
) -> list[dict[str, float]]:
    """A row a threshold: accuracy and mean steps; the last row never leaves early (threshold 2)."""
    check_labelled(images, labels)
    rows = []
    for threshold in (*thresholds, 2.0):
        parts = [early_exit(network, images[k : k + batch], threshold) for k in range(0, len(images), batch)]
        right = np.concatenate([e.predictions for e in parts]) == labels
        steps = np.concatenate([e.steps for e in parts])
        rows.append(
            {"threshold": threshold, "accuracy": float(right.mean()), "mean_steps": float(steps.mean())}
        )
    return rows


def choose_threshold(rows: Sequence[dict[str, float]], tolerance: float = 0.0) -> float:
    """The threshold of `exit_table` with the fewest steps that loses at most `tolerance` of accuracy.

    Give it a table of validation images. Raises `ParameterError` without rows or for a tolerance < 0.
    """
    if not rows:
        raise ParameterError("there are no rows to choose a threshold from.")
    if not tolerance >= 0:
        raise ParameterError(f"tolerance = {tolerance} of accuracy must be at least 0.")
    fine = [r for r in rows if r["accuracy"] >= rows[-1]["accuracy"] - tolerance]
    return min(fine, key=lambda r: r["mean_steps"])["threshold"]
