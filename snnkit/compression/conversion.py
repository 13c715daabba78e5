"""From a trained ANN to a spiking network: batch norm folded, thresholds set from the front to the back."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ParameterError, ShapeError
from . import reference
from .ann import NORMS, SYNAPSES, Residual, leaves
from .fold import fold_batchnorm
from .neuron import SpikingLayer
from .spiking import ChannelScale, SpikingNet
from .walking import Neuron, Step, walk


def convert(
    ann: nn.Sequential,
    calibration: Tensor | np.ndarray,
    percentile: float = 90.0,
    *,
    steps: int = 5,
    calibration_steps: int = 500,
    decay: float = 1.0,
    per_channel: bool = False,
) -> SpikingNet:
    """A spiking network with the weights of `ann`: the start of IIR-SNN.

    Every ReLU becomes a `SpikingLayer`. Layer after layer from the front, its threshold is the largest,
    over a long run without leak, of the percentile of the currents that enter it in a step, all neurons
    and images taken together, while the layers before it spike with the thresholds they already have
    (Chowdhury, Rathi and Roy, arXiv 2110.05929; Rathi and Roy, DIET-SNN). The image is the input of the
    first layer in every step (direct encoding).

    A spike is 1, and stands for an activation as large as its neuron's threshold: so the weights behind
    a spiking layer are those of the ANN times that threshold, biases stay as they are, and thresholds
    have the units of the ANN's activations. In the paper weights are copied and have no biases; there
    each layer's currents and threshold are smaller by the product of the thresholds before it, and
    spikes are the same.

    ann                not changed; may still have its batch norms
    calibration        images ``[B, C, H, W]``; the paper takes 512 of the training set
    percentile         in 0..100
    steps              T of the network that is returned
    calibration_steps  steps of the long run
    decay              start of the learned decays, at most 1
    per_channel        a threshold and a decay for each channel instead of one a layer; a channel whose
                       own percentile is not positive starts with the layer's

    Raises `ParameterError` naming the layer that can't be converted, the batch norm that has no
    statistics, or the layer whose threshold would not be positive.
    """
    folded = fold_batchnorm(ann)
    x = _checked(calibration, folded, percentile, calibration_steps)
    layers, head = _split(folded)
    spiking = _with_spikes(layers, decay, per_channel)
    network = SpikingNet(spiking, head, steps).to(x.device, x.dtype).eval()
    with torch.no_grad():
        for name, layer in network.spiking():
            _set_threshold(network, name, layer, x, percentile, calibration_steps)
        _scale(network.head, _scale(network.layers, torch.ones(1)))
    return network


def converted_like(ann: nn.Sequential, state: dict[str, Tensor], *, per_channel: bool = False) -> SpikingNet:
    """A network of the shape that `convert` gives for `ann`, to load a state of such a network into.

    Thresholds are those of `state`, the weights not yet.
    """
    layers, head = _split(fold_batchnorm(ann))
    network = SpikingNet(_with_spikes(layers, 1.0, per_channel), head)
    with torch.no_grad():
        for name, layer in network.spiking():
            v_th = state.get(f"layers.{name}.v_th")
            if v_th is not None:
                _learn(layer, v_th)
        _scale(network.head, _scale(network.layers, torch.ones(1)))
    return network


def _checked(calibration: Tensor | np.ndarray, ann: nn.Sequential, percentile: float, steps: int) -> Tensor:
    first = next(m for _, m in leaves(ann) if isinstance(m, SYNAPSES))
    x = torch.as_tensor(calibration).to(first.weight.device, first.weight.dtype)
    expected = f"[B, {first.in_channels}, H, W]" if isinstance(first, nn.Conv2d) else "[B, …]"
    wrong = x.ndim != 4 or x.shape[1] != first.in_channels if isinstance(first, nn.Conv2d) else x.ndim < 2
    if wrong:
        raise ShapeError(f"calibration images should be {expected}, got {list(x.shape)}.")
    if x.numel() == 0:
        raise ParameterError("the calibration set is empty; give some hundred training images.")
    if not bool(torch.isfinite(x).all()):
        raise ParameterError("the calibration images hold values that are not finite.")
    try:
        with torch.no_grad():
            copy.deepcopy(ann).eval()(x[:1])
    except RuntimeError as error:
        raise ShapeError(
            f"calibration images of shape {list(x.shape[1:])} do not go through the ANN: {error}"
        ) from error
    if not 0 < percentile <= 100:
        raise ParameterError(f"percentile = {percentile} must lie in (0, 100].")
    if steps < 1:
        raise ParameterError(f"calibration_steps = {steps} must be at least 1.")
    return x


def _split(ann: nn.Sequential) -> tuple[nn.Sequential, nn.Sequential]:
    """Up to the last part that holds a ReLU, and the rest."""
    parts = list(ann.named_children())
    last = max(k for k, (_, part) in enumerate(parts) if any(isinstance(m, nn.ReLU) for m in part.modules()))
    layers, head = parts[: last + 1], parts[last + 1 :]
    if not any(isinstance(m, SYNAPSES) for _, part in head for m in part.modules()):
        name = parts[last][0]
        raise ParameterError(
            f"no Conv2d or Linear follows part {name!r}, the last with a ReLU; the read-out must be synapses "
            "of its own in the outermost Sequential."
        )
    return nn.Sequential(OrderedDict(layers)), nn.Sequential(OrderedDict(head))


def _with_spikes(module: nn.Module, decay: float, per_channel: bool) -> Any:
    """ReLU → SpikingLayer; per-channel parameters get their size when the threshold is set."""
    if isinstance(module, nn.Sequential):
        parts = OrderedDict((n, _with_spikes(m, decay, per_channel)) for n, m in module.named_children())
        return nn.Sequential(parts)
    if isinstance(module, Residual):
        return Residual(
            _with_spikes(module.body, decay, per_channel), _with_spikes(module.shortcut, decay, per_channel)
        )
    if isinstance(module, nn.ReLU):
        return SpikingLayer(decay=decay, channels=1 if per_channel else None)
    return module


class _ReachedError(Exception):
    """The currents of the layer that was asked for."""

    def __init__(self, x: Tensor, static: bool) -> None:
        self.x, self.static = x, static


def _upto(asked: str) -> Neuron:
    """Neurons of a run until the layer `asked`; spikes carry their threshold, as weights are the ANN's."""

    def neuron(
        name: str, layer: SpikingLayer, v: Tensor | None, x: Tensor, static: bool
    ) -> tuple[Tensor, Tensor]:
        if name == asked:
            raise _ReachedError(x, static)
        v_th = layer.shaped(layer.v_th, x.ndim)
        s, v = reference.step(v, x, torch.ones_like(v_th), v_th)
        return s * v_th, v

    return neuron


def _set_threshold(
    network: SpikingNet, name: str, layer: SpikingLayer, x: Tensor, percentile: float, steps: int
) -> None:
    run = Step(_upto(name))
    found: list[np.ndarray] = []
    for _ in range(steps):
        try:
            walk(network.layers, x, True, run)
        except _ReachedError as reached:
            current = reached
        values = [_percentile(current.x, percentile, False)]
        if layer.channels is not None:
            values.append(_percentile(current.x, percentile, True))
        found = [np.maximum(a, b) for a, b in zip(values, found or values, strict=True)]
        if current.static:
            break  # the same in every step
    whole = float(found[0][0])
    if not whole > 0:
        raise ParameterError(
            f"layer {name!r}: the {percentile:g}th percentile of its currents is {whole:.4g}, and a "
            "threshold must be positive; take a higher percentile, or check the ANN."
        )
    v_th = np.where(found[-1] > 0, found[-1], whole)
    _learn(layer, torch.as_tensor(v_th, dtype=x.dtype).to(layer.v_th.device))


def _learn(layer: SpikingLayer, v_th: Tensor) -> None:
    """Set thresholds; where each channel has its own, there are as many as in v_th from now on."""
    if layer.channels is not None:
        layer.channels = len(v_th)
        layer.v_th = nn.Parameter(torch.ones_like(v_th))
        layer.decay = nn.Parameter(layer.decay.detach().repeat(len(v_th)))
        layer.least = torch.ones_like(v_th)
    layer.set_threshold(v_th.view_as(layer.v_th))


def _percentile(x: Tensor, percentile: float, per_channel: bool) -> np.ndarray:
    array = x.detach().cpu().numpy()
    if per_channel:
        return np.percentile(np.moveaxis(array, 1, 0).reshape(array.shape[1], -1), percentile, axis=1)
    return np.atleast_1d(np.percentile(array, percentile))


def _scale(module: nn.Module, scale: Tensor) -> Tensor:
    """Multiply weights by what their incoming spikes stand for; what the outgoing ones stand for.

    scale is one number or one a channel.
    """
    if isinstance(module, nn.Sequential):
        for part in module.children():
            scale = _scale(part, scale)
        return scale
    if isinstance(module, Residual):
        for side in ("body", "shortcut"):
            part = getattr(module, side)
            after = _scale(part, scale)
            if bool((after != 1).any()):
                setattr(module, side, nn.Sequential(OrderedDict(path=part, scale=ChannelScale(after))))
        return torch.ones(1)
    if isinstance(module, SpikingLayer):
        return module.v_th.detach().clone()
    if isinstance(module, SYNAPSES):
        _scale_inputs(module, scale)
        return torch.ones(1)
    assert not isinstance(module, NORMS)
    return scale


def _scale_inputs(synapses: nn.Module, scale: Tensor) -> None:
    weight = synapses.weight
    assert isinstance(weight, Tensor)
    scale = scale.to(weight)
    if len(scale) == 1:
        weight.mul_(scale)
    elif isinstance(synapses, nn.Conv2d):
        groups, per = synapses.groups, weight.shape[1]
        rows = weight.view(groups, -1, *weight.shape[1:])
        rows.mul_(scale.view(groups, 1, per, 1, 1))
    else:  # channels, each flattened into as many features
        weight.mul_(scale.repeat_interleave(weight.shape[1] // len(scale)))
