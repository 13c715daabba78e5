"""Current-based leaky integrate-and-fire neuron ("cuba"), the one of Loihi in real numbers.

    i[t] = decay_syn · i[t-1] + x[t]            synaptic current
    h[t] = decay_mem · v[t-1] + i[t]            membrane potential before the reset
    s[t] = 1 if h[t] ≥ v_th else 0
    v[t] = what the reset leaves of h[t], see `resets`

The current of a step acts in that step. During refractory steps v rests and i goes on, as in Lava.
Davies et al., IEEE Micro 38(1), 2018 (Loihi).
"""

from typing import Any

from .equations import specialise
from .neuron import Neuron, register
from .resets import REFRACTORY, threshold

PARAMS = ("decay_syn", "decay_mem", "v_th", "v_reset")


def step(
    i: Any, v: Any, wait: Any, x: Any, decay_syn: Any, decay_mem: Any, v_th: Any, v_reset: Any,
    refractory: Any, fire: Any, holds: bool,
) -> Any:  # fmt: skip
    """One time step; `fire` and `holds` are fixed by `make`."""
    i = decay_syn * i + x
    h = decay_mem * v + i
    if holds:
        fires, h, v, wait = fire(h, v, wait, v_th, v_reset, refractory)
        return fires, h, i, v, wait
    fires, h, v = fire(h, v_th, v_reset)
    return fires, h, i, v


def adjoint(
    gs: Any, gh: Any, gi: Any, gv: Any, gwait: Any, h: Any, ds_dh: Any, through: Any, i: Any, v: Any,
    wait: Any, x: Any, decay_syn: Any, decay_mem: Any, v_th: Any, v_reset: Any, refractory: Any, back: Any,
    holds: bool,
) -> Any:  # fmt: skip
    """Cotangents of s, h, i, v, wait → cotangents of i, v, wait, x and the parameters."""
    if holds:
        gh, held, gv_th, gv_reset = back(gs, gh, gv, h, ds_dh, through, wait, v_th, v_reset)
        gi = gi + gh
        gv = decay_mem * gh + held
        return decay_syn * gi, gv, 0 * gwait, gi, i * gi, v * gh, gv_th, gv_reset, 0 * gh
    gh, gv_th, gv_reset = back(gs, gh, gv, h, ds_dh, through, v_th, v_reset)
    gi = gi + gh
    return decay_syn * gi, decay_mem * gh, gi, i * gi, v * gh, gv_th, gv_reset


def rewind(
    h: Any, wait: Any, decay_syn: Any, decay_mem: Any, v_th: Any, v_reset: Any, refractory: Any, settle: Any,
    holds: bool,
) -> Any:  # fmt: skip
    """v after a step, from the h of that step (and the wait before it)."""
    if holds:
        return settle(h, wait, v_th, v_reset)
    return settle(h, v_th, v_reset)


def make(reset: str = "hard", refractory: bool = False) -> Neuron:
    """The equations with these options."""
    holds = bool(refractory)
    at = threshold("cuba", reset, holds)
    without = () if holds else REFRACTORY
    return Neuron(
        name="cuba",
        params=(*PARAMS, "refractory") if holds else PARAMS,
        state=("i", "v", "wait") if holds else ("i", "v"),
        step=specialise(step, without, fire=at.fire, holds=holds),
        adjoint=specialise(adjoint, without, back=at.adjoint, holds=holds),
        defaults={"v_th": 1.0, "v_reset": 0.0},
        taped=("wait",) if holds else (),
        rewind=specialise(rewind, without, settle=at.settle, holds=holds),
        rewound=("v",),
    )


register("cuba", make)
