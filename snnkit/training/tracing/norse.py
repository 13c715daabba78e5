"""Rows of `LAYERS` for Norse, whose cells take a step [B, …] and give (output, state).

    i ← i + x;  v ← v + dt · tau_mem_inv · (v_leak − v + i);  i ← i − dt · tau_syn_inv · i

The "box" cells have no current: x itself is in its place. It spikes above the threshold, not at it.
"""

from __future__ import annotations

from typing import Any

import norse.torch as norse
import numpy as np
import torch
from norse.torch.functional.reset import reset_subtract, reset_value
from norse.torch.module import snn
from torch import nn

from ...errors import GraphError
from ..branches import Shape, Value
from .maps import as_numbers, sent
from .others import (
    Neurons,
    Spiking,
    current_based,
    current_readout,
    each_step,
    fired,
    leaky,
    neurons,
    readout,
    without_leak,
    without_place,
)
from .tracer import ALONE, BATCH, LAYERS, LEADS, STEPS, Met, State, Tracer
from .tracer import layer as row


def lead(module: Any) -> Shape:
    """[T, B, …] of a layer that steps through time itself, [B, …] of a cell."""
    return (STEPS, BATCH) if isinstance(module, snn.SNN | snn.SNNRecurrent) else (BATCH,)


def _one(module: Any) -> int:
    return 1


def leak(part: Any, rate: Any) -> np.ndarray:
    """dt · rate, what is lost in a step, as Norse computes it: in the dtype of the rate."""
    return as_numbers(part.dt * torch.as_tensor(rate))


def _at(part: Any, reset: str = "hard", above: Any = 0.0) -> Spiking:
    """Threshold and reset value, above another potential."""
    return Spiking(as_numbers(part.p.v_th) - above, as_numbers(part.p.v_reset) - above, reset, strict=True)


@neurons(norse.IAFCell, norse.IAF, lead=lead, states=_one, keeps=False)
def _integrator(where: Met, part: Any) -> Neurons:
    return without_leak(_at(part), as_numbers(part.p.v_reset))


@neurons(norse.LIFBoxCell, lead=lead, states=_one, keeps=False)
def _boxed(where: Met, part: Any) -> Neurons:
    resets = {reset_value: "hard", reset_subtract: "soft"}
    if part.p.reset_method not in resets:
        raise GraphError(f"{where}: reset_method must be Norse's reset_value or reset_subtract.")
    lost = leak(part, part.p.tau_mem_inv)
    return leaky(1 - lost, lost, _at(part, resets[part.p.reset_method]), as_numbers(part.p.v_leak))


@neurons(norse.LIFCell, norse.LIF, lead=lead, states=_one, keeps=False)
def _current(where: Met, part: Any) -> Neurons:
    """With v counted from v_leak, where it starts and decays to."""
    mem, syn = leak(part, part.p.tau_mem_inv), leak(part, part.p.tau_syn_inv)
    return current_based(1 - syn, 1 - mem, mem, _at(part, above=as_numbers(part.p.v_leak)))


@row(norse.LIFRecurrentCell, norse.LIFRecurrent)
def _loop(tracer: Tracer, where: Met, part: Any, value: Value) -> Any:
    made = Neurons(**vars(_current(where, part)) | {"back": as_numbers(part.recurrent_weights)})
    fed = sent(tracer, where, value, part.input_weights, None, compose=True)
    return fired(tracer, where, made, fed, lead(part)), State(where.name)


@neurons(norse.LIBoxCell, lead=lead, states=_one, keeps=False)
def _readout(where: Met, part: Any) -> Neurons:
    if torch.as_tensor(part.p.v_leak).any():
        raise GraphError(f"{where}: v_leak of a read-out must be 0.")
    lost = leak(part, part.p.tau_mem_inv)
    return readout(1 - lost, lost)


@neurons(norse.LICell, norse.LI, lead=lead, states=_one, keeps=False)
def _current_readout(where: Met, part: Any) -> Neurons:
    if torch.as_tensor(part.p.v_leak).any():
        raise GraphError(f"{where}: v_leak of a read-out must be 0.")
    mem, syn = leak(part, part.p.tau_mem_inv), leak(part, part.p.tau_syn_inv)
    return current_readout(1 - syn, 1 - mem, mem)


@row(norse.Lift)
def _lifted(tracer: Tracer, where: Met, module: Any, value: Value) -> Any:
    return each_step(tracer, where, ("lifted_module", module.lifted_module), value)


for _kind in (norse.LIFRecurrentCell, norse.LIFRecurrent):
    LEADS[_kind] = lead
    ALONE.add(_kind)
LEADS[norse.Lift] = lambda module: (STEPS, BATCH)

_OWN = [k for k in vars(norse).values() if isinstance(k, type) and issubclass(k, nn.Module)]
for _kind in (snn.SNNCell, snn.SNNRecurrentCell, snn.SNN, snn.SNNRecurrent, *_OWN):
    gone_into = _kind is norse.SequentialState or not _kind.__module__.startswith("norse.")
    if _kind not in LAYERS and not gone_into:
        without_place("norse", _kind)
