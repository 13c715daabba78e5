"""Batch norm into the weights before it, since a spiking network has none."""

from __future__ import annotations

import copy
from collections import OrderedDict

import torch
from torch import nn

from ..errors import ParameterError
from ..training.network import norm_factor
from .ann import NORMS, SYNAPSES, Residual, check_ann


def fold_batchnorm(ann: nn.Sequential) -> nn.Sequential:
    """A copy without batch norms that computes what `ann` computes in evaluation mode.

        a = γ/√(σ² + ε),   W ← a·W,   b ← a·(b − μ) + β

    μ and σ² are the running statistics. Raises `ParameterError` naming a batch norm that has none
    (never trained, or ``track_running_stats=False``) or that follows no synapses.
    """
    check_ann(ann)
    return _fold(ann, "")


def _fold(sequence: nn.Sequential, prefix: str) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    last: nn.Module | None = None
    for name, layer in sequence.named_children():
        full = f"{prefix}{name}"
        if isinstance(layer, NORMS):
            if not isinstance(last, SYNAPSES):
                raise ParameterError(
                    f"layer {full!r} ({type(layer).__name__}) follows no Conv2d or Linear in its Sequential; "
                    "batch norm folds into the weights right before it."
                )
            _into(last, layer, full)
            last = None
        elif isinstance(layer, nn.Sequential):
            layers[name] = last = _fold(layer, f"{full}.")
        elif isinstance(layer, Residual):
            body, shortcut = (
                _fold(_sequential(part), f"{full}.{kind}.")
                for part, kind in ((layer.body, "body"), (layer.shortcut, "shortcut"))
            )
            layers[name] = last = Residual(body, shortcut)
        else:
            layers[name] = last = copy.deepcopy(layer)
    return nn.Sequential(layers)


def _sequential(part: nn.Module) -> nn.Sequential:
    return part if isinstance(part, nn.Sequential) else nn.Sequential(part)


@torch.no_grad()
def _into(synapses: nn.Module, norm: nn.Module, name: str) -> None:
    assert isinstance(synapses, SYNAPSES)
    assert isinstance(norm, NORMS)
    mean, batches = norm.running_mean, norm.num_batches_tracked
    if mean is None or batches is None or int(batches) == 0:
        raise ParameterError(
            f"layer {name!r} ({type(norm).__name__}) has no running statistics; train the ANN with "
            "track_running_stats=True before it is converted."
        )
    scale = norm_factor(norm)
    bias = -mean if synapses.bias is None else synapses.bias - mean
    bias = bias * scale
    if norm.bias is not None:
        bias = bias + norm.bias
    synapses.weight.mul_(scale.reshape(-1, *[1] * (synapses.weight.ndim - 1)))
    synapses.bias = nn.Parameter(bias)
