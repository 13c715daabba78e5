"""Spiking networks made from ANNs: direct encoding, soft-reset neurons, a read-out that integrates.

The image is the first layer's input in every step, so what comes before the first neuron is computed
once. Behind it, time is folded into the batch: synapses see ``[T·B, …]`` and run as one call, neurons
see ``[T, B, …]`` and run fused over time. What follows the last neuron is affine, so the class scores,
the sum over T steps of what it gives, are T times what it makes of the mean spikes.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ParameterError
from .ann import leaves
from .bits import Bits
from .neuron import SpikingLayer
from .walking import Fused, Step, walk


class ChannelScale(nn.Module):
    """y = weight · x, one weight a channel: what a spike that takes a shortcut is worth."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.view(-1, *[1] * (x.ndim - 2))


class _Rates:
    """Appends (name, spikes, neurons) of every spiking layer: spikes of all samples and steps."""

    def __init__(self, rates: list[tuple[str, float, int]]) -> None:
        self.rates = rates

    def synapses(self, layer: nn.Module, x: Tensor, y: Tensor, static: bool) -> None:
        """Not of interest."""

    def spikes(self, name: str, s: Tensor) -> None:
        """Count them."""
        self.rates.append((name, s.detach().sum(dtype=torch.float64).item(), s[0].numel()))


class SpikingNet(nn.Module):
    """Images ``[B, C, H, W]`` to class scores ``[B, classes]``: the read-out's potential after T steps.

    layers  up to the last spiking layer
    head    synapses and what else follows it; integrates, never spikes
    steps   T

    Attributes that one may set: `channels_last`, the layout of the images inside; `mixed`, gradients of
    convolutions in bfloat16, while spikes and potentials stay as they are; `save_bits`, spikes kept for the
    backward pass as bits.

    Made by `convert`; `lower_spiking` makes a Graph of it.
    """

    def __init__(self, layers: nn.Sequential, head: nn.Sequential, steps: int = 5) -> None:
        super().__init__()
        self.layers, self.head = layers, head
        self.steps = steps
        self.save_bits = True
        self.channels_last = True
        self.mixed = False
        self._affine = not any(isinstance(m, nn.MaxPool2d) for m in head.modules())

    @property
    def steps(self) -> int:
        """Number of time steps, T."""
        return self._steps

    @steps.setter
    def steps(self, value: int) -> None:
        if value < 1:
            raise ParameterError(f"a spiking network runs for at least 1 step, got steps = {value}.")
        self._steps = int(value)

    def spiking(self) -> list[tuple[str, SpikingLayer]]:
        """The spiking layers by name, in order of execution."""
        return [(name, m) for name, m in leaves(self.layers) if isinstance(m, SpikingLayer)]

    def clamp_(self) -> None:
        """Keep decays and thresholds in their ranges; call after each optimiser step."""
        for _, layer in self.spiking():
            layer.clamp_()

    def forward(self, x: Tensor, rates: list[Any] | None = None) -> Tensor:
        """Class scores; `rates` collects (layer, spikes in all samples, neurons)."""
        bits = None
        if self.save_bits and self.steps > 1 and x.device.type == "cpu" and torch.is_grad_enabled():
            bits = Bits(self.steps)
        if self.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        saving: AbstractContextManager[Any] = (
            nullcontext()
            if bits is None
            else torch.autograd.graph.saved_tensors_hooks(bits.pack, bits.unpack)
        )
        with saving:
            watch = None if rates is None else _Rates(rates)
            s, _ = walk(self.layers, x, True, Fused(self.steps, bits, mixed=self.mixed, watch=watch))
            return self.integrate(s)

    def integrate(self, s: Tensor) -> Tensor:
        """Scores from the last layer's spikes ``[T·B, …]``: Σ_t head(s[t])."""
        run = Fused(self.steps)
        if self.steps == 1:
            return walk(self.head, s, True, run)[0]
        if self._affine:
            mean = s.view(self.steps, -1, *s.shape[1:]).mean(0)
            return self.steps * walk(self.head, mean, True, run)[0]
        y, _ = walk(self.head, s, False, run)
        return y.view(self.steps, -1, *y.shape[1:]).sum(0)

    def step(self, x: Tensor, run: Step) -> Tensor:
        """What one step adds to the class scores: x [B, …] → [B, classes]; `run` holds the potentials."""
        s, _ = walk(self.layers, x, True, run)
        return walk(self.head, s, True, Fused(1))[0]
