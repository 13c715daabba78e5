"""Learning rates and kernel widths over the epochs, all stepped once an epoch."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
)

from ..delays import sigma_at
from ..neurons import NeuronModule
from .config import Config, Group, Train
from .network import ImageBatchNorm, SpikingClassifier, TimeBatchNorm


def optimisers(network: SpikingClassifier, config: Config) -> dict[str, tuple[Optimizer, LRScheduler]]:
    """Adam for the weights and Adam for the positions, each with its schedule.

    Weight decay acts on synaptic weights only: not on batch norms, time constants or positions.
    """
    train = config.train
    positions = [layer.position for layer in network.delayed if layer.position.requires_grad]
    taken = {id(p) for p in positions}
    kept = (TimeBatchNorm, ImageBatchNorm, NeuronModule)
    undecayed = {id(p) for m in network.modules() if isinstance(m, kept) for p in m.parameters()}
    rest = [p for p in network.parameters() if p.requires_grad and id(p) not in taken]
    groups: dict[str, tuple[list[dict[str, Any]], Group]] = {
        "weights": (
            [
                {"params": [p for p in rest if p.ndim > 1 and id(p) not in undecayed]},
                {"params": [p for p in rest if p.ndim <= 1 or id(p) in undecayed], "weight_decay": 0.0},
            ],
            train.weights,
        ),
        "positions": ([{"params": positions}], train.positions),
    }
    made: dict[str, tuple[Optimizer, LRScheduler]] = {}
    for name, (params, group) in groups.items():
        params = [g for g in params if g["params"]]
        if params:
            optimiser = torch.optim.Adam(params, lr=group.lr, weight_decay=group.weight_decay)
            made[name] = (optimiser, schedule(optimiser, group, train.epochs))
    return made


def schedule(optimiser: Optimizer, group: Group, epochs: int) -> LRScheduler:
    """The learning-rate schedule of a group."""
    if group.schedule == "onecycle":
        return OneCycleLR(optimiser, max_lr=group.lr_max, total_steps=epochs)
    if group.schedule == "cosine":
        return CosineAnnealingLR(optimiser, T_max=epochs)
    if group.schedule == "plateau":
        return ReduceLROnPlateau(optimiser, mode="max", factor=0.5, patience=5)
    return ConstantLR(optimiser, factor=1.0, total_iters=0)


def kernel_width(train: Train, max_delay: int, epoch: int) -> float:
    """σ of the delay kernels in `epoch` (from 0), steps: `snnkit.delays.sigma_at` of a configuration."""
    first = train.sigma or max(max_delay / 2, train.sigma_final)
    shrinking = int(train.sigma_epochs * train.epochs)
    return sigma_at(epoch, train.epochs, first, train.sigma_final, shrinking)
