"""Layers that `EnergyMonitor` counts spike by spike, one row each: what a spike at each place causes.

Loads torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ..delays import DelayedConv1d, DelayedConv2d, DelayedLinear, RecurrentDelayedLinear

Shape = Sequence[int]
TRANSPOSED = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}


@dataclass(frozen=True)
class Fans:
    """What leaves each of the N places of an input.

    stored, effective   synapses, those with weight ≠ 0; of a pooling layer its windows, int ``[N]``
    pairs               (place, different delay > 0), each once, int ``[P, 2]``
    """

    stored: np.ndarray
    effective: np.ndarray
    pairs: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))


@dataclass(frozen=True)
class Kind:
    """How layers of a type are counted.

    name     as `Projection.kind`, or "pool"
    fans     layer, shapes of a sample's input and output in one step → `Fans`
    sample   layer → axes of one sample in one step, None where any number will do
    whole    True where the input is always [T, B, …]
    """

    name: str
    fans: Callable[[Any, Shape, Shape], Fans]
    sample: Callable[[Any], int | None] = lambda layer: None
    whole: bool = False


def _linear(layer: Any, shape: Shape, out: Shape) -> Fans:
    used = (layer.weight.detach() != 0).sum(0).cpu().numpy()
    positions = math.prod(shape[:-1])
    stored = np.full(layer.in_features, layer.out_features)
    return Fans(np.tile(stored, positions), np.tile(used, positions))


def _through(function: Callable[[Any], Any], shape: Shape, device: Any) -> np.ndarray:
    """Sum of what a one at each place adds to the output of a linear function, int ``[N]``: its gradient."""
    with torch.inference_mode(False), torch.enable_grad():
        x = torch.ones((1, *shape), dtype=torch.float64, device=device, requires_grad=True)
        (fan,) = torch.autograd.grad(function(x).sum(), x)
    return np.asarray(fan.round().long().reshape(-1).cpu().numpy())


def _weighted(layer: Any, shape: Shape, convolve: Callable[[Any, Any], Any]) -> list[np.ndarray]:
    """`_through` of a convolution whose weights are all 1, and 1 where they are not 0."""
    with torch.inference_mode(False):
        used = (layer.weight.detach() != 0).double()
    both = (torch.ones_like(used), used)
    return [_through(partial(convolve, taps), shape, used.device) for taps in both]


def _conv(layer: Any, shape: Shape, out: Shape) -> Fans:
    def convolve(taps: Any, x: Any) -> Any:
        return layer._conv_forward(x, taps, None)  # torch's own, so that every padding mode pads as it does

    return Fans(*_weighted(layer, shape, convolve))


def _conv_transposed(layer: Any, shape: Shape, out: Shape) -> Fans:
    sizes = zip(
        shape[1:], out[1:], layer.stride, layer.padding, layer.dilation, layer.kernel_size, strict=True
    )
    more = [o - ((n - 1) * s - 2 * p + d * (k - 1) + 1) for n, o, s, p, d, k in sizes]

    def convolve(taps: Any, x: Any) -> Any:
        function = TRANSPOSED[taps.dim()]
        return function(x, taps, None, layer.stride, layer.padding, more, layer.groups, layer.dilation)

    return Fans(*_weighted(layer, shape, convolve))


def _each(value: Any, axes: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * axes


def _pooled(spans: list[list[tuple[int, int]]], shape: Shape) -> Fans:
    """spans: of each axis the part of the input [start, stop) that each output sums."""
    windows = np.full(shape[0], 1)
    for axis, size in zip(spans, shape[1:], strict=True):
        covered = np.zeros(size, np.int64)
        for start, stop in axis:
            covered[max(start, 0) : max(stop, 0)] += 1
        windows = windows[..., None] * covered
    return Fans(windows.reshape(-1), windows.reshape(-1))


def _average(layer: Any, shape: Shape, out: Shape) -> Fans:
    axes = len(shape) - 1
    sizes = (_each(v, axes) for v in (layer.kernel_size, layer.stride, layer.padding))
    spans = [
        [(o * s - p, o * s - p + k) for o in range(n)] for n, k, s, p in zip(out[1:], *sizes, strict=True)
    ]
    return _pooled(spans, shape)


def _adaptive(layer: Any, shape: Shape, out: Shape) -> Fans:
    pairs = zip(shape[1:], out[1:], strict=True)
    return _pooled([[(o * n // m, -(-(o + 1) * n // m)) for o in range(m)] for n, m in pairs], shape)


def _delayed_linear(layer: Any, shape: Shape, out: Shape) -> Fans:
    weight, delay = layer.weight.detach().cpu().numpy(), layer.delays()
    inputs = weight.shape[1]
    stored = np.full(inputs, weight[:, 0].size)
    source, _ = np.broadcast_arrays(np.arange(inputs)[:, None], delay)
    pairs = np.stack([source[delay > 0], delay[delay > 0]], 1)
    return Fans(stored, (weight != 0).sum((0, 2)), np.unique(pairs, axis=0))


def _delayed_conv(layer: Any, shape: Shape, out: Shape) -> Fans:
    places = (shape[0], 1, *shape[1:]) if len(shape) == 2 else shape  # one axis of space is one of height 1
    weight = layer.weight.detach()
    delay = torch.as_tensor(layer.delays(), device=weight.device)

    def fan(taps: Any) -> np.ndarray:
        def function(x: Any) -> Any:
            return F.conv2d(x, taps.sum(-1), None, layer.stride, layer.padding, layer.dilation, layer.groups)

        return _through(function, places, weight.device)

    waits = {int(d): fan((delay == d).double()) for d in np.unique(layer.delays()) if d > 0}
    pairs = [np.stack([at := np.flatnonzero(f), np.full(len(at), d)], 1) for d, f in waits.items()]
    every = np.concatenate([np.zeros((0, 2), np.int64), *pairs])
    return Fans(fan(torch.ones_like(weight, dtype=torch.float64)), fan((weight != 0).double()), every)


def _spatial(layer: Any) -> int:
    return int(layer.weight.dim()) - 1


LINEAR = Kind("dense", _linear)
CONVOLUTION = Kind("conv", _conv, _spatial)
TRANSPOSE = Kind("conv", _conv_transposed, _spatial)
KINDS: dict[type, Kind] = {
    torch.nn.Linear: LINEAR,
    torch.nn.Conv1d: CONVOLUTION,
    torch.nn.Conv2d: CONVOLUTION,
    torch.nn.Conv3d: CONVOLUTION,
    torch.nn.ConvTranspose1d: TRANSPOSE,
    torch.nn.ConvTranspose2d: TRANSPOSE,
    torch.nn.ConvTranspose3d: TRANSPOSE,
    DelayedLinear: Kind("dense", _delayed_linear, whole=True),
    RecurrentDelayedLinear: Kind("dense", _delayed_linear, whole=True),
    DelayedConv1d: Kind("conv", _delayed_conv, whole=True),
    DelayedConv2d: Kind("conv", _delayed_conv, whole=True),
    torch.nn.AvgPool1d: Kind("pool", _average, lambda layer: 2),
    torch.nn.AvgPool2d: Kind("pool", _average, lambda layer: 3),
    torch.nn.AvgPool3d: Kind("pool", _average, lambda layer: 4),
    torch.nn.AdaptiveAvgPool1d: Kind("pool", _adaptive, lambda layer: 2),
    torch.nn.AdaptiveAvgPool2d: Kind("pool", _adaptive, lambda layer: 3),
    torch.nn.AdaptiveAvgPool3d: Kind("pool", _adaptive, lambda layer: 4),
}
"""Type of layer → how it is counted; subclasses as their base."""


def kind_of(layer: Any) -> Kind | None:
    """How a layer is counted, or None if it is not."""
    return next((KINDS[base] for base in type(layer).__mro__ if base in KINDS), None)


def fixed(layer: Any, kind: Kind, fans: Fans, shape: Shape, out: Shape) -> dict[str, Any]:
    """What does not depend on the spikes; shape, out: of one sample's input and output in one step.

    The keys are fields of `SynapseCounts`, and ``biased`` and ``biases`` of `NeuronCounts`.
    """
    kernel = address = weights = biased = biases = 0
    if kind.name == "conv":
        kernels, strides = tuple(layer.kernel_size), tuple(layer.stride)
        count = layer.out_channels // layer.groups * (getattr(layer, "kernel_count", None) or 1)
        address = count * math.prod(kernels)
        whole = getattr(layer, "transposed", False)  # every place of its input meets the whole kernel
        kernel = (
            address if whole else count * math.prod(-(-k // s) for k, s in zip(kernels, strides, strict=True))
        )
    if kind.name != "pool":
        weights = layer.weight.numel()
        bias = getattr(layer, "bias", None)
        if bias is not None:
            used = int(torch.count_nonzero(bias.detach()))
            biased = used * (math.prod(out) // bias.numel())
            biases = bias.numel() if used else 0
    return {
        "kind": kind.name,
        "inputs": math.prod(shape),
        "outputs": math.prod(out),
        "synapses": int(fans.stored.sum()),
        "effective": int(fans.effective.sum()),
        "weights": weights,
        "max_delay": int(fans.pairs[:, 1].max(initial=0)),
        "kernel_fan_out": kernel,
        "address_fan_out": address,
        "biased": biased,
        "biases": biases,
    }
