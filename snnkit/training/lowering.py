"""From a trained torch module to a `Graph`: rounded delays, folded batch norm, no dropout."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
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
    builder = Builder(tuple(np.atleast_1d(input_shape)), DelayedChain)
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


class Chain(ABC):
    """The layers between two populations: they say what leads from `source` into the next.

    source  the population that they read
    """

    def __init__(self, source: Population) -> None:
        self.source = source

    @property
    @abstractmethod
    def empty(self) -> bool:
        """True if no layer came yet that a population would have to follow."""

    @abstractmethod
    def add(self, where: str, module: nn.Module, first: bool) -> None:
        """One layer more; raises `GraphError` naming `where` if it has no place in a Graph.

        first  False where another branch has had this layer before: a bias must count once
        """

    @abstractmethod
    def close(self, name: str, where: str) -> tuple[list[Projection], tuple[int, ...], np.ndarray]:
        """Projections from `source`, the shape they lead into, and the bias, which broadcasts to it.

        They lead to the population `name`; the builder names them. Raises `GraphError` naming `where` if
        there are none, or if what the layers do together is too large for a matrix.
        """


class Builder:
    """A Graph in the making: layers gather in chains until neurons close them into a population.

    chain     what makes a chain of layers behind a population
    branches  the chains that lead to the next population; more than one where a shortcut begins or ends
    """

    def __init__(self, input_shape: tuple[int, ...], chain: Callable[[Population], Chain]) -> None:
        first = Population("input", INPUT, input_shape)
        self.populations = {first.name: first}
        self.projections: list[Projection] = []
        self.chain = chain
        self.branches = [chain(first)]

    def add(self, name: str, module: nn.Module) -> None:
        """One layer more: of every branch, or the neurons that they lead to."""
        where = f"layer {name!r} ({type(module).__name__})"
        if isinstance(module, RecurrentDelayedLinear):
            self.close(name, where, module.neuron)
            self.projections += module.projections(f"{name}→{name}", "", name)
        elif hasattr(module, "population"):
            self.close(name, where, module)
        else:
            for k, branch in enumerate(self.branches):
                branch.add(where, module, k == 0)

    def close(self, name: str, where: str, neuron: Any) -> None:
        """A population of `neuron`, anything with a `population` method, that all branches lead into."""
        found = [branch.close(name, where) for branch in self.branches]
        for k, (branch, (made, _, _)) in enumerate(zip(self.branches, found, strict=True)):
            source = self.populations[branch.source.name] = branch.source
            for tap, p in enumerate(made):
                parts = [str(k)] * (k > 0) + [str(tap)] * (len(made) > 1)
                full = ".".join([f"{source.name}→{name}", *parts])
                self.projections.append(replace(p, name=full, source=source.name, target=name))
        shape, bias = found[0][1], sum((bias for _, _, bias in found[1:]), found[0][2])
        self.populations[name] = replace(neuron.population(name, shape), bias=bias)
        self.branches = [self.chain(self.populations[name])]

    def finish(self, dt: float, metadata: dict[str, Any]) -> Graph:
        """The Graph, read at its last population."""
        if not all(branch.empty for branch in self.branches):
            raise GraphError("the module ends in synapses; add a neuron or the read-out LI after them.")
        outputs = [next(reversed(self.populations))]
        return Graph(self.populations, self.projections, dt, outputs, metadata).validate()


class DelayedChain(Chain):
    """Delays of axons, synapses with or without delays, delays of dendrites, batch norms."""

    def __init__(self, source: Population) -> None:
        super().__init__(source)
        self.pending: list[Projection] = []
        self.shape = source.shape
        self.scale, self.bias = np.ones(1), np.zeros(1)
        self.axons: AxonalDelay | None = None

    @property
    def empty(self) -> bool:
        return not self.pending and self.axons is None

    def add(self, where: str, module: nn.Module, first: bool) -> None:
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
        elif hasattr(module, "projections"):
            made = cast(Any, module).projections("", self.source.name, "")
            self._synapses(where, made, (made[0].weight.shape[0],))
            self._add_bias(getattr(module, "bias", None))
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
        self.source = replace(self.source, shape=(channels, 1, length))

    def _add_bias(self, bias: torch.Tensor | None) -> None:
        if bias is not None:
            self.bias = self.bias + _numpy(bias)

    def _convolution(self, where: str, module: nn.Conv2d) -> None:
        if module.padding_mode != "zeros" or isinstance(module.padding, str):
            raise GraphError(f"{where}: only zero padding given as numbers can be lowered.")
        options = conv_options(module)
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

    def close(self, name: str, where: str) -> tuple[list[Projection], tuple[int, ...], np.ndarray]:
        if not self.pending:
            raise GraphError(f"{where} follows no synapses.")
        scaled = [
            replace(p, weight=p.weight * self.scale.reshape(-1, *[1] * (p.weight.ndim - 1)))
            for p in self.pending
        ]
        return scaled, self.shape, self.bias.reshape(-1, *[1] * (len(self.shape) - 1))


def conv_options(module: nn.Conv2d) -> dict[str, Any]:
    """Geometry of a "conv" projection."""
    return {
        "stride": [int(n) for n in module.stride],
        "padding": [int(n) for n in module.padding],
        "dilation": [int(n) for n in module.dilation],
        "groups": module.groups,
    }


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
