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
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ..errors import GraphError, ParameterError, ShapeError
from ..events import EventBatch
from ..graph import Graph, Population
from ..metadata import Readout, Timing
from ..training.branches import Value
from ..training.tracing import Met, Tracer, layer
from .ann import SYNAPSES, Residual, leaves
from .neuron import SpikingLayer
from .spiking import ChannelScale, SpikingNet


def encode(images: np.ndarray, steps: int) -> EventBatch:
    """Images ``[B, C, H, W]`` as the events of a lowered network: values repeated in every step.

    Raises `ShapeError` for less than two axes and `ParameterError` for less than 1 step.
    """
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
    made = _lowered(network, input_shape, True)
    return Graph(made.populations, made.projections, dt, ["out"], notes | (metadata or {})).validate()


def dense_graph(network: SpikingNet, input_shape: tuple[int, ...]) -> Graph:
    """The ANN that the network came from, as far as its price goes: its layers, poolings of their own.

    For `snnkit.energy.baseline.dense_pj`, which counts the synapses and neurons of a Graph as a dense
    machine would work through them; a pooling merged into a convolution would be counted too dear.
    """
    made = _lowered(network, input_shape, False)
    return Graph(made.populations, made.projections, 1.0, ["out"]).validate()


def _lowered(network: SpikingNet, input_shape: tuple[int, ...], merge: bool) -> Tracer:
    network = copy.deepcopy(network).double().cpu().eval()
    tracer = Tracer({"input": tuple(input_shape)}, compose=True)
    value = _add(tracer, network.layers, "", tracer.value("input"), merge)
    out = _add(tracer, network.head, "", value, merge)
    tracer.close(Met("out", "the read-out"), Integrator(decay=1.0), out)
    if network.steps == 1:  # no step follows a spike, so the reset that chips and NIR have will do
        for population in tracer.populations.values():
            if "reset" in population.options:
                population.options["reset"] = "hard"
    return tracer


def _add(tracer: Tracer, module: nn.Module, name: str, value: Value, merge: bool) -> Value:
    """What layers make of a value, in the order in which they run; a `Residual` adds two branches.

    merge  make average pooling part of the synapses behind it, not a population of its own
    """
    if isinstance(module, nn.Sequential):
        for key, part in module.named_children():
            value = _add(tracer, part, f"{name}.{key}" if name else key, value, merge)
        return value
    if isinstance(module, Residual):
        body = _add(tracer, module.body, f"{name}.body", value, merge)
        return body.plus(f"layer {name!r}", _add(tracer, module.shortcut, f"{name}.shortcut", value, merge))
    value = tracer.apply(name, module, value)
    if isinstance(module, nn.AvgPool2d) and not merge:
        return tracer.close(Met(name, "AvgPool2d"), Integrator(decay=0.0), value)
    return value


@layer(ChannelScale)
def _scaled(tracer: Tracer, where: Met, module: ChannelScale, value: Value) -> Value:
    weight: Any = module.weight
    return value.scaled(weight.detach().numpy().reshape(-1, *[1] * (len(value.shape) - 1)))


@layer(SpikingLayer)
def _neurons(tracer: Tracer, where: Met, module: SpikingLayer, value: Value) -> Value:
    return tracer.close(where, module, value)


@dataclass(frozen=True)
class Integrator:
    """Neurons without spikes, v[t] = decay · v[t−1] + x[t]: the read-out (1), or a pooling of its own (0)."""

    decay: float

    def population(self, name: str, shape: tuple[int, ...]) -> Population:
        """The neurons as a part of a `Graph`."""
        params: dict[str, Any] = {"decay": self.decay, "gain": 1.0}
        return Population(name, "li", shape, params)
