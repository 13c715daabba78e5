"""Spiking networks made from ANNs: direct encoding, soft-reset neurons, a read-out that integrates.

The image is the first layer's input in every step, so what comes before the first neuron is computed
once. Behind it, time is folded into the batch: synapses see ``[T·B, …]`` and run as one call, neurons
see ``[T, B, …]`` and run fused over time. What follows the last neuron is affine, so the class scores,
the sum over T steps of what it gives, are T times what it makes of the mean spikes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import backend
from ..errors import GraphError, ParameterError, ShapeError
from ..graph import Population
from ..neurons.kernels_cpu import spread
from . import kernels_cpu, reference
from .ann import Residual, leaves

BFLOAT16_ONE = np.int16(0x3F80)
LEAST_THRESHOLD = 1e-3
"""Training keeps thresholds at or above this share of their start."""


class _Fused(torch.autograd.Function):
    """`reference.soft_reset_lif` for arrays ``[Tx, M]`` by the kernels; pooled where `row` > 0."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, decay: Tensor, v_th: Tensor, steps: int, width: int, row: int, inner: int
    ) -> Tensor:
        s = x.new_empty((steps, x.shape[1] // 4 if row else x.shape[1]))
        arrays = [a.detach().numpy() for a in (x, s, decay, v_th)]
        ctx.shape = x.shape[1], width, row, inner
        spread(partial(_call, kernels_cpu.forward, *arrays, *ctx.shape), -(-x.shape[1] // width), _threads())
        ctx.save_for_backward(x, decay, v_th)
        return s

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, decay, v_th = ctx.saved_tensors
        gs, blocks = grads[0].contiguous(), -(-x.shape[1] // ctx.shape[1])
        gx, shares = torch.empty_like(x), x.new_empty((2, blocks))
        arrays = [a.detach().numpy() for a in (gs, x, gx, shares[0], shares[1], decay, v_th)]
        spread(partial(_call, kernels_cpu.backward, *arrays, *ctx.shape), blocks, _threads())
        gdecay, gv_th = shares.view(2, -1, len(v_th)).sum(1)
        return gx, gdecay, gv_th, None, None, None, None


class _MixedConv(torch.autograd.Function):
    """A convolution in float32 whose gradients are worked out in bfloat16, sums in float32.

    Spikes have their exact value in both; those that `bits` knows are kept as bits.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, bits: _Bits | None, options: tuple[Any, ...]
    ) -> Tensor:
        half = torch.bfloat16
        ctx.packed = bits.pack(x) if bits is not None and bits.holds(x) else None
        ctx.save_for_backward(weight, x.to(half) if ctx.packed is None else None)
        ctx.bits, ctx.options, ctx.bias = bits, options, bias is not None
        return F.conv2d(x, weight, bias, *options)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weight, x = ctx.saved_tensors
        x, worth = (x, 1.0) if ctx.packed is None else ctx.bits.unpack_half(ctx.packed)
        g, half = grads[0], torch.bfloat16
        stride, padding, dilation, groups = ctx.options
        mask = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.bias]
        gx, gweight, gbias = torch.ops.aten.convolution_backward(
            g.to(half), x, weight.to(half), [len(weight)], stride, padding, dilation, False, [0, 0], groups,
            mask,
        )  # fmt: skip
        gx, gbias = (None if a is None else a.to(g.dtype) for a in (gx, gbias))
        gweight = None if gweight is None else gweight.to(g.dtype).mul_(worth)
        return gx, gweight, gbias, None, None


def _call(kernel: Callable[..., None], *arguments: Any) -> None:
    kernel(*arguments)


def _threads() -> int:
    return torch.get_num_threads()


class SpikingLayer(nn.Module):
    """Soft-reset neurons with one learned threshold and decay, or one a channel; see `reference`.

    v_th      threshold, positive, in units of the input
    decay     share of the potential that a step leaves, 0 ≤ decay ≤ 1
    channels  learn so many of each, for inputs ``[T, B, channels, …]``; None: one for all
    """

    def __init__(self, v_th: float = 1.0, decay: float = 1.0, channels: int | None = None) -> None:
        super().__init__()
        if not v_th > 0:
            raise ParameterError(f"SpikingLayer: the threshold v_th = {v_th} must be positive.")
        if not 0 <= decay <= 1:
            raise ParameterError(f"SpikingLayer: decay = {decay} must lie in 0..1.")
        self.channels = channels
        self.v_th = nn.Parameter(torch.full((channels or 1,), float(v_th)))
        self.decay = nn.Parameter(torch.full((channels or 1,), float(decay)))
        self.register_buffer("least", LEAST_THRESHOLD * self.v_th.detach().clone())
        self.least: Tensor

    @torch.no_grad()
    def set_threshold(self, v_th: Tensor) -> None:
        """New thresholds, positive."""
        if not bool((v_th > 0).all()):
            raise ParameterError(f"SpikingLayer: thresholds must be positive, got {float(v_th.min())}.")
        self.v_th.copy_(v_th)
        self.least.copy_(LEAST_THRESHOLD * v_th)

    @torch.no_grad()
    def clamp_(self) -> None:
        """Bring decay back into 0..1 and keep v_th positive; call after each optimiser step."""
        self.decay.clamp_(0, 1)
        torch.maximum(self.v_th, self.least, out=self.v_th)

    def population(self, name: str, shape: tuple[int, ...]) -> Population:
        """The neurons as a part of a `Graph`, parameters in float64; `GraphError` for thresholds ≤ 0."""
        if not bool((self.v_th > 0).all()):
            raise GraphError(
                f"layer {name!r} (SpikingLayer): threshold {self.v_th.detach().min()} must be positive."
            )
        wide = (-1, *[1] * (len(shape) - 1)) if len(self.v_th) > 1 else ()
        params: dict[str, Any] = {
            "decay": self.decay.detach().double().cpu().numpy().reshape(wide),
            "gain": 1.0,
            "v_th": self.v_th.detach().double().cpu().numpy().reshape(wide),
            "v_reset": 0.0,
            "v_rest": 0.0,
        }
        return Population(name, "lif", shape, params, options={"reset": "soft"})

    def shaped(self, parameter: Tensor, axes: int) -> Tensor:
        """A parameter so that it broadcasts to ``[B, C, …]`` of so many axes."""
        return parameter.view(-1, *[1] * (axes - 2)) if self.channels else parameter

    def forward(self, x: Tensor, steps: int = 1, static: bool = False, pool: bool = False) -> Tensor:
        """Currents ``[T·B, …]``, or ``[B, …]`` if static → spikes ``[T·B, …]``.

        pool  for ``[T·B, C, H, W]`` with even H and W: spikes averaged over 2×2 pixels
        """
        if self.channels is not None and x.shape[1] != self.channels:
            raise ShapeError(f"SpikingLayer has {self.channels} channels, the input is {list(x.shape)}.")
        rows = 1 if static else steps
        batch = x.shape[0] // rows
        x = x.to(self.v_th.dtype)  # autocast's currents are narrower
        if backend.choose("soft_reset_lif", x.device.type, ("numba", "reference")) == "reference":
            decay, v_th = self.shaped(self.decay, x.ndim), self.shaped(self.v_th, x.ndim)
            s = reference.soft_reset_lif(x.view(rows, batch, *x.shape[1:]), decay, v_th, steps).flatten(0, 1)
            return F.avg_pool2d(s, 2) if pool else s
        # any layout will do if all neurons are alike, as long as time is outermost
        wide = x.is_contiguous(memory_format=torch.channels_last) if x.ndim == 4 else False
        if wide and self.channels is None:
            flat = x.permute(0, 2, 3, 1).reshape(rows, -1)
        else:
            wide, flat = False, x.reshape(rows, -1)
        row, inner = (x.shape[3] * x.shape[1], x.shape[1]) if wide else (x.shape[-1], 1)
        width = kernels_cpu.WIDTH
        if self.channels:
            width = flat[0].numel() // (batch * self.channels)
        elif pool:
            width = max(1, width // (2 * row)) * 2 * row
        s = _Fused.apply(  # type: ignore[no-untyped-call]
            flat, self.decay, self.v_th, steps, width, row if pool else 0, inner
        )
        n, shape = steps * batch, x.shape[1:]
        if pool:
            shape = torch.Size((shape[0], shape[1] // 2, shape[2] // 2))
        if wide:
            c, h, w = shape
            return s.view(n, h, w, c).permute(0, 3, 1, 2)
        return s.view(n, *shape)

    def extra_repr(self) -> str:
        return f"v_th={self.v_th.detach().mean():.4g}, decay={self.decay.detach().mean():.4g}"


class ChannelScale(nn.Module):
    """y = weight · x, one weight a channel: what a spike that takes a shortcut is worth."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.view(-1, *[1] * (x.ndim - 2))


class _Bits:
    """Saves spikes for the backward pass as bits, 1/32 of their size, by autograd's own hooks.

    A spike tensor is known by its memory, as long as it lives; `value` is what a spike is worth in it.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.known: dict[int, tuple[weakref.ref[Tensor], float]] = {}
        self.packed: dict[int, tuple[weakref.ref[Tensor], Any]] = {}

    def mark(self, s: Tensor, value: float = 1.0) -> Tensor:
        self.known[s.data_ptr()] = weakref.ref(s), value
        return s

    def holds(self, x: Tensor) -> bool:
        """True if x is a spike tensor."""
        entry = self.known.get(x.data_ptr())
        s = None if entry is None else entry[0]()
        return s is not None and s.numel() == x.numel() and _dense(x)

    def pack(self, x: Tensor) -> Any:
        if not self.holds(x):
            return x
        s, value = self.known[x.data_ptr()]
        again = self.packed.get(x.data_ptr())
        if again is not None and again[0]() is s() and again[1][1:4] == (x.shape, x.stride(), x.dtype):
            return again[1]
        flat = torch.as_strided(
            x.detach(), (self.steps, x.numel() // self.steps), (x.numel() // self.steps, 1)
        )
        bits = torch.empty((-(-self.steps // 8), flat.shape[1]), dtype=torch.uint8)
        spread(partial(_call, kernels_cpu.pack, flat.numpy(), bits.numpy()), flat.shape[1], _threads())
        held = (bits, x.shape, x.stride(), x.dtype, value)
        self.packed[x.data_ptr()] = s, held
        return held

    def unpack(self, held: Any) -> Tensor:
        if isinstance(held, Tensor):
            return held
        bits, shape, stride, dtype, value = held
        one = torch.tensor(value, dtype=dtype).numpy()[()]
        return torch.as_strided(self._spikes(bits, one), shape, stride)

    def unpack_half(self, held: Any) -> tuple[Tensor, float]:
        """Spikes in bfloat16, each 1, and what one is worth."""
        bits, shape, stride, _, value = held
        ones = self._spikes(bits, BFLOAT16_ONE).view(torch.bfloat16)
        return torch.as_strided(ones, shape, stride), value

    def _spikes(self, bits: Tensor, value: Any) -> Tensor:
        array = np.empty((self.steps, bits.shape[1]), value.dtype)
        spread(partial(_call, kernels_cpu.unpack, bits.numpy(), array, value), bits.shape[1], _threads())
        return torch.from_numpy(array)


def _halves(pool: nn.Module) -> bool:
    """True for average pooling of whole 2×2 tiles."""
    if not isinstance(pool, nn.AvgPool2d) or pool.divisor_override is not None:
        return False
    return pool.kernel_size in (2, (2, 2)) and pool.stride in (2, (2, 2)) and pool.padding in (0, (0, 0))


def _dense(x: Tensor) -> bool:
    return x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))


class Fused:
    """How a network runs when all T steps are computed at once.

    rates  where given, (name, spikes, neurons) of every spiking layer is appended: its spikes in all
           samples and steps, and its number of neurons
    """

    def __init__(
        self, steps: int, bits: _Bits | None = None, rates: list[Any] | None = None, mixed: bool = False
    ) -> None:
        self.steps, self.bits, self.rates, self.mixed = steps, bits, rates, mixed

    def synapses(self, layer: nn.Module, x: Tensor, static: bool) -> Tensor:
        if self.mixed and isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros":
            options = list(layer.stride), list(layer.padding), list(layer.dilation), layer.groups
            y: Tensor = _MixedConv.apply(  # type: ignore[no-untyped-call]
                x, layer.weight, layer.bias, self.bits, options
            )
            return y
        y = layer(x)
        return y

    def pooled(self, layer: SpikingLayer, pool: nn.Module, x: Tensor, static: bool) -> Tensor | None:
        """Spikes and the pooling behind them in one pass, or None where that can't be done."""
        if type(self) is not Fused or self.rates is not None or not _halves(pool) or x.ndim != 4:
            return None
        return None if x.shape[2] % 2 or x.shape[3] % 2 else layer(x, self.steps, static, pool=True)

    def spike(self, name: str, layer: SpikingLayer, x: Tensor, static: bool) -> Tensor:
        s = layer(x, self.steps, static)
        if self.rates is not None:
            self.rates.append((name, s.detach().sum(dtype=torch.float64).item(), s[0].numel()))
        return s if self.bits is None else self.bits.mark(s)

    def dropout(self, layer: nn.Dropout, x: Tensor, static: bool) -> Tensor:
        """One mask for all steps of a sample."""
        if not layer.training or layer.p == 0:
            return x
        if static or self.steps == 1:
            return F.dropout(x, layer.p)
        # the scale as the dtype has it, since saved spikes come back as this value
        scale = torch.tensor(1 / (1 - layer.p), dtype=x.dtype).item()
        folded = x.view(self.steps, -1, *x.shape[1:])
        keep = torch.empty_like(folded[0]).bernoulli_(1 - layer.p).mul_(scale)
        y = (folded * keep).flatten(0, 1)
        return self.bits.mark(y, scale) if self.bits is not None and self.bits.holds(x) else y

    def both(self, a: tuple[Tensor, bool], b: tuple[Tensor, bool]) -> tuple[Tensor, bool]:
        """The sum of two branches."""
        (x, x_static), (y, y_static) = a, b
        if x_static == y_static:
            return x + y, x_static
        whole, once = (y, x) if x_static else (x, y)
        return (whole.view(self.steps, -1, *whole.shape[1:]) + once).flatten(0, 1), False


class Step(Fused):
    """How it runs one step after another: potentials are kept in `v`, what is static is computed once."""

    def __init__(self) -> None:
        super().__init__(1)
        self.v: dict[str, Tensor] = {}
        self.once: dict[nn.Module, Tensor] = {}

    def synapses(self, layer: nn.Module, x: Tensor, static: bool) -> Tensor:
        if not static:
            return super().synapses(layer, x, static)
        if layer not in self.once:
            self.once[layer] = super().synapses(layer, x, static)
        return self.once[layer]

    def spike(self, name: str, layer: SpikingLayer, x: Tensor, static: bool) -> Tensor:
        parts = [layer.shaped(p, x.ndim) for p in (layer.decay, layer.v_th)]
        s, self.v[name] = reference.step(self.v.get(name), x, *parts)
        return s

    def keep(self, chosen: Tensor) -> None:
        """Go on with these samples of the batch only."""
        self.v = {name: v[chosen] for name, v in self.v.items()}
        self.once = {layer: y[chosen] for layer, y in self.once.items()}


def walk(module: nn.Module, x: Tensor, static: bool, run: Fused, prefix: str = "") -> tuple[Tensor, bool]:
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
            bits = _Bits(self.steps)
        if self.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        saving: AbstractContextManager[Any] = (
            nullcontext()
            if bits is None
            else torch.autograd.graph.saved_tensors_hooks(bits.pack, bits.unpack)
        )
        with saving:
            s, _ = walk(self.layers, x, True, Fused(self.steps, bits, rates, self.mixed))
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
        """What one step adds to the class scores; `run` holds the potentials."""
        s, _ = walk(self.layers, x, True, run)
        return walk(self.head, s, True, Fused(1))[0]
