"""Leaky integrate-and-fire neuron ("lif") and the integrator without leak ("if").

    h[t] = v_rest + decay · (v[t-1] − v_rest) + gain · x[t]     before the reset
    s[t] = 1 if h[t] ≥ v_th else 0                               spike
    v[t] = what the reset leaves of h[t]

`resets` says what the options change: reset, strict, max_spikes, floor (with the parameter `v_min`).
With ``decay = 1 − dt/tau_mem``, ``gain = 1 − decay`` is SpikingJelly's decay_input=True and
``gain = 1`` its decay_input=False. With refractory=True a neuron that has spiked stays where the
reset put it, blind to its input, for the next `refractory` steps (state `wait` counts them).

Backwards a surrogate stands in for ds/dh: Neftci, Mostafa and Zenke, IEEE Signal Processing
Magazine 36(6), 2019. docs/math/neurons.md derives the adjoint.
"""

import functools
from typing import Any

from .equations import specialise
from .neuron import Neuron, register
from .resets import REFRACTORY, above_floor, above_floor_adjoint, threshold

PARAMS = ("decay", "gain", "v_th", "v_reset", "v_rest")
DEFAULTS = {"gain": 1.0, "v_th": 1.0, "v_reset": 0.0, "v_rest": 0.0}


def step(
    v: Any, wait: Any, x: Any, decay: Any, gain: Any, v_th: Any, v_reset: Any, v_rest: Any, v_min: Any,
    refractory: Any, fire: Any, holds: bool, floor: bool,
) -> Any:  # fmt: skip
    """One time step; `fire`, `holds` and `floor` are fixed by `make`."""
    h = v_rest + decay * (v - v_rest) + gain * x
    if holds:
        fires, h, v, wait = fire(h, v, wait, v_th, v_reset, refractory)
    else:
        fires, h, v = fire(h, v_th, v_reset)
    if floor:
        v = above_floor(v, v_min)
    if holds:
        return fires, h, v, wait
    return fires, h, v


def adjoint(
    gs: Any, gh: Any, gv: Any, gwait: Any, h: Any, ds_dh: Any, through: Any, v: Any, wait: Any, x: Any,
    decay: Any, gain: Any, v_th: Any, v_reset: Any, v_rest: Any, v_min: Any, refractory: Any, back: Any,
    settle: Any, holds: bool, floor: bool,
) -> Any:  # fmt: skip
    """Cotangents of s, h, v, wait → cotangents of v, wait, x and the parameters."""
    if holds:
        if floor:
            gv, gv_min = above_floor_adjoint(gv, settle(h, wait, v_th, v_reset), v_min)
        gh, held, gv_th, gv_reset = back(gs, gh, gv, h, ds_dh, through, wait, v_th, v_reset)
        gv = decay * gh + held
        own = (v - v_rest) * gh
        if floor:
            return gv, 0 * gwait, gain * gh, own, x * gh, gv_th, gv_reset, (1 - decay) * gh, gv_min, 0 * gh
        return gv, 0 * gwait, gain * gh, own, x * gh, gv_th, gv_reset, (1 - decay) * gh, 0 * gh
    if floor:
        gv, gv_min = above_floor_adjoint(gv, settle(h, v_th, v_reset), v_min)
    gh, gv_th, gv_reset = back(gs, gh, gv, h, ds_dh, through, v_th, v_reset)
    if floor:
        return decay * gh, gain * gh, (v - v_rest) * gh, x * gh, gv_th, gv_reset, (1 - decay) * gh, gv_min
    return decay * gh, gain * gh, (v - v_rest) * gh, x * gh, gv_th, gv_reset, (1 - decay) * gh


def rewind(
    h: Any, wait: Any, decay: Any, gain: Any, v_th: Any, v_reset: Any, v_rest: Any, v_min: Any,
    refractory: Any, settle: Any, holds: bool, floor: bool,
) -> Any:  # fmt: skip
    """v after a step, from the h of that step (and the wait before it)."""
    if holds:
        v = settle(h, wait, v_th, v_reset)
    else:
        v = settle(h, v_th, v_reset)
    if floor:
        return above_floor(v, v_min)
    return v


def make(
    name: str, reset: str = "hard", refractory: bool = False, strict: bool = False,
    max_spikes: int | None = 1, floor: bool = False,
) -> Neuron:  # fmt: skip
    """The equations with these options, which `resets` explains. Raises as `resets.threshold` does."""
    holds, floor = bool(refractory), bool(floor)
    at = threshold(name, reset, holds, strict, max_spikes)
    without = (*(() if holds else REFRACTORY), *(() if floor else ("v_min",)))
    fixed = {"holds": holds, "floor": floor}
    return Neuron(
        name=name,
        params=(*PARAMS, *(["v_min"] if floor else []), *(["refractory"] if holds else [])),
        state=("v", "wait") if holds else ("v",),
        step=specialise(step, without, fire=at.fire, **fixed),
        adjoint=specialise(adjoint, without, back=at.adjoint, settle=at.settle, **fixed),
        defaults={"decay": 1.0, **DEFAULTS} if name == "if" else DEFAULTS,
        taped=("wait",) if holds else (),
        rewind=specialise(rewind, without, settle=at.settle, **fixed),
        rewound=("v",),
        counts=at.distance is not None,
        distance=at.distance,
        positive=("v_th",) if at.distance is not None else (),
    )


register("lif", functools.partial(make, "lif"))
register("if", functools.partial(make, "if"))
