"""Rows of `LAYERS` for sinabs, whose layers take [B, T, …], or [B·T, …] where they are called "Squeeze".

    i ← alpha_syn · (i + x);  v ← alpha_mem · v + (1 − alpha_mem) · i;  alpha = exp(−1/tau)

without the factor 1 − alpha_mem where norm_input is False. Spikes at the threshold: MultiSpike gives the
multiples of it that v reached, SingleSpike one. min_v_mem is a floor under v after the reset.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from sinabs import layers
from sinabs.activation import MaxSpike, MembraneReset, MembraneSubtract, MultiSpike, SingleSpike
from torch import nn
from torch.nn.modules.utils import _pair

from ...errors import GraphError
from ..branches import Shape, Value
from .maps import as_numbers, pooled
from .others import (
    Neurons,
    Spiking,
    current_based,
    current_readout,
    leaky,
    neurons,
    readout,
    without_leak,
    without_place,
)
from .tracer import BATCH, STEPS, Met, Tracer, axes
from .tracer import layer as row

without_place("sinabs", layers.StatefulLayer)


def lead(module: Any) -> Shape:
    """[B·T, …] of what squeezes, else [B, T, …]."""
    return (BATCH * STEPS,) if isinstance(module, layers.SqueezeMixin) else (BATCH, STEPS)


def _most(where: Met, spike_fn: Any) -> int | None:
    """Most spikes in a step."""
    if isinstance(spike_fn, MaxSpike):
        return spike_fn.max_num_spikes_per_bin
    if spike_fn in (MultiSpike, SingleSpike):
        return None if spike_fn is MultiSpike else 1
    raise GraphError(f"{where}: spike_fn must be MultiSpike, MaxSpike or SingleSpike of sinabs.")


def _at(where: Met, part: Any) -> Spiking:
    """Threshold, reset and floor."""
    v_th, most = as_numbers(part.spike_threshold), _most(where, part.spike_fn)
    floor = None if part.min_v_mem is None else as_numbers(part.min_v_mem)
    way = part.reset_fn
    if isinstance(way, MembraneReset) and way.reset_value == 0:
        return Spiking(v_th, 0.0, "hard", max_spikes=most, v_min=floor)
    if isinstance(way, MembraneSubtract):
        taken = way.subtract_value
        if taken is None or (v_th == taken).all():
            return Spiking(v_th, 0.0, "soft", max_spikes=most, v_min=floor)
        if most == 1:
            return Spiking(v_th, taken, "subtract", v_min=floor)
    raise GraphError(
        f"{where}: reset_fn must be MembraneSubtract of the threshold (of anything else for SingleSpike) or "
        "MembraneReset to 0; another reset_value sinabs adds to v in every step."
    )


@neurons(layers.LIF, layers.LIFSqueeze, layers.ExpLeak, layers.ExpLeakSqueeze, layers.LIFRecurrent, lead=lead)
def _leaky(where: Met, part: Any) -> Neurons:
    mem, syn = part.alpha_mem_calculated, part.alpha_syn_calculated
    gain = as_numbers(1 - mem if part.norm_input else torch.ones_like(mem))
    if part.spike_fn is None:
        if part.min_v_mem is not None:
            raise GraphError(f"{where}: a read-out with min_v_mem has no place in a Graph.")
        return readout(mem, gain) if syn is None else current_readout(syn, mem, gain, syn)
    if syn is None:
        return _looped(where, part, leaky(mem, gain, _at(where, part)))
    made = current_based(syn, mem, gain * as_numbers(syn), _at(where, part))
    return _looped(where, part, made)


@neurons(layers.IAF, layers.IAFSqueeze, layers.IAFRecurrent, lead=lead)
def _integrator(where: Met, part: Any) -> Neurons:
    syn = part.alpha_syn_calculated
    if syn is None:
        return _looped(where, part, without_leak(_at(where, part)))
    return _looped(where, part, current_based(syn, 1.0, syn, _at(where, part)))


def _looped(where: Met, part: Any, made: Neurons) -> Neurons:
    if not isinstance(part, layers.LIFRecurrent):
        return made
    synapses = part.rec_connect
    if not isinstance(synapses, nn.Linear) or synapses.bias is not None:
        raise GraphError(
            f"{where}: rec_connect must be a Linear without bias, which sinabs adds from the second step."
        )
    return Neurons(**vars(made) | {"back": as_numbers(synapses.weight)})


@row(layers.SumPool2d)
def _summed(tracer: Tracer, where: Met, module: Any, value: Value) -> Value:
    tiles = _pair(module.kernel_size)
    stride = tiles if module.stride is None else module.stride
    mean = pooled(tracer, where, value, tiles, stride, 0, not module.ceil_mode)
    return mean.scaled(np.asarray(float(math.prod(tiles))))


@row(layers.SpikingMaxPooling2dLayer)
def _maximum(tracer: Tracer, where: Met, module: nn.Module, value: Value) -> Value:
    raise GraphError(
        f"{where} has no place in a Graph: which of the neurons passes depends on their counts so far."
    )


@row(layers.UnflattenTime)
def _unfolded(tracer: Tracer, where: Met, module: nn.Module, value: Value) -> Value:
    if value.lead != (math.prod(tracer.lead),) or tracer.lead != (BATCH, STEPS):
        raise GraphError(f"{where} unfolds [B·T, …] and gets {axes(value.lead)}.")
    return value.reshaped(value.shape, tracer.lead)
