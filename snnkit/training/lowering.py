"""From a trained torch module to a `Graph`: rounded delays, folded batch norm, no dropout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from ..errors import GraphError
from ..graph import Graph, Population
from ..metadata import Readout, Timing
from .branches import Shape, Value
from .evaluation import evaluating
from .network import Chain, Layer, SpikingClassifier
from .tracing import Met, Tracer, hooked, layer, lead_of, placed

InputShape = int | Sequence[int] | Sequence[Sequence[int]] | Mapping[str, Sequence[int] | int]


def lower(
    network: nn.Module,
    input_shape: InputShape | None = None,
    dt: float | None = None,
    metadata: dict[str, Any] | None = None,
) -> Graph:
    """The network as plain data, computing what it computes in evaluation mode.

    Batch norm y = γ·(x − μ)/√(σ² + ε) + β goes into the weights (times a = γ/√(σ² + ε)) and the
    bias (β − μ·a); learned positions are rounded to integer delays; dropout disappears. All arrays
    are float64, so nothing is rounded but the delays.

    network      a `SpikingClassifier`, or any module that takes ``[T, B, …]`` and gives what its neurons
                 give. Its `forward` is followed by `torch.fx`: `snnkit.training.tracing.LAYERS` and
                 ``OPERATIONS`` are what has a place in a Graph. A module that is used twice makes two
                 populations; branches may be added and joined
    input_shape  of one step, without batch; for several inputs a sequence of shapes, or {name: shape}.
                 Known already for a `SpikingClassifier`
    dt           length of a step, ms; likewise
    metadata     added to the graph's

    Raises `GraphError` naming the first layer or operation that has no place in a Graph, and its line.
    """
    notes: dict[str, Any] = {}
    if isinstance(network, SpikingClassifier):
        input_shape, dt = network.inputs, network.dt
        timing = Timing(steps_tail=network.tail, padding=network.config.padding)
        notes = Readout(kind=network.config.readout).to_metadata() | timing.to_metadata()
    if input_shape is None or dt is None:
        raise GraphError("lower needs input_shape and dt for a module that is no SpikingClassifier.")
    tracer = Tracer(_inputs(input_shape), lead=lead_of(network))
    with evaluating(network):
        outputs = tracer.run(network)
    names = [_output(tracer, value) for value in outputs]
    populations = _over_space(tracer)
    return Graph(populations, tracer.projections, dt, names, notes | (metadata or {})).validate()


def _over_space(tracer: Tracer) -> dict[str, Population]:
    """Populations of shape (C, L) that a convolution reads as (C, 1, L)."""
    read = {p.source for p in tracer.projections if p.kind == "conv"}
    return {
        name: placed(p, (p.shape[0], 1, p.shape[1])) if name in read and len(p.shape) == 2 else p
        for name, p in tracer.populations.items()
    }


def _inputs(shape: InputShape) -> dict[str, Shape]:
    """Name → shape of each input population."""
    if isinstance(shape, Mapping):
        return {name: tuple(int(n) for n in np.atleast_1d(one)) for name, one in shape.items()}
    if isinstance(shape, Sequence) and shape and not isinstance(shape[0], int | np.integer):
        several = [tuple(int(n) for n in np.atleast_1d(one)) for one in shape]
        return {"input" if not k else f"input{k}": one for k, one in enumerate(several)}
    return {"input": tuple(int(n) for n in np.atleast_1d(shape))}


def _output(tracer: Tracer, value: Any) -> str:
    """The population that an output of the module is."""
    if not isinstance(value, Value):
        raise GraphError(f"the module gives {type(value).__name__}, expected what neurons give.")
    (branch,) = value.branches if len(value.branches) == 1 else (None,)
    if branch is not None and not value.bias.any():
        whole = branch.row is None and branch.gain is None
        spikes = tracer.populations[branch.source].neuron != "input"
        if whole and spikes and not branch.synapses and branch.axons is None:
            return branch.source
    raise GraphError("the module ends in synapses; add a neuron or the read-out LI after them.")


@layer(Chain)
def _chain(tracer: Tracer, where: Met, module: Chain, value: Value) -> Value:
    for part in module:
        value = tracer.apply(where.name, part, value)
    return value


@layer(Layer)
def _layer(tracer: Tracer, where: Met, module: Layer, value: Value) -> Value:
    _refuse_hooks(where, module)
    for part in (module.before, module.synapses, module.norm, module.neuron, module.dropout):
        if part is not None:
            value = tracer.apply(where.name, part, value)
    return value


@layer(SpikingClassifier)
def _classifier(tracer: Tracer, where: Met, module: SpikingClassifier, value: Value) -> Value:
    _refuse_hooks(where, module)
    given = [value]
    for i, (part, skip) in enumerate(zip(module.layers, module.skips, strict=True)):
        value = tracer.apply(f"hidden{i}", part, value)
        if skip:
            value = value.plus(f"skip of layer 'hidden{i}'", given[-skip])
        given.append(value)
    value = value.reshaped((value.size,))
    return tracer.apply("out", module.readout, tracer.apply("out", module.readout_synapses, value))


def _refuse_hooks(where: Met, module: nn.Module) -> None:
    """Raise `GraphError` for a hook on what gives no single tensor."""
    if hooked(module):
        raise GraphError(
            f"{where} has hooks on the whole of it, which can't be followed; put them on its synapses, norm "
            "or neurons, or remove them before lowering."
        )
