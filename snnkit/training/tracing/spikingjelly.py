"""Rows of `LAYERS` for SpikingJelly: its nodes, layers (torch's, with a step mode) and containers.

h = v − (v − v_reset)/tau + x, or + x/tau with decay_input; s = h ≥ v_threshold; v_reset None: the soft reset.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from spikingjelly.activation_based import base, layer, neuron
from torch import nn

from ...errors import GraphError
from ..branches import Shape, Value
from .maps import as_numbers, sent
from .others import (
    OTHERS,
    Neurons,
    Spiking,
    current_based,
    each_step,
    fired,
    leaky,
    neurons,
    once,
    plain,
    readout,
    without_leak,
    without_place,
)  # fmt: skip
from .tracer import ALONE, BATCH, LEADS, STEPS, Met, Tracer
from .tracer import layer as row

without_place("spikingjelly", base.MemoryModule, neuron.base_node.NonSpikingBaseNode)


def lead(module: Any) -> Shape:
    """What the step mode says: [T, B, …] of "m", [B, …] of "s"."""
    return (STEPS, BATCH) if module.step_mode == "m" else (BATCH,)


def _at(node: Any) -> Spiking:
    soft = node.v_reset is None
    return Spiking(node.v_threshold, 0.0 if soft else node.v_reset, "soft" if soft else "hard")


def _made(node: Any, made: Neurons, learn_tau: bool = False) -> Neurons:
    fields = vars(made) | {"detach_reset": node.detach_reset, "learn_tau": learn_tau}
    return Neurons(**fields)


def _rest(node: Any) -> float:
    return 0.0 if node.v_reset is None else node.v_reset


@neurons(neuron.LIFNode, lead=lead)
def _leaky(where: Met, node: Any) -> Neurons:
    share = 1.0 / node.tau
    return _made(node, leaky(1 - share, share if node.decay_input else 1.0, _at(node), _rest(node)))


@neurons(neuron.ParametricLIFNode, lead=lead)
def _learned(where: Met, node: Any) -> Neurons:
    share = as_numbers(torch.sigmoid(node.w))
    made = leaky(1 - share, share if node.decay_input else 1.0, _at(node), _rest(node))
    return _made(node, made, learn_tau=True)


@neurons(neuron.IFNode, lead=lead)
def _integrator(where: Met, node: Any) -> Neurons:
    return _made(node, without_leak(_at(node), _rest(node)))


@neurons(neuron.CUBALIFNode, lead=lead)
def _current(where: Met, node: Any) -> Neurons:
    if node.v_reset:
        raise GraphError(f"{where}: v starts at v_reset = {node.v_reset}; only 0 or None can be lowered.")
    return _made(node, current_based(node.c_decay, node.v_decay, 1.0, _at(node)))


@neurons(neuron.NonSpikingLIFNode, neuron.NonSpikingIFNode, lead=lambda node: (STEPS, BATCH))
def _potential(where: Met, node: Any) -> Neurons:
    if node.decode is not None:
        raise GraphError(f"{where}: decode = {node.decode!r} reduces over time; pass decode=None.")
    if isinstance(node, neuron.NonSpikingIFNode):
        return readout(1.0, 1.0)
    return readout(1 - 1 / node.tau, 1 / node.tau)


for _kind, _base in {
    layer.Linear: nn.Linear,
    layer.Conv1d: nn.Conv1d,
    layer.Conv2d: nn.Conv2d,
    layer.BatchNorm1d: nn.BatchNorm1d,
    layer.BatchNorm2d: nn.BatchNorm2d,
    layer.AvgPool2d: nn.AvgPool2d,
    layer.AdaptiveAvgPool2d: nn.AdaptiveAvgPool2d,
    layer.MaxPool1d: nn.MaxPool1d,
    layer.MaxPool2d: nn.MaxPool2d,
    layer.Flatten: nn.Flatten,
}.items():
    plain(_kind, _base)
    ALONE.add(_kind)


@row(layer.Dropout, layer.Dropout2d)
def _nothing(tracer: Tracer, where: Met, module: nn.Module, value: Value) -> Value:
    return value


@row(layer.Delay)
def _late(tracer: Tracer, where: Met, module: Any, value: Value) -> Value:
    tracer.expect(where, value, lead(module))
    behind = any(b.synapses for b in value.branches)
    return value.late(where, np.full(value.shape, module.delay_steps).reshape(-1), behind)


@row(layer.MultiStepContainer)
def _container(tracer: Tracer, where: Met, module: nn.Sequential, value: Value) -> Any:
    for part in module.named_children():
        value = each_step(tracer, where, part, value)
    return value


LEADS[layer.MultiStepContainer] = lead


@row(layer.SynapseFilter)
def _filter(tracer: Tracer, where: Met, module: Any, value: Value) -> Value:
    raise GraphError(
        f"{where} filters spikes over time, and what follows would get numbers where synapses carry spikes. "
        "Use current-based neurons after the synapses, whose current is that filter (CubaLIF, CUBALIFNode)."
    )


@row(layer.LinearRecurrentContainer)
def _loop(tracer: Tracer, where: Met, module: Any, value: Value) -> Any:
    core = module.sub_module
    while isinstance(core, nn.Sequential) and len(core) == 1:
        core = core[0]
    if type(core) not in OTHERS:
        raise GraphError(
            f"{where}: its sub_module is {type(core).__name__}; one of SpikingJelly's neurons alone can be "
            "lowered, since nothing but synapses lies between the container's Linear and its spikes."
        )
    once(tracer, where)
    n = module.rc.in_features - module.sub_module_out_features
    sent_on = sent(tracer, where, value, module.rc.weight[:, :n], module.rc.bias, compose=True)
    made = OTHERS[type(core)](where, core)
    back = as_numbers(module.rc.weight[:, n:])
    return fired(tracer, where, Neurons(**vars(made) | {"back": back}), sent_on, lead(module))


LEADS[layer.LinearRecurrentContainer] = lead
ALONE.update(
    {layer.Delay, layer.Dropout, layer.Dropout2d, layer.SynapseFilter, layer.LinearRecurrentContainer}
)
