"""From a compressed network to a `Graph`, and from images to the events that it takes.

    input      graded: every pixel that is not 0 sends its value in every step (direct encoding)
    ReLU       a "lif" population with soft reset; gain 1, bias from the synapses before it. At T = 1,
               where no step follows a spike, the reset is "hard", which Loihi and NIR have
    synapses   a "conv" or "dense" projection without delay
    pooling    average pooling right before a convolution is merged into it: weights divided by the
               pool's area and spread over it, stride and padding times the pool's; alone it is a
               convolution with one group a channel; before a linear layer it is part of its weights
    residual   two projections into one population
    read-out   an "li" population without leak, read at the last step

Every other chain of linear layers becomes a "sparse" projection. All arrays are float64. A neuron
spikes when its potential is at its threshold or above, in `reference` as in the engine, so that in
float64 the spikes are equal but where a sum lies within its rounding of the threshold.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from ..errors import GraphError, ParameterError, ShapeError
from ..events import EventBatch
from ..graph import Graph, Population, Projection
from ..metadata import Readout, Timing
from ..training.lowering import Builder, Chain, conv_options
from .ann import SYNAPSES, Residual, leaves
from .spiking import ChannelScale, SpikingNet

LARGEST = 1 << 28
"""Entries of a dense matrix that a chain of layers may need on its way to a sparse projection."""


def encode(images: np.ndarray, steps: int) -> EventBatch:
    """Images ``[B, C, H, W]`` as the events of a lowered network: values repeated in every step."""
    images = np.asarray(images)
    if images.ndim < 2:
        raise ShapeError(f"images should be [B, C, H, W], got {list(images.shape)}.")
    if steps < 1:
        raise ParameterError(f"encode needs at least 1 step, got {steps}.")
    flat = images.reshape(1, len(images), -1)
    return EventBatch.from_dense(np.broadcast_to(flat, (steps, *flat.shape[1:])))


def lower_spiking(
    network: SpikingNet, input_shape: tuple[int, ...], dt: float = 1.0, metadata: dict[str, Any] | None = None
) -> Graph:
    """The network as plain data; give it `encode`\\ d images of T steps.

    input_shape  (C, H, W) of an image
    dt           length of a step, ms
    metadata     added to the graph's

    Raises `GraphError` naming the first layer that has no place in a Graph (max pooling), or if images of
    that shape do not go through the network.
    """
    first = next((m for _, m in leaves(network.layers) if isinstance(m, SYNAPSES)), None)
    if isinstance(first, nn.Conv2d) and (len(input_shape) != 3 or input_shape[0] != first.in_channels):
        raise GraphError(f"input_shape {input_shape} should be ({first.in_channels}, H, W) for this network.")
    notes = Readout(kind="last_step").to_metadata() | {"encoding": "direct", "steps": network.steps}
    notes |= Timing().to_metadata()
    return _lowered(network, input_shape, True).finish(dt, notes | (metadata or {}))


def dense_graph(network: SpikingNet, input_shape: tuple[int, ...]) -> Graph:
    """The ANN that the network came from, as far as its price goes: its layers, poolings of their own.

    For `snnkit.energy.baseline.dense_pj`, which counts the synapses and neurons of a Graph as a dense
    machine would work through them; a pooling merged into a convolution would be counted too dear.
    """
    return _lowered(network, input_shape, False).finish(1.0, {})


def _lowered(network: SpikingNet, input_shape: tuple[int, ...], merge: bool) -> Builder:
    network = copy.deepcopy(network).double().cpu().eval()
    builder = Builder(tuple(input_shape), LinearChain)
    _add(builder, network.layers, "", merge)
    _add(builder, network.head, "", merge)
    builder.close("out", "the read-out", Integrator(decay=1.0))
    if network.steps == 1:  # no step follows a spike, so the reset that chips and NIR have will do
        for population in builder.populations.values():
            if "reset" in population.options:
                population.options["reset"] = "hard"
    return builder


def _add(builder: Builder, module: nn.Module, name: str, merge: bool) -> None:
    """Add layers in the order in which they run; a `Residual` splits the branches.

    merge  make average pooling part of the synapses behind it, not a population of its own
    """
    if isinstance(module, nn.Sequential):
        for key, part in module.named_children():
            _add(builder, part, f"{name}.{key}" if name else key, merge)
    elif isinstance(module, Residual):
        entry = [copy.copy(branch) for branch in builder.branches]
        _add(builder, module.body, f"{name}.body", merge)
        body, builder.branches = builder.branches, entry
        _add(builder, module.shortcut, f"{name}.shortcut", merge)
        builder.branches = body + builder.branches
    else:
        builder.add(name, module)
        if isinstance(module, nn.AvgPool2d) and not merge:
            builder.close(name, f"layer {name!r}", Integrator(decay=0.0))


@dataclass(frozen=True)
class Integrator:
    """Neurons without spikes, v[t] = decay · v[t−1] + x[t]: the read-out (1), or a pooling of its own (0)."""

    decay: float

    def population(self, name: str, shape: tuple[int, ...]) -> Population:
        """The neurons as a part of a `Graph`."""
        params: dict[str, Any] = {"decay": self.decay, "gain": 1.0}
        return Population(name, "li", shape, params)


class LinearChain(Chain):
    """Linear layers in float64, also without synapses, as in a shortcut; together one projection."""

    def __init__(self, source: Population) -> None:
        super().__init__(source)
        self.layers: tuple[nn.Module, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.layers

    def add(self, where: str, module: nn.Module, first: bool) -> None:
        if isinstance(module, nn.Dropout):
            return
        if not isinstance(module, (*SYNAPSES, ChannelScale, nn.AvgPool2d, nn.Flatten, nn.Identity)):
            raise GraphError(
                f"{where} has no place in a Graph: it is not linear. Use average pooling, whose weights "
                "merge into the synapses."
            )
        if not first and isinstance(module, SYNAPSES) and module.bias is not None:
            module = copy.deepcopy(module)
            module.bias = None
        self.layers = (*self.layers, module)

    def close(self, name: str, where: str) -> tuple[list[Projection], tuple[int, ...], np.ndarray]:
        shape = self.source.shape
        with torch.no_grad():
            bias = nn.Sequential(*self.layers)(torch.zeros(1, *shape, dtype=torch.float64))[0]
        made = _projection(self.source, name, self.layers, tuple(bias.shape))
        found = tuple(bias.shape)
        if not bias.any():
            bias = torch.zeros((), dtype=torch.float64)
        elif bias.ndim == 3 and bool((bias == bias[:, :1, :1]).all()):
            bias = bias[:, :1, :1]
        return [made], found, bias.numpy()


def _projection(
    source: Population, target: str, chain: Sequence[nn.Module], out: tuple[int, ...]
) -> Projection:
    """The chain's weights from `source` to a population of shape `out`, in the kind that fits."""
    shape = source.shape
    layers = [m for m in chain if not isinstance(m, (nn.Flatten, nn.Identity))]
    if not any(isinstance(m, (*SYNAPSES, nn.AvgPool2d)) for m in layers):
        weight = torch.ones(1, *shape, dtype=torch.float64)
        with torch.no_grad():
            weight = nn.Sequential(*layers)(weight)
        return Projection("", source.name, "", weight.reshape(-1).numpy(), kind="one_to_one")
    made = _as_conv(layers, shape)
    if made is not None:
        weight, options = made
        return Projection("", source.name, "", weight.numpy(), kind="conv", options=options)
    matrix = _matrix(f"{source.name}→{target}", chain, shape, out)
    if isinstance(layers[-1], nn.Linear):
        return Projection("", source.name, "", matrix)
    sparse = csr_matrix(matrix.T)
    return Projection(
        "", source.name, "", sparse.data, kind="sparse", indptr=sparse.indptr.astype(np.int64),
        indices=sparse.indices.astype(np.int32),
    )  # fmt: skip


def _as_conv(layers: list[nn.Module], shape: tuple[int, ...]) -> tuple[Tensor, dict[str, Any]] | None:
    """A convolution, a pooling, or pooling and then a convolution, each before channel scales; or None."""
    layers = list(layers)
    scale = torch.ones(1, dtype=torch.float64)
    while isinstance(layers[-1], ChannelScale):
        weight = layers.pop().weight
        assert isinstance(weight, Tensor)
        scale = scale * weight.detach()
    pool = layers.pop(0) if isinstance(layers[0], nn.AvgPool2d) else None
    size = (1, 1)
    if isinstance(pool, nn.AvgPool2d):
        size, stride, padding = _pair(pool.kernel_size), _pair(pool.stride), _pair(pool.padding)
        whole = padding == (0, 0) and not pool.ceil_mode and pool.divisor_override is None
        if not whole or (layers and (stride != size or shape[1] % size[0] or shape[2] % size[1])):
            return None
        if not layers:
            weight = torch.full((shape[0], 1, *size), 1 / (size[0] * size[1]), dtype=torch.float64)
            options = {"stride": list(stride), "padding": [0, 0], "dilation": [1, 1], "groups": shape[0]}
            return weight * scale.view(-1, 1, 1, 1), options
    if len(layers) != 1 or not isinstance(layers[0], nn.Conv2d):
        return None
    conv = layers[0]
    if pool is not None and tuple(conv.dilation) != (1, 1):
        return None
    weight = conv.weight.detach().repeat_interleave(size[0], 2).repeat_interleave(size[1], 3)
    weight = weight / (size[0] * size[1]) * scale.view(-1, 1, 1, 1)
    own = conv_options(conv)
    merged = {k: [a * b for a, b in zip(own[k], size, strict=True)] for k in ("stride", "padding")}
    return weight, own | merged


def _pair(value: Any) -> tuple[int, int]:
    y, x = np.broadcast_to(value, 2)
    return int(y), int(x)


def _matrix(
    name: str, chain: Sequence[nn.Module], shape: tuple[int, ...], out: tuple[int, ...]
) -> np.ndarray:
    """The chain's weights ``[O, I]``: row by row what an output's cotangent becomes on its way back."""
    rows, columns = int(np.prod(out)), int(np.prod(shape))
    if rows * columns > LARGEST:
        raise GraphError(
            f"projection {name!r}: {rows} × {columns} weights of a chain of linear layers are too many; put "
            "a ReLU between the convolutions, or pool before the convolution by whole tiles."
        )
    x = torch.zeros(rows, *shape, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        y = nn.Sequential(*chain)(x).reshape(rows, rows)
        (weights,) = torch.autograd.grad(y, x, torch.eye(rows, dtype=torch.float64))
    return weights.reshape(rows, columns).numpy()
