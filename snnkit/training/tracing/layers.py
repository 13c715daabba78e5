"""Rows of `LAYERS`: torch's layers, neurons and layers with delays."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn
from torch.nn.modules.utils import _pair

from ...delays import (
    AxonalDelay,
    DelayedConv1d,
    DelayedConv2d,
    DelayedLinear,
    DendriticDelay,
    RecurrentDelayedLinear,
)
from ...errors import GraphError
from ...graph import conv_output_shape
from ...neurons import NeuronModule
from ..branches import Shape, Value
from ..dropout import Dropout
from .maps import adapted, as_numbers, convolved, normalised, pooled, sent
from .tracer import BATCH, LEADS, STEPS, Met, Tracer, axes, layer


@layer(Dropout, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Identity)
def _nothing(tracer: Tracer, where: Met, module: nn.Module, value: Value) -> Value:
    return value


@layer(nn.Flatten)
def _flatten(tracer: Tracer, where: Met, module: nn.Flatten, value: Value) -> Value:
    if (module.start_dim, module.end_dim) == (0, 1) and len(value.lead) == 2:
        if value.lead != tracer.lead:
            raise GraphError(f"{where} folds {axes(value.lead)}, the inputs have {axes(tracer.lead)}.")
        return value.reshaped(value.shape, (math.prod(value.lead),))
    return value.reshaped((value.size,))


@layer(nn.Linear)
def _linear(tracer: Tracer, where: Met, module: nn.Linear, value: Value) -> Value:
    return sent(tracer, where, value, module.weight, module.bias)


@layer(nn.Conv2d)
def _conv2d(tracer: Tracer, where: Met, module: nn.Conv2d, value: Value) -> Value:
    geometry = (module.stride, _zeros(where, module), module.dilation, module.groups)
    return convolved(tracer, where, value, module.weight, module.bias, geometry)


def _zeros(where: Met, module: nn.Conv1d | nn.Conv2d) -> tuple[int, ...]:
    """A convolution's padding in numbers, for each axis; "same" where it is the same on both sides."""
    if isinstance(module.padding, str):
        wide = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        padding = [0] * len(wide) if module.padding == "valid" else wide
        if all(n % 2 == 0 for n in padding) and module.padding_mode == "zeros":
            return tuple(n // 2 for n in padding)
    elif module.padding_mode == "zeros":
        return tuple(module.padding)
    raise GraphError(f"{where}: only zero padding that is the same on both sides can be lowered.")


@layer(nn.Conv1d)
def _conv1d(tracer: Tracer, where: Met, module: nn.Conv1d, value: Value) -> Value:
    if len(value.shape) != 2:
        raise GraphError(f"{where} expects [C, L] and gets shape {list(value.shape)}.")
    geometry = ((1, *module.stride), (0, *_zeros(where, module)), (1, *module.dilation), module.groups)
    wide = value.reshaped((value.shape[0], 1, *value.shape[1:]))
    sent = convolved(tracer, where, wide, module.weight[:, :, None], module.bias, geometry)
    return sent.reshaped((sent.shape[0], sent.shape[2]))


@layer(DelayedLinear)
def _delayed_linear(tracer: Tracer, where: Met, module: DelayedLinear, value: Value) -> Value:
    return _delayed(tracer, where, module, value, (module.out_features,))


@layer(DelayedConv2d)
def _delayed_conv2d(tracer: Tracer, where: Met, module: DelayedConv2d, value: Value) -> Value:
    made = module.projections("", "", "")
    return _delayed(tracer, where, module, value, conv_output_shape(str(where), made[0], value.shape))


@layer(DelayedConv1d)
def _delayed_conv1d(tracer: Tracer, where: Met, module: DelayedConv1d, value: Value) -> Value:
    if len(value.shape) != 2:
        raise GraphError(f"{where} expects [C, L] and gets shape {list(value.shape)}.")
    wide = value.reshaped((value.shape[0], 1, value.shape[1]))
    made = module.projections("", "", "")
    sent = _delayed(tracer, where, module, wide, conv_output_shape(str(where), made[0], wide.shape))
    return sent.reshaped((sent.shape[0], sent.shape[2]))


def _delayed(tracer: Tracer, where: Met, module: Any, value: Value, shape: Shape) -> Value:
    tracer.expect(where, value)
    made = [replace(p, weight=p.weight.astype(np.float64)) for p in module.projections("", "", "")]
    if made[0].kind == "dense" and (len(value.shape) > 1 or value.size != made[0].weight.shape[1]):
        raise GraphError(
            f"{where} expects {made[0].weight.shape[1]} inputs and gets shape {list(value.shape)}; "
            "flatten first."
        )
    sent = value.through(where, made, shape)
    if module.bias is None:
        return sent
    return sent.shifted(as_numbers(module.bias).reshape(-1, *[1] * (len(shape) - 1)))


@layer(AxonalDelay)
def _axonal(tracer: Tracer, where: Met, module: AxonalDelay, value: Value) -> Value:
    tracer.expect(where, value)
    return value.late(where, _each_delay(where, module, value, "sources"), behind=False)


@layer(DendriticDelay)
def _dendritic(tracer: Tracer, where: Met, module: DendriticDelay, value: Value) -> Value:
    tracer.expect(where, value)
    return value.late(where, _each_delay(where, module, value, "targets"), behind=True)


def _each_delay(where: Met, module: Any, value: Value, what: str) -> np.ndarray:
    delays: np.ndarray = module.delays().astype(np.int64)
    if value.shape != (len(delays),):
        raise GraphError(f"{where}: it has {value.size} {what}, and there are {len(delays)} delays.")
    return delays


@layer(nn.modules.batchnorm._BatchNorm)
def _norm(tracer: Tracer, where: Met, module: Any, value: Value) -> Value:
    if module.running_mean is None or module.running_var is None:
        raise GraphError(f"{where} keeps no running statistics; train with track_running_stats=True.")
    if value.shape[0] != module.num_features:
        raise GraphError(
            f"{where} normalises {module.num_features} features, the first axis of {list(value.shape)} has "
            f"{value.shape[0]}."
        )
    return normalised(value, module.running_mean, module.running_var, module.weight, module.bias, module.eps)


@layer(NeuronModule)
def _neuron(tracer: Tracer, where: Met, module: Any, value: Value) -> Value:
    return tracer.close(where, module, value)


LEADS[NeuronModule] = lambda module: (STEPS, BATCH)


@layer(RecurrentDelayedLinear)
def _recurrent(tracer: Tracer, where: Met, module: RecurrentDelayedLinear, value: Value) -> Value:
    neuron: Any = module.neuron
    spikes = tracer.close(where, neuron, value)
    name = spikes.branches[0].source
    tracer.projections += [
        replace(p, weight=p.weight.astype(np.float64)) for p in module.projections(f"{name}→{name}", "", name)
    ]
    return spikes


@layer(nn.AvgPool2d)
def _average(tracer: Tracer, where: Met, module: nn.AvgPool2d, value: Value) -> Value:
    stride = module.kernel_size if module.stride is None else module.stride
    whole = not module.ceil_mode and module.divisor_override is None
    whole = whole and (module.count_include_pad or not any(_pair(module.padding)))
    return pooled(tracer, where, value, module.kernel_size, stride, module.padding, whole)


@layer(nn.AdaptiveAvgPool2d)
def _adaptive(tracer: Tracer, where: Met, module: nn.AdaptiveAvgPool2d, value: Value) -> Value:
    return adapted(tracer, where, value, module.output_size)


@layer(nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool2d)
def _maximum(tracer: Tracer, where: Met, module: nn.Module, value: Value) -> Value:
    raise GraphError(
        f"{where} has no place in a Graph: it is not linear. The maximum of spikes is their OR, which no sum "
        "of synapses gives without more neurons. Use average pooling, whose weights merge into the synapses."
    )
