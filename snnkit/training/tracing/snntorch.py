"""Rows of `LAYERS` for snnTorch, whose neurons take a step [B, …] and keep their state themselves.

    mem ← beta · mem + x − reset · threshold;  spk = mem > threshold;  reset = the spike of the step before

A subtraction comes a step later and is not subject to the decay of that step: here v_reset = threshold / beta
is subtracted at once. "zero" of Leaky clears v before that step's input, of the others together with it, so
that they are blind for a step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import snntorch
from torch import nn

from ...errors import GraphError, listed
from ..branches import Shape
from .maps import as_numbers
from .others import Neurons, Spiking, current_based, leaky, neurons, without_place
from .tracer import BATCH, Met

without_place("snntorch", snntorch.SpikingNeuron)


def lead(module: Any) -> Shape:
    """A neuron is called for each step."""
    return (BATCH,)


def _one(module: Any) -> int:
    return 1 if module.output or not module.init_hidden else 0


def _two(module: Any) -> int:
    return 2 * _one(module)


def _decay(beta: Any) -> np.ndarray:
    return as_numbers(beta.clamp(0, 1))


def _at(where: Met, part: Any, decay: np.ndarray, delayed: bool, blind: bool) -> Spiking:
    """The threshold and the reset.

    decay    what is left of v after a step
    delayed  whether a reset comes a step later
    blind    whether "zero" clears the input of that step too
    """
    chosen = {
        "state_quant": part.state_quant is not False,
        "inhibition": bool(part.inhibition),
        "graded_spikes_factor": bool((as_numbers(part.graded_spikes_factor) != 1).any()),
    }
    if any(chosen.values()):
        names = listed([name for name, given in chosen.items() if given])
        raise GraphError(f"{where}: {names} has no place in a Graph.")
    v_th = as_numbers(part.threshold)
    if (v_th < 0).any():
        raise GraphError(f"{where}: a threshold below 0, above which v starts.")
    way = part.reset_mechanism
    if way == "subtract" and not delayed:
        raise GraphError(
            f"{where}: reset_mechanism 'subtract' with reset_delay=False; a spike is then decided before "
            "what a potential of two thresholds leaves is subtracted again. Use reset_delay=True or 'zero'."
        )
    if way == "subtract" and not (decay > 0).all():
        raise GraphError(f"{where}: reset_mechanism 'subtract' needs a decay above 0.")
    if way == "subtract":
        return Spiking(v_th, v_th / decay, "subtract", strict=True)
    if way == "none":
        return Spiking(v_th, 0.0, "none", strict=True)
    return Spiking(v_th, 0.0, "hard", strict=True, refractory=int(delayed and blind))


@neurons(snntorch.Leaky, lead=lead, states=_one)
def _leaky(where: Met, part: Any) -> Neurons:
    beta = _decay(part.beta)
    return leaky(beta, 1.0, _at(where, part, beta, part.reset_delay, False))


@neurons(snntorch.Lapicque, lead=lead, states=_one)
def _lapicque(where: Met, part: Any) -> Neurons:
    decay = as_numbers(1 - part.time_step / (part.R * part.C))
    gain = as_numbers(part.R * (1 / (part.R * part.C)) * part.time_step)
    return leaky(decay, gain, _at(where, part, decay, True, True))


@neurons(snntorch.Synaptic, lead=lead, states=_two)
def _synaptic(where: Met, part: Any) -> Neurons:
    beta = _decay(part.beta)
    return current_based(_decay(part.alpha), beta, 1.0, _at(where, part, beta, part.reset_delay, True))


def _looped(where: Met, part: Any, made: Neurons) -> Neurons:
    synapses = part.recurrent
    if isinstance(synapses, nn.Linear):
        bias = None if synapses.bias is None else as_numbers(synapses.bias)
        fields = {"back": as_numbers(synapses.weight), "bias": bias}
    elif not part.all_to_all:
        fields = {"back": as_numbers(part.V)}
    else:
        raise GraphError(
            f"{where}: a recurrence by {type(synapses).__name__}; Linear and one to one can be lowered."
        )
    return Neurons(**vars(made) | fields)


@neurons(snntorch.RLeaky, lead=lead, states=_one)
def _recurrent(where: Met, part: Any) -> Neurons:
    beta = _decay(part.beta)
    return _looped(where, part, leaky(beta, 1.0, _at(where, part, beta, part.reset_delay, True)))


@neurons(snntorch.RSynaptic, lead=lead, states=_two)
def _recurrent_synaptic(where: Met, part: Any) -> Neurons:
    return _looped(where, part, _synaptic(where, part))
