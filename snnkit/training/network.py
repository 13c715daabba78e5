"""Spiking classifiers: layers with delays, fully connected or convolutional, and a read-out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..backend import fuses
from ..datasets.splits import Data
from ..delays import AxonalDelay, DelayedConv2d, DelayedLinear, DendriticDelay, RecurrentDelayedLinear
from ..errors import ShapeError
from ..neurons import LI, NeuronModule, module_of
from ..readouts import READOUTS
from .config import Model
from .dropout import Dropout
from .losses import valid_steps
from .model import Convolution, Plan

Shape = tuple[int, ...]

DELAYED = (DelayedLinear, DelayedConv2d, AxonalDelay, DendriticDelay, RecurrentDelayedLinear)
"""The layers that hold positions."""


@dataclass
class Output:
    """What a forward pass gives.

    scores  [B, C] class scores
    v       [T, B, C] what the read-out saw (potentials, or spikes, as its rule reads)
    spikes  of each hidden layer, [T, B, N], images flattened, before dropout
    mask    [T, B] the steps that count
    lengths [B] steps of each sample's own input, where they are known: what follows is padding and tail
    """

    scores: Tensor
    v: Tensor
    spikes: list[Tensor]
    mask: Tensor
    lengths: Tensor | None = None


class TimeBatchNorm(nn.BatchNorm1d):
    """Batch norm of ``[T, B, N]`` over time and batch, per neuron."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).view_as(x)


class ImageBatchNorm(nn.BatchNorm2d):
    """Batch norm of ``[T, B, C, H, W]`` over time, batch and space, per channel."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).view_as(x)


class ImageConv(nn.Conv2d):
    """A convolution of every step, ``[T, B, C, H, W] → [T, B, C', H', W']``."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x.flatten(0, 1))
        return y.view(*x.shape[:2], *y.shape[1:])


class ImagePool(nn.AvgPool2d):
    """Average pooling of every step, ``[T, B, C, H, W] → [T, B, C, H', W']``."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x.flatten(0, 1))
        return y.view(*x.shape[:2], *y.shape[1:])


class Chain(nn.Sequential):
    """Modules one after another, such as synapses and what delays their inputs."""


def norm_factor(norm: nn.modules.batchnorm._BatchNorm) -> Tensor:
    """γ/√(σ² + ε) of the running statistics, [O]: by this a batch norm multiplies what its synapses give.

    In the norm's dtype and detached; γ is 1 without ``affine``. `lower` works it out in float64 and NumPy,
    `compress_bins` by one division: both round otherwise in the last bit.
    """
    assert norm.running_var is not None
    factor = torch.rsqrt(norm.running_var + norm.eps)
    return factor if norm.weight is None else factor * norm.weight.detach()


class Layer(nn.Module):
    """Synapses, batch norm, neuron, dropout; `before` them pooling and flattening.

    In training the last three run as one where `snnkit.backend` fuses and the neurons are not recurrent and
    lie along one axis: hooks on them are called under `backend.unfused` only.
    """

    def __init__(
        self,
        synapses: nn.Module,
        norm: TimeBatchNorm | ImageBatchNorm | None,
        neuron: NeuronModule | RecurrentDelayedLinear,
        dropout: Dropout,
        before: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.before = before
        self.synapses = synapses
        self.norm = norm
        self.neuron = neuron
        self.dropout = dropout

    def forward(self, x: Tensor, padding_right: int = 0) -> tuple[Tensor, Tensor]:
        """``[T, B, I]`` → spikes ``[T + padding_right, B, N]``, and these after dropout; images likewise.

        Only synapses with delays can make a sequence longer.
        """
        if self.before is not None:
            x = self.before(x)
        y = self.synapses(x, padding_right) if padding_right else self.synapses(x)
        norm, neuron = self.norm, self.neuron
        if not (
            self.training and isinstance(norm, TimeBatchNorm) and isinstance(neuron, NeuronModule) and fuses()
        ):
            s = neuron(y if norm is None else norm(y))
            return s, self.dropout(s)
        mask = self.dropout.shared(y)
        s, d = neuron.after_norm(y, norm, mask)
        return s, self.dropout(s) if mask is None else d


class SpikingClassifier(nn.Module):
    """Events ``[T, B, I]`` or images ``[T, B, C, H, W]`` to class scores: hidden layers, a leaky read-out.

    With ``padding="tail"`` the input is followed by `tail` silent steps and every layer keeps the
    length; with ``"grow"`` each layer lengthens the sequence by (window − 1)//2 steps as published
    (Hammouamri et al., ICLR 2024), so that a layer's last spikes are cut off before a later layer's.
    Either way a sample of length L is read out over L + `tail` steps.

    model    what its layers are, see `Model.plan`
    inputs   channels, or (C, H, W)
    classes  how many
    dt       length of a step, ms

    Raises `ShapeError` naming the layer that does not fit what it is given.
    """

    def __init__(self, model: Model, inputs: int | Sequence[int], classes: int, dt: float) -> None:
        super().__init__()
        shape = (inputs,) if isinstance(inputs, int) else tuple(int(n) for n in inputs)
        self.inputs = shape[0] if len(shape) == 1 else shape
        self.config, self.classes, self.dt = model, classes, dt
        plans = model.plan()
        half = (model.max_delay // 2) if model.delays != "none" else 0
        late = [p.max_delay // 2 for p in plans if p.has_neurons and p.delays != "none"]
        self.grow = half if model.padding == "grow" else 0
        self.tail = sum(late) + half if self.grow or model.tail is None else model.tail
        self.layers = nn.ModuleList()
        self.skips: list[int] = []
        last = self._build(plans, shape)
        self.readout_synapses = self._synapses(model.readout_plan(), last, (classes,), model.readout_bias)
        self.readout = (
            module_of(model.neuron)(dt=dt, **model.arguments())
            if READOUTS[model.readout].of_spikes
            else LI(tau_mem=model.tau_readout or model.tau_mem, dt=dt, decay_input=model.decay_input)
        )

    def _build(self, plans: list[Plan], shape: Shape) -> Shape:
        """Makes the layers for inputs of `shape`; what the last one gives, flattened."""
        given: list[Shape] = [shape]
        before: list[nn.Module] = []
        for plan in plans:
            if plan.pool is not None:
                shape = _pooled(plan, shape)
                before.append(ImagePool(plan.pool))
            elif plan.flatten or (plan.size is not None and len(shape) > 1):
                shape = (math.prod(shape),)
                before.append(nn.Flatten(2))
            if not plan.has_neurons:
                continue
            made = _given(plan, shape)
            self.layers.append(
                Layer(
                    self._synapses(plan, shape, made),
                    self._norm(made) if plan.norm else None,
                    self._neuron(plan, made),
                    Dropout(plan.dropout, self.config.dropout_mask),
                    Chain(*before) if before else None,
                )
            )
            if plan.skip and given[-plan.skip] != made:
                raise ShapeError(
                    f"{plan.where}: skip = {plan.skip} adds {list(given[-plan.skip])} to {list(made)}; "
                    "both need one shape."
                )
            self.skips.append(plan.skip)
            given.append(made)
            shape, before = made, []
        if before:
            raise ShapeError(f"{plans[-1].where}: nothing follows but the read-out; end in size or conv.")
        return (math.prod(shape),)

    def _synapses(self, plan: Plan, given: Shape, made: Shape, bias: bool = False) -> nn.Module:
        window: dict[str, Any] = {"max_delay": plan.max_delay, "version": plan.version}
        if plan.delays in ("none", "axonal", "dendritic"):
            linear: nn.Linear | nn.Conv2d
            if plan.conv is None:
                linear = nn.Linear(given[0], made[0], bias=bias)
            else:
                linear = ImageConv(given[0], made[0], *_space(plan.conv), bias=False)
            nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu")
            if plan.delays == "axonal":
                return Chain(AxonalDelay(given[0], **window), linear)
            return Chain(linear, DendriticDelay(made[0], **window)) if plan.delays == "dendritic" else linear
        fixed = plan.delays == "random"
        window |= {"kernel_count": plan.kernel_count, "version": "max" if fixed else plan.version}
        layer: DelayedLinear | DelayedConv2d
        if plan.conv is None:
            layer = DelayedLinear(given[0], made[0], bias=bias, **window)
        else:
            layer = DelayedConv2d(given[0], made[0], *_space(plan.conv), **window)
        layer.position.requires_grad_(not fixed)
        return layer

    def _norm(self, made: Shape) -> TimeBatchNorm | ImageBatchNorm:
        norm = TimeBatchNorm(made[0]) if len(made) == 1 else ImageBatchNorm(made[0])
        nn.init.constant_(norm.weight, self.config.norm_weight)
        return norm

    def _neuron(self, plan: Plan, made: Shape) -> NeuronModule | RecurrentDelayedLinear:
        arguments = dict(plan.arguments)
        if plan.tau_spread:
            each = (made[0], *[1] * (len(made) - 1))  # one for each neuron, or each channel of images
            arguments |= {n: self._drawn(arguments[n], plan.tau_spread, each) for n in plan.taus}
        neuron = module_of(plan.neuron)(dt=self.dt, **arguments)
        if plan.recurrent == "none":
            return neuron
        if plan.recurrent == "dense":
            dense = RecurrentDelayedLinear(made[0], neuron, max_delay=1, version="max")
            dense.position.requires_grad_(False)
            return dense
        return RecurrentDelayedLinear(
            made[0], neuron, max_delay=plan.max_delay, kernel_count=plan.kernel_count, version=plan.version
        )

    def _drawn(self, tau: Any, spread: float, each: Shape) -> Tensor:
        """Time constants, log-uniform in tau/(1 + spread) … tau·(1 + spread), ms; a decay stays above 0."""
        mean = torch.as_tensor(tau, dtype=torch.float64)
        drawn = mean * (1 + spread) ** (2 * torch.rand(each, dtype=torch.float64) - 1)
        return drawn.maximum(mean.clamp(max=1.001 * self.dt))

    @property
    def delayed(self) -> list[Any]:
        """The modules with delays, first to last, recurrent ones and those of whole neurons as well."""
        return [m for m in self.modules() if isinstance(m, DELAYED)]

    def set_sigma(self, sigma: float) -> None:
        """Width of the delay kernels, steps; where a window differs from the model's, at most half of it."""
        for layer in self.delayed:
            own = layer.max_delay != self.config.max_delay
            layer.sigma = min(sigma, max(layer.max_delay, 1) / 2) if own else sigma

    @torch.no_grad()
    def clamp_(self) -> None:
        """Bring the learned positions back into the window."""
        for layer in self.delayed:
            layer.clamp_()

    def forward(self, x: Tensor, lengths: Tensor | None = None, *, whole: bool = False) -> Output:
        """Scores, read-out and spikes.

        x        [T, B, I]; for images [T, B, C, H, W] or [T, B, C·H·W]
        lengths  steps of each sample, int64 [B]; None: all T
        whole    also with ``padding="grow"`` run every layer over all steps, as the lowered Graph does
        """
        x = self._in_shape(x)
        if lengths is None:
            lengths = torch.full((x.shape[1],), x.shape[0], device=x.device)
        more = 0 if whole else self.grow
        if not more:
            x = F.pad(x, (*[0, 0] * (x.ndim - 1), 0, self.tail))
        spikes, given = [], [x]
        for layer, skip in zip(self.layers, self.skips, strict=True):
            s, x = layer(x, more)
            spikes.append(s.flatten(2))
            if skip:
                x = x + given[-skip]
            given.append(x)
        x = x.flatten(2)
        y = self.readout_synapses(x, more) if more else self.readout_synapses(x)
        out = self.readout(y)
        mask = valid_steps(out.shape[0], lengths + self.tail)
        return Output(READOUTS[self.config.readout](out, mask), out, spikes, mask)

    def _in_shape(self, x: Tensor) -> Tensor:
        shape = (self.inputs,) if isinstance(self.inputs, int) else self.inputs
        if x.ndim == 3 and x.shape[2] == math.prod(shape):
            return x.reshape(*x.shape[:2], *shape)
        if len(shape) == 1 or tuple(x.shape[2:]) != shape:
            raise ShapeError(
                f"SpikingClassifier expects x of shape [T, B, {', '.join(map(str, shape))}], "
                f"got {list(x.shape)}."
            )
        return x


def _space(conv: Convolution) -> tuple[int, int, int]:
    return conv.kernel, conv.stride, conv.padding


def _pooled(plan: Plan, shape: Shape) -> Shape:
    """What pooling makes of images of `shape`."""
    assert plan.pool is not None
    if len(shape) != 3 or min(shape[1:]) < plan.pool:
        raise ShapeError(
            f"{plan.where}: pool = {plan.pool} needs images [C, H, W] of at least {plan.pool} × {plan.pool} "
            f"pixels, and is given {list(shape)}."
        )
    return (shape[0], shape[1] // plan.pool, shape[2] // plan.pool)


def _given(plan: Plan, shape: Shape) -> Shape:
    """What a layer gives for inputs of `shape`."""
    if plan.conv is None:
        assert plan.size is not None
        return (plan.size,)
    kernel, stride, padding = _space(plan.conv)
    if len(shape) != 3 or min(shape[1:]) + 2 * padding < kernel:
        raise ShapeError(
            f"{plan.where}: conv needs images [C, H, W] of at least {kernel - 2 * padding} pixels a side, "
            f"and is given {list(shape)}."
        )
    height, width = ((n + 2 * padding - kernel) // stride + 1 for n in shape[1:])
    return (plan.conv.channels, height, width)


def inputs_of(data: Data) -> int | Shape:
    """What `build` takes as inputs for `data`: its channels, or the shape (C, H, W) of a step."""
    return tuple(data.shape) if len(data.shape) > 1 else data.channels


def build(model: Model, inputs: int | Sequence[int], classes: int, dt: float) -> SpikingClassifier:
    """A network with the weights that the torch seed gives."""
    return SpikingClassifier(model, inputs, classes, dt)
