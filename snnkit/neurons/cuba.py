"""Current-based leaky integrate-and-fire neuron ("cuba"), the one of Loihi in real numbers.

    i[t] = decay_syn · i[t-1] + x[t]            synaptic current
    h[t] = decay_mem · v[t-1] + i[t]            membrane potential before the reset
    s[t] = 1 if h[t] ≥ v_th else 0
    v[t] = what the reset leaves of h[t]; `resets` says so, and what the options change

The current of a step acts in that step. During refractory steps v rests and i goes on, as in Lava.
Davies et al., IEEE Micro 38(1), 2018 (Loihi).
"""

from typing import Any

from .equations import specialise
from .neuron import Neuron, register
from .resets import REFRACTORY, above_floor, above_floor_adjoint, threshold

PARAMS = ("decay_syn", "decay_mem", "v_th", "v_reset")


def step(
    i: Any, v: Any, wait: Any, x: Any, decay_syn: Any, decay_mem: Any, v_th: Any, v_reset: Any, v_min: Any,
    refractory: Any, fire: Any, holds: bool, floor: bool,
) -> Any:  # fmt: skip
    """One time step; `fire`, `holds` and `floor` are fixed by `make`."""
    i = decay_syn * i + x
    h = decay_mem * v + i
    if holds:
        fires, h, v, wait = fire(h, v, wait, v_th, v_reset, refractory)
    else:
        fires, h, v = fire(h, v_th, v_reset)
    if floor:
        v = above_floor(v, v_min)
    if holds:
        return fires, h, i, v, wait
    return fires, h, i, v


def adjoint(
    gs: Any, gh: Any, gi: Any, gv: Any, gwait: Any, h: Any, ds_dh: Any, through: Any, i: Any, v: Any,
    wait: Any, x: Any, decay_syn: Any, decay_mem: Any, v_th: Any, v_reset: Any, v_min: Any, refractory: Any,
    back: Any, settle: Any, holds: bool, floor: bool,
) -> Any:  # fmt: skip
    """Cotangents of s, h, i, v, wait → cotangents of i, v, wait, x and the parameters."""
    if holds:
        if floor:
            gv, gv_min = above_floor_adjoint(gv, settle(h, wait, v_th, v_reset), v_min)
        gh, held, gv_th, gv_reset = back(gs, gh, gv, h, ds_dh, through, wait, v_th, v_reset)
        gi = gi + gh
        gv = decay_mem * gh + held
        if floor:
            return decay_syn * gi, gv, 0 * gwait, gi, i * gi, v * gh, gv_th, gv_reset, gv_min, 0 * gh
        return decay_syn * gi, gv, 0 * gwait, gi, i * gi, v * gh, gv_th, gv_reset, 0 * gh
    if floor:
        gv, gv_min = above_floor_adjoint(gv, settle(h, v_th, v_reset), v_min)
    gh, gv_th, gv_reset = back(gs, gh, gv, h, ds_dh, through, v_th, v_reset)
    gi = gi + gh
    if floor:
        return decay_syn * gi, decay_mem * gh, gi, i * gi, v * gh, gv_th, gv_reset, gv_min
    return decay_syn * gi, decay_mem * gh, gi, i * gi, v * gh, gv_th, gv_reset


def rewind(
    h: Any, wait: Any, decay_syn: Any, decay_mem: Any, v_th: Any, v_reset: Any, v_min: Any, refractory: Any,
    settle: Any, holds: bool, floor: bool,
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
    reset: str = "hard", refractory: bool = False, strict: bool = False, max_spikes: int | None = 1,
    floor: bool = False,
) -> Neuron:  # fmt: skip
    """The equations with these options, which `resets` explains. Raises as `resets.threshold` does."""
    holds, floor = bool(refractory), bool(floor)
    at = threshold("cuba", reset, holds, strict, max_spikes)
    without = (*(() if holds else REFRACTORY), *(() if floor else ("v_min",)))
    fixed = {"holds": holds, "floor": floor}
    return Neuron(
        name="cuba",
        params=(*PARAMS, *(["v_min"] if floor else []), *(["refractory"] if holds else [])),
        state=("i", "v", "wait") if holds else ("i", "v"),
        step=specialise(step, without, fire=at.fire, **fixed),
        adjoint=specialise(adjoint, without, back=at.adjoint, settle=at.settle, **fixed),
        defaults={"v_th": 1.0, "v_reset": 0.0},
        taped=("wait",) if holds else (),
        rewind=specialise(rewind, without, settle=at.settle, **fixed),
        rewound=("v",),
        counts=at.distance is not None,
        distance=at.distance,
        positive=("v_th",) if at.distance is not None else (),
    )


register("cuba", make)
