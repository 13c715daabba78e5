"""How a network's layers run: all time steps at once, or one after another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import reference
from .ann import Residual
from .bits import Bits, MixedConv
from .neuron import SpikingLayer


class Watch(Protocol):
    """Is told what goes through the layers of a network, in order."""

    def synapses(self, layer: nn.Module, x: Tensor, y: Tensor, static: bool) -> None:
        """A layer that is no neuron turns x into y, [T·B, …], or [B, …] if static."""

    def spikes(self, name: str, s: Tensor) -> None:
        """A spiking layer gives s ``[T·B, …]``."""


class Run(ABC):
    """How the layers of a network run; `walk` sends x through them.

    static says that x is ``[B, …]``, the same in every step; else it is ``[T·B, …]``.
    """

    @abstractmethod
    def synapses(self, layer: nn.Module, x: Tensor, static: bool) -> Tensor:
        """A layer without a state of its own: [T·B, …], or [B, …] if static, to the same."""

    @abstractmethod
    def spike(self, name: str, layer: SpikingLayer, x: Tensor, static: bool) -> Tensor:
        """Currents → spikes ``[T·B, …]``."""

    @abstractmethod
    def pooled(self, layer: SpikingLayer, pool: nn.Module, x: Tensor, static: bool) -> Tensor | None:
        """Spikes [T·B, …] and the pooling behind them in one pass, or None where that can't be done."""

    @abstractmethod
    def dropout(self, layer: nn.Dropout, x: Tensor, static: bool) -> Tensor:
        """One mask for all steps of a sample."""

    @abstractmethod
    def both(self, a: tuple[Tensor, bool], b: tuple[Tensor, bool]) -> tuple[Tensor, bool]:
        """The sum of two branches of one shape [T·B, …] or [B, …], each with its static."""


class Fused(Run):
    """All T steps at once, folded into the batch.

    bits   keeps spikes for the backward pass
    mixed  gradients of convolutions in bfloat16
    watch  is told of all layers; spikes are then not pooled in the same pass
    """

    def __init__(
        self, steps: int, bits: Bits | None = None, *, mixed: bool = False, watch: Watch | None = None
    ) -> None:
        self.steps, self.bits, self.mixed, self.watch = steps, bits, mixed, watch

    def synapses(self, layer: nn.Module, x: Tensor, static: bool) -> Tensor:
        y: Tensor
        if self.mixed and isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros":
            options = list(layer.stride), list(layer.padding), list(layer.dilation), layer.groups
            y = MixedConv.apply(  # type: ignore[no-untyped-call]
                x, layer.weight, layer.bias, self.bits, options
            )
        else:
            y = layer(x)
        if self.watch is not None:
            self.watch.synapses(layer, x, y, static)
        return y

    def spike(self, name: str, layer: SpikingLayer, x: Tensor, static: bool) -> Tensor:
        s = layer(x, self.steps, static)
        if self.watch is not None:
            self.watch.spikes(name, s)
        return s if self.bits is None else self.bits.mark(s)

    def pooled(self, layer: SpikingLayer, pool: nn.Module, x: Tensor, static: bool) -> Tensor | None:
        if self.watch is not None or not _halves(pool) or x.ndim != 4:
            return None
        return None if x.shape[2] % 2 or x.shape[3] % 2 else layer(x, self.steps, static, pool=True)

    def dropout(self, layer: nn.Dropout, x: Tensor, static: bool) -> Tensor:
        if not layer.training or layer.p == 0:
            return x
        if static or self.steps == 1:
            return F.dropout(x, layer.p)
        # The scale rounded once, since saved spikes come back as this value: F.dropout's, and so that of
        # `training.dropout`, is another number for every fifth p. So the two are not one function.
        scale = torch.tensor(1 / (1 - layer.p), dtype=x.dtype).item()
        folded = x.view(self.steps, -1, *x.shape[1:])
        keep = torch.empty_like(folded[0]).bernoulli_(1 - layer.p).mul_(scale)
        y = (folded * keep).flatten(0, 1)
        return self.bits.mark(y, scale) if self.bits is not None and self.bits.holds(x) else y

    def both(self, a: tuple[Tensor, bool], b: tuple[Tensor, bool]) -> tuple[Tensor, bool]:
        (x, x_static), (y, y_static) = a, b
        if x_static == y_static:
            return x + y, x_static
        whole, once = (y, x) if x_static else (x, y)
        return (whole.view(self.steps, -1, *whole.shape[1:]) + once).flatten(0, 1), False


Neuron = Callable[[str, SpikingLayer, Tensor | None, Tensor, bool], tuple[Tensor, Tensor]]
"""``neuron(name, layer, v, x, static)``: v[t−1] (`None` for 0) and x[t] → s[t], v[t]."""


def soft_reset(
    name: str, layer: SpikingLayer, v: Tensor | None, x: Tensor, static: bool
) -> tuple[Tensor, Tensor]:
    """One step of a spiking layer, see `reference`."""
    return reference.step(v, x, layer.shaped(layer.decay, x.ndim), layer.shaped(layer.v_th, x.ndim))


class Step(Run):
    """One step after another: potentials are kept in `v`, what is static is computed once.

    neuron  what a spiking layer does in a step
    """

    def __init__(self, neuron: Neuron = soft_reset) -> None:
        self.neuron = neuron
        self.v: dict[str, Tensor] = {}
        self.once: dict[nn.Module, Tensor] = {}

    def synapses(self, layer: nn.Module, x: Tensor, static: bool) -> Tensor:
        if not static:
            y: Tensor = layer(x)
            return y
        if layer not in self.once:
            self.once[layer] = layer(x)
        return self.once[layer]

    def spike(self, name: str, layer: SpikingLayer, x: Tensor, static: bool) -> Tensor:
        s, self.v[name] = self.neuron(name, layer, self.v.get(name), x, static)
        return s

    def pooled(self, layer: SpikingLayer, pool: nn.Module, x: Tensor, static: bool) -> Tensor | None:
        return None

    def dropout(self, layer: nn.Dropout, x: Tensor, static: bool) -> Tensor:
        return F.dropout(x, layer.p, layer.training)

    def both(self, a: tuple[Tensor, bool], b: tuple[Tensor, bool]) -> tuple[Tensor, bool]:
        (x, x_static), (y, y_static) = a, b
        return x + y, x_static and y_static

    def keep(self, chosen: Tensor) -> None:
        """Go on with these samples of the batch only."""
        self.v = {name: v[chosen] for name, v in self.v.items()}
        self.once = {layer: y[chosen] for layer, y in self.once.items()}


def walk(module: nn.Module, x: Tensor, static: bool, run: Run, prefix: str = "") -> tuple[Tensor, bool]:
    """Send x through layers; static says that it is ``[B, …]``, the same in every step."""
    if isinstance(module, nn.Sequential):
        parts = list(module.named_children())
        done = False
        for k, (name, part) in enumerate(parts):
            if done:
                done = False
                continue
            if isinstance(part, SpikingLayer) and k + 1 < len(parts):
                both = run.pooled(part, parts[k + 1][1], x, static)
                if both is not None:
                    x, static, done = both, False, True
                    continue
            x, static = walk(part, x, static, run, f"{prefix}.{name}" if prefix else name)
        return x, static
    if isinstance(module, Residual):
        entry = x, static
        return run.both(
            walk(module.body, *entry, run, f"{prefix}.body"),
            walk(module.shortcut, *entry, run, f"{prefix}.shortcut"),
        )
    if isinstance(module, SpikingLayer):
        return run.spike(prefix, module, x, static), False
    if isinstance(module, nn.Dropout):
        return run.dropout(module, x, static), static
    return run.synapses(module, x, static), static


def _halves(pool: nn.Module) -> bool:
    """True for average pooling of whole 2×2 tiles."""
    if not isinstance(pool, nn.AvgPool2d) or pool.divisor_override is not None:
        return False
    return pool.kernel_size in (2, (2, 2)) and pool.stride in (2, (2, 2)) and pool.padding in (0, (0, 0))
