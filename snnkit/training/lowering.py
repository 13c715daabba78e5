"""From a trained torch module to a `Graph`: rounded delays, folded batch norm, no dropout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from ..delays import AxonalDelay, DelayedConv1d, DelayedConv2d, DendriticDelay, RecurrentDelayedLinear
from ..errors import GraphError
from ..graph import INPUT, Graph, Population, Projection, conv_output_shape
from ..metadata import Readout, Timing
from .dropout import Dropout
from .network import Layer, SpikingClassifier


def lower(
    network: nn.Module,
    input_shape: tuple[int, ...] | int | None = None,
    dt: float | None = None,
    metadata: dict[str, Any] | None = None,
) -> Graph:
    """The network as plain data, computing what it computes in evaluation mode.

    Batch norm y = γ·(x − μ)/√(σ² + ε) + β goes into the weights (times a = γ/√(σ² + ε)) and the
    bias (β − μ·a); learned positions are rounded to integer delays; dropout disappears. All arrays
    are float64, so nothing is rounded but the delays.

    network      a `SpikingClassifier`, or an `nn.Sequential` of synapses (`nn.Linear`, `nn.Conv2d`
                 or layers with a `projections` method), batch norms, neurons, dropout, flatten;
                 an `AxonalDelay` before synapses and a `DendriticDelay` behind them lengthen their delays,
                 a `RecurrentDelayedLinear` is its neurons and their connections with each other
    input_shape  of one step, without batch; known already for a `SpikingClassifier`
    dt           length of a step, ms; likewise
    metadata     added to the graph's

    Raises `GraphError` naming the first layer that has no place in a Graph.
    """
    notes: dict[str, Any] = {}
    if isinstance(network, SpikingClassifier):
        input_shape, dt = network.inputs, network.dt
        timing = Timing(steps_tail=network.tail, padding=network.config.padding)
        notes = Readout(kind=network.config.readout).to_metadata() | timing.to_metadata()
    if input_shape is None or dt is None:
        raise GraphError("lower needs input_shape and dt for a module that is no SpikingClassifier.")
    builder = _Builder(input_shape)
    for name, module in _flatten(network):
        builder.add(name, module)
    return builder.finish(dt, notes | (metadata or {}))


def _flatten(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules that compute something, in order, with the names the populations get."""
    if isinstance(module, SpikingClassifier):
        for i, layer in enumerate(module.layers):
            yield from _flatten(layer, f"hidden{i}")
        yield "out", module.readout_synapses
        yield "out", module.readout
    elif isinstance(module, Layer):
        for part in (module.synapses, module.norm, module.neuron, module.dropout):
            yield prefix, part
    elif isinstance(module, nn.Sequential):
        for key, part in module.named_children():
            yield from _flatten(part, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, module


class _Builder:
    """Gathers synapses and affine maps until a neuron closes them into a population."""

    def __init__(self, input_shape: tuple[int, ...] | int) -> None:
        first = Population("input", INPUT, tuple(np.atleast_1d(input_shape)))
        self.populations = {first.name: first}
        self.projections: list[Projection] = []
        self.pending: list[Projection] = []
        self.shape: tuple[int, ...] = first.shape
        self.scale, self.bias = np.ones(1), np.zeros(1)
        self.axons: AxonalDelay | None = None

    @property
    def source(self) -> Population:
        return next(reversed(self.populations.values()))

    def add(self, name: str, module: nn.Module) -> None:
        where = f"layer {name!r} ({type(module).__name__})"
        if isinstance(module, (Dropout, nn.Dropout, nn.Dropout2d, nn.Identity, nn.Flatten)):
            return
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            self._norm(where, module)
        elif isinstance(module, nn.Linear):
            weight = _numpy(module.weight)
            self._synapses(where, [Projection("", self.source.name, "", weight)], (weight.shape[0],))
            self._add_bias(module.bias)
        elif isinstance(module, nn.Conv2d):
            self._convolution(where, module)
        elif isinstance(module, AxonalDelay):
            if self.pending or self.axons is not None:
                raise GraphError(f"{where} delays what synapses read: put it right before them.")
            self.axons = module
        elif isinstance(module, DendriticDelay):
            if not self.pending:
                raise GraphError(f"{where} follows no synapses; it delays what they give.")
            self.pending = module.fold(self.pending)
        elif isinstance(module, (DelayedConv1d, DelayedConv2d)):
            if isinstance(module, DelayedConv1d) and len(self.shape) == 2:
                self._widen()
            made = module.projections("", self.source.name, "")
            self._synapses(where, made, conv_output_shape(where, made[0], self.source.shape))
            self._add_bias(module.bias)
        elif isinstance(module, RecurrentDelayedLinear):
            self._neuron(name, where, module.neuron)
            self.projections += module.projections(f"{name}→{name}", "", name)
        elif hasattr(module, "projections"):
            made = cast(Any, module).projections("", self.source.name, "")
            self._synapses(where, made, (made[0].weight.shape[0],))
            self._add_bias(getattr(module, "bias", None))
        elif hasattr(module, "population"):
            self._neuron(name, where, module)
        else:
            raise GraphError(
                f"{where} has no place in a Graph; known are Linear, Conv2d, layers with delays, batch "
                "norms, neurons, Dropout and Flatten."
            )

    def _synapses(self, where: str, made: list[Projection], shape: tuple[int, ...]) -> None:
        if self.pending:
            raise GraphError(f"{where} follows other synapses with no neuron between; add a neuron.")
        if self.axons is not None:
            made, self.axons = self.axons.fold(made), None
        self.pending, self.shape = made, shape
        self.scale, self.bias = np.ones(shape[0]), np.zeros(shape[0])

    def _widen(self) -> None:
        """A source of (channels, length) as one of (channels, 1, length), which a convolution reads."""
        channels, length = self.source.shape
        name = self.source.name
        self.populations[name] = replace(self.source, shape=(channels, 1, length))

    def _add_bias(self, bias: torch.Tensor | None) -> None:
        if bias is not None:
            self.bias = self.bias + _numpy(bias)

    def _convolution(self, where: str, module: nn.Conv2d) -> None:
        if module.padding_mode != "zeros" or isinstance(module.padding, str):
            raise GraphError(f"{where}: only zero padding given as numbers can be lowered.")
        options = {
            "stride": list(module.stride),
            "padding": [int(n) for n in module.padding],
            "dilation": list(module.dilation),
            "groups": module.groups,
        }
        projection = Projection("", self.source.name, "", _numpy(module.weight), kind="conv", options=options)
        self._synapses(where, [projection], conv_output_shape(where, projection, self.source.shape))
        self._add_bias(module.bias)

    def _norm(self, where: str, module: nn.modules.batchnorm._BatchNorm) -> None:
        if not self.pending:
            raise GraphError(f"{where} follows no synapses; batch norm folds into the weights before it.")
        if module.running_mean is None or module.running_var is None:
            raise GraphError(f"{where} keeps no running statistics; train with track_running_stats=True.")
        ones = np.ones(self.shape[0])
        gamma = ones if module.weight is None else _numpy(module.weight)
        beta = 0 * ones if module.bias is None else _numpy(module.bias)
        factor = gamma / np.sqrt(_numpy(module.running_var) + module.eps)
        self.scale = self.scale * factor
        self.bias = (self.bias - _numpy(module.running_mean)) * factor + beta

    def _neuron(self, name: str, where: str, module: Any) -> None:
        if not self.pending:
            raise GraphError(f"{where} follows no synapses.")
        population = module.population(name, int(np.prod(self.shape)))
        spread = self.shape[:1] + (1,) * (len(self.shape) - 1)
        population = replace(population, shape=self.shape, bias=self.bias.reshape(spread))
        for k, p in enumerate(self.pending):
            scale = self.scale.reshape(-1, *[1] * (p.weight.ndim - 1))
            tap = f".{k}" if len(self.pending) > 1 else ""
            self.projections.append(
                replace(p, name=f"{p.source}→{name}{tap}", target=name, weight=p.weight * scale)
            )
        self.populations[name] = population
        self.pending = []

    def finish(self, dt: float, metadata: dict[str, Any]) -> Graph:
        if self.pending or self.axons is not None:
            raise GraphError("the module ends in synapses; add a neuron or the read-out LI after them.")
        return Graph(self.populations, self.projections, dt, [self.source.name], metadata).validate()


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
